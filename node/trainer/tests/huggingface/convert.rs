//! Conversion: the same numbers in other files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use proptest::prelude::*;
use safetensors::Dtype;
use talkoot_trainer::{
    huggingface::{
        CONFIG_FILE, Conversion, FloatType, FolderError, INDEX_FILE, ShardSize, Summary, WEIGHTS_FILE,
        Written, read_folder, write_folder,
    },
    state::State,
};

use crate::support::*;

const ALL: [FloatType; 3] = [FloatType::F32, FloatType::Bf16, FloatType::F16];

fn convert(from: &Path, to: &Path, dtype: Option<FloatType>, bytes: u64) -> Result<Written, FolderError> {
    Conversion { dtype, shard_size: ShardSize(bytes) }.run(from, to, &mut |_, _| {})
}

fn state(seed: u64) -> State {
    State::initial(&small(), seed)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever the type, the cut and the spelling: cut again and joined again, every byte is the same.
    #[test]
    fn a_round_trip_keeps_every_bit(
        seed: u64, kind in 0usize..3, parts in 1usize..5, size in 1u64..6_000, memory: bool
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let original = raw(&state(seed), ALL[kind]);
        let spelt = |name: &String| if memory { memory_name(name) } else { name.clone() };
        let there: Tensors = original.iter().map(|(name, raw)| (spelt(name), raw.clone())).collect();
        write_shards(&path("a"), &small(), &there, parts);
        convert(&path("a"), &path("b"), None, size).unwrap();
        prop_assert_eq!(&read_raw(&path("b")), &original);
        convert(&path("b"), &path("c"), None, u64::MAX).unwrap();
        prop_assert_eq!(&read_raw(&path("c")), &original);
        prop_assert_eq!(names(&path("c")), [CONFIG_FILE, WEIGHTS_FILE]);
        prop_assert_eq!(read_folder(&path("a")).unwrap(), read_folder(&path("c")).unwrap());
    }
}

#[test]
fn f32_in_one_file_is_the_canonical_file_whatever_it_was_cut_into() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    write_shards(&path("a"), &small(), &raw(&state(1), FloatType::F32), 4);
    convert(&path("a"), &path("b"), Some(FloatType::F32), 1_000).unwrap();
    convert(&path("b"), &path("c"), Some(FloatType::F32), u64::MAX).unwrap();
    assert!(fs::read(path("c").join(WEIGHTS_FILE)).unwrap() == state(1).to_safetensors());
}

#[test]
fn another_type_is_the_nearest_number_and_says_so_in_the_config() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    write_folder(&path("a"), &small(), &state(2), &[]).unwrap();
    for (kind, name) in [(FloatType::Bf16, "bfloat16"), (FloatType::F16, "float16")] {
        let out = path(name);
        convert(&path("a"), &out, Some(kind), u64::MAX).unwrap();
        assert_eq!(read_raw(&out), raw(&state(2), kind));
        let (config, _) = read_folder(&out).unwrap();
        assert_eq!(config.torch_dtype, name);
        // and what was rounded once is not rounded again
        convert(&out, &path("wide").join(name), Some(FloatType::F32), u64::MAX).unwrap();
        convert(&path("wide").join(name), &path("back").join(name), Some(kind), 2_000).unwrap();
        assert_eq!(read_raw(&path("back").join(name)), raw(&state(2), kind));
    }
}

#[test]
fn shards_are_as_large_as_asked_and_the_index_leads_to_every_tensor() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    write_folder(&path("a"), &small(), &state(3), &[]).unwrap();
    let mut told = Vec::new();
    let shard_size = ShardSize(20_000);
    let written = Conversion { dtype: None, shard_size }
        .run(&path("a"), &path("b"), &mut |name, bytes| told.push((name.to_owned(), bytes)))
        .unwrap();
    assert_eq!(told, written.files);
    assert!(
        written.files.len() > 1 && written.files.iter().all(|(_, bytes)| *bytes <= 20_000),
        "{written:?}"
    );
    assert_eq!(
        (written.tensors, written.parameters as usize),
        (state(3).tensors.len(), state(3).parameter_count())
    );
    let json: serde_json::Value =
        serde_json::from_slice(&fs::read(path("b").join(INDEX_FILE)).unwrap()).unwrap();
    assert_eq!(json["metadata"]["total_size"], 4 * state(3).parameter_count());
    assert_eq!(json["weight_map"].as_object().unwrap().len(), written.tensors);
    for (at, (name, _)) in written.files.iter().enumerate() {
        assert_eq!(*name, format!("model-{:05}-of-{:05}.safetensors", at + 1, written.files.len()));
        let bytes = fs::read(path("b").join(name)).unwrap();
        let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!(metadata.metadata().as_ref().unwrap()["format"], "pt");
        for tensor in metadata.tensors().keys() {
            assert_eq!(json["weight_map"][tensor], **name);
        }
    }
}

#[test]
fn types_may_be_mixed_and_each_tensor_keeps_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut mixed = raw(&state(4), FloatType::F16);
    for (name, raw) in raw(&state(4), FloatType::F32) {
        if name.contains("norm") {
            mixed.insert(name, raw);
        }
    }
    write_single(&path("a"), &small(), &mixed);
    convert(&path("a"), &path("b"), None, 4_000).unwrap();
    assert_eq!(read_raw(&path("b")), mixed);
    let summary = Summary::read(&path("b")).unwrap();
    let tower = &summary.groups[0];
    assert_eq!((tower.name, tower.dtypes.len()), ("vision tower", 2));
    let bytes: usize = mixed.values().map(|raw| raw.bytes.len()).sum();
    assert_eq!((summary.total.bytes, summary.total.tensors), (bytes as u64, mixed.len()));
    assert_eq!(summary.total.parameters as usize, small().parameter_count());
    let page = summary.to_text(true);
    assert!(mixed.keys().all(|name| page.contains(name)), "{page}");
    assert!(page.contains("head not tied"), "{page}");
}

#[test]
fn a_head_that_is_left_out_is_written_and_a_tied_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut tensors = raw(&state(5), FloatType::Bf16);
    let embedding = tensors["model.embed_tokens.weight"].clone();
    tensors.insert("lm_head.weight".to_owned(), embedding.clone());
    let whole = tensors.clone();
    tensors.remove("lm_head.weight");
    write_single(&path("untied"), &small(), &tensors);
    assert!(Summary::read(&path("untied")).unwrap().head_left_out);
    convert(&path("untied"), &path("a"), None, u64::MAX).unwrap();
    assert_eq!(read_raw(&path("a")), whole);
    let mut config = small();
    config.text.tie_word_embeddings = true;
    write_single(&path("tied"), &config, &whole);
    convert(&path("tied"), &path("b"), None, u64::MAX).unwrap();
    assert_eq!(read_raw(&path("b")), tensors);
    // the same numbers in another type are the same head
    let wide = Raw { dtype: Dtype::F32, ..embedding };
    let values = wide.bytes.as_chunks::<2>().0.iter().flat_map(|&[low, high]| [0, 0, low, high]).collect();
    let mut both = whole;
    both.insert("lm_head.weight".to_owned(), Raw { bytes: values, ..wide });
    write_single(&path("tied wide"), &config, &both);
    convert(&path("tied wide"), &path("c"), None, u64::MAX).unwrap();
    assert_eq!(read_raw(&path("c")), tensors);
}

#[test]
fn what_stands_beside_the_weights_goes_along_and_unknown_keys_stay() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let extra: [(&str, &[u8]); 3] =
        [("tokenizer.json", b"{}"), ("modeling_x.py", b"pass"), ("pytorch_model.bin", b"pickle")];
    write_folder(&path("a"), &small(), &state(6), &extra).unwrap();
    let mut json: serde_json::Value =
        serde_json::from_slice(&fs::read(path("a").join(CONFIG_FILE)).unwrap()).unwrap();
    json["auto_map"] = "theirs".into();
    fs::write(path("a").join(CONFIG_FILE), json.to_string()).unwrap();
    convert(&path("a"), &path("b"), None, u64::MAX).unwrap();
    assert_eq!(names(&path("b")), [CONFIG_FILE, WEIGHTS_FILE, "modeling_x.py", "tokenizer.json"]);
    assert_eq!(fs::read(path("b").join(CONFIG_FILE)).unwrap(), json.to_string().as_bytes());
    convert(&path("a"), &path("c"), Some(FloatType::F16), u64::MAX).unwrap();
    let changed: serde_json::Value =
        serde_json::from_slice(&fs::read(path("c").join(CONFIG_FILE)).unwrap()).unwrap();
    json["torch_dtype"] = "float16".into();
    assert_eq!(changed, json);
}

#[test]
fn a_folder_is_never_written_over() {
    let folder = tempfile::tempdir().unwrap();
    write_folder(folder.path(), &small(), &state(7), &[]).unwrap();
    let refused = convert(folder.path(), folder.path(), Some(FloatType::Bf16), u64::MAX);
    assert!(matches!(refused, Err(FolderError::Occupied { .. })), "{refused:?}");
    assert_eq!(read_folder(folder.path()).unwrap().1, state(7));
}

#[test]
fn the_released_codes_checkpoint_is_read_where_it_stands() {
    let oracle = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/oracle/checkpoint");
    if !oracle.is_dir() {
        println!(
            "SKIPPED: there is no ../shared/oracle beside the repository, no published file was converted"
        );
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    convert(&oracle, &path("a"), None, 100_000).unwrap();
    convert(&path("a"), &path("b"), None, u64::MAX).unwrap();
    assert_eq!(read_raw(&path("b")), read_raw(&oracle));
    assert_eq!(fs::read(path("b").join(CONFIG_FILE)).unwrap(), fs::read(oracle.join(CONFIG_FILE)).unwrap());
    let (summary, (config, state)) = (Summary::read(&oracle).unwrap(), read_folder(&oracle).unwrap());
    assert_eq!(summary.total.parameters as usize, config.parameter_count());
    assert_eq!(summary.tensors.len(), state.tensors.len());
}
