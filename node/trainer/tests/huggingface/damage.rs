//! Everything that can be wrong with a folder, and the word for it.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
};

use safetensors::Dtype;
use talkoot_trainer::{
    huggingface::{
        CONFIG_FILE, Conversion, FloatType, FolderError, HeaderError, INDEX_FILE, Summary, WEIGHTS_FILE,
        read_folder,
    },
    state::{State, StateError},
};

use crate::support::*;

const NAME: &str = "visual.class_embedding";

fn tensors() -> Tensors {
    raw(&State::initial(&small(), 1), FloatType::Bf16)
}

/// Reading, looking and converting all refuse a folder, for one reason; the reason with its causes.
fn refused(folder: &Path) -> String {
    let words = |error: FolderError| {
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    };
    let looked = words(Summary::read(folder).unwrap_err());
    assert_eq!(words(read_folder(folder).unwrap_err()), looked);
    assert_eq!(refused_conversion(folder, None), looked);
    looked
}

/// A conversion that is refused leaves nothing behind.
fn refused_conversion(folder: &Path, dtype: Option<FloatType>) -> String {
    let out = tempfile::tempdir().unwrap();
    let conversion = Conversion { dtype, ..Conversion::default() };
    let error = conversion.run(folder, out.path(), &mut |_, _| {}).unwrap_err();
    assert_eq!(names(out.path()), [""; 0]);
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
    let deeper =
        std::error::Error::source(&error).and_then(|cause| cause.source()).map(|cause| format!(": {cause}"));
    format!("{error}{}{}", cause.unwrap_or_default(), deeper.unwrap_or_default())
}

/// What is said of a folder whose tensors were changed, in one file and in three.
fn refused_after(change: impl Fn(&mut Tensors)) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut tensors = tensors();
    change(&mut tensors);
    let (one, three) = (folder.path().join("one"), folder.path().join("three"));
    write_single(&one, &small(), &tensors);
    write_shards(&three, &small(), &tensors, 3);
    let said = refused(&one);
    let tail = |text: &str| text.rsplit_once(": tensor ").map(|(_, tail)| tail.to_owned());
    assert_eq!(tail(&refused(&three)), tail(&said), "{said}");
    said
}

#[test]
fn a_missing_a_surplus_and_a_misshapen_tensor_are_named() {
    let missing = refused_after(|tensors| drop(tensors.remove(NAME)));
    assert!(missing.contains("tensor visual.class_embedding is missing"), "{missing}");
    let surplus = refused_after(|tensors| drop(tensors.insert("visual.more".into(), tensors[NAME].clone())));
    assert!(surplus.contains("tensor visual.more is not part of the model"), "{surplus}");
    let misshapen = refused_after(|tensors| tensors.get_mut(NAME).unwrap().shape = vec![2, 4]);
    assert!(
        misshapen
            .contains("tensor visual.class_embedding has shape [2, 4], but the model's config asks for [8]")
    );
    assert!(misshapen.contains("model.safetensors"), "{misshapen}");
}

#[test]
fn another_number_type_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut tensors = tensors();
    tensors.get_mut(NAME).unwrap().dtype = Dtype::I16;
    write_single(folder.path(), &small(), &tensors);
    let said = refused(folder.path());
    assert!(said.contains("tensor visual.class_embedding in") && said.contains("stored as I16"), "{said}");
}

#[test]
fn a_number_that_is_none_is_found_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    for (bytes, word) in [([0xc0, 0x7f], "NaN"), ([0x80, 0xff], "-inf")] {
        let mut tensors = tensors();
        tensors.get_mut(NAME).unwrap().bytes[6..8].copy_from_slice(&bytes);
        write_single(folder.path(), &small(), &tensors);
        let read = read_folder(folder.path());
        assert!(
            matches!(&read, Err(FolderError::Weights { source: StateError::NotFinite { name, index: 3, .. }, .. }) if name == NAME),
            "{read:?}"
        );
        for dtype in [None, Some(FloatType::F32)] {
            let said = refused_conversion(folder.path(), dtype);
            assert!(said.contains(&format!("{NAME} holds {word} at index 3")), "{said}");
        }
        // looking reads no numbers
        Summary::read(folder.path()).unwrap();
    }
}

#[test]
fn a_number_that_half_precision_cannot_hold_is_found_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let mut tensors = tensors();
    let large = half::bf16::from_f32(70_000.0).to_le_bytes();
    tensors.get_mut(NAME).unwrap().bytes[4..6].copy_from_slice(&large);
    write_single(folder.path(), &small(), &tensors);
    let said = refused_conversion(folder.path(), Some(FloatType::F16));
    assert_eq!(
        said,
        format!("tensor {NAME} holds 70144 at index 2, which f16 cannot hold: choose bf16 or f32")
    );
}

#[test]
fn a_parameter_under_both_spellings_came_twice() {
    let folder = tempfile::tempdir().unwrap();
    let mut tensors = tensors();
    tensors.insert(memory_name(NAME), tensors[NAME].clone());
    write_single(folder.path(), &small(), &tensors);
    assert!(refused(folder.path()).starts_with(&format!("tensor {NAME} comes twice")));
    write_shards(folder.path(), &small(), &tensors, 2);
    fs::remove_file(folder.path().join(WEIGHTS_FILE)).unwrap();
    assert!(refused(folder.path()).starts_with(&format!("tensor {NAME} comes twice")));
}

#[test]
fn index_and_files_have_to_agree() {
    let folder = tempfile::tempdir().unwrap();
    write_shards(folder.path(), &small(), &tensors(), 2);
    let path = folder.path().join(INDEX_FILE);
    let index: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let changed = |change: &dyn Fn(&mut serde_json::Map<String, serde_json::Value>)| {
        let mut index = index.clone();
        change(index["weight_map"].as_object_mut().unwrap());
        fs::write(&path, index.to_string()).unwrap();
        refused(folder.path())
    };
    let other = match index["weight_map"][NAME].as_str() {
        Some("part-0.safetensors") => "part-1.safetensors",
        _ => "part-0.safetensors",
    };
    let moved = changed(&|map| drop(map.insert(NAME.into(), other.into())));
    assert!(moved.starts_with(&format!("the index says that tensor {NAME} is in ")), "{moved}");
    assert!(moved.contains(other), "{moved}");
    let more = changed(&|map| drop(map.insert("visual.more".into(), "part-0.safetensors".into())));
    assert!(more.starts_with("the index says that tensor visual.more is in "), "{more}");
    let left_out = changed(&|map| drop(map.remove(NAME)));
    assert!(left_out.starts_with(&format!("tensor {NAME} is in ")), "{left_out}");
    let away = changed(&|map| drop(map.insert(NAME.into(), "../part-0.safetensors".into())));
    assert_eq!(away, r#""../part-0.safetensors" is no plain file name"#);
    let nowhere = changed(&|map| drop(map.insert(NAME.into(), "part-9.safetensors".into())));
    assert!(nowhere.contains("part-9.safetensors"), "{nowhere}");
}

#[test]
fn folders_without_weights_or_description_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let said = refused(folder.path());
    assert!(said.contains(CONFIG_FILE), "{said}");
    fs::write(folder.path().join(CONFIG_FILE), serde_json::to_string(&small()).unwrap()).unwrap();
    fs::write(folder.path().join("pytorch_model.bin"), b"pickle").unwrap();
    let said = refused(folder.path());
    assert!(
        said.contains("neither model.safetensors nor") && said.contains("saved as safetensors"),
        "{said}"
    );
    fs::write(folder.path().join(WEIGHTS_FILE), b"short").unwrap();
    let said = refused(folder.path());
    assert!(
        said.contains("is no safetensors file: its description has 8 bytes, but the file has 5"),
        "{said}"
    );
}

#[test]
fn a_file_that_was_cut_off_is_no_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    write_single(folder.path(), &small(), &tensors());
    let path = folder.path().join(WEIGHTS_FILE);
    let whole = fs::metadata(&path).unwrap().len();
    File::options().write(true).open(&path).unwrap().set_len(whole - 1).unwrap();
    let said = refused(folder.path());
    assert!(
        said.contains(&format!("its tensors end at byte {whole}, but the file has {}", whole - 1)),
        "{said}"
    );
}

/// Files that are long on paper: nothing is allocated for what they promise, or these tests would run for long.
#[test]
fn promises_are_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    write_single(folder.path(), &small(), &tensors());
    let path = folder.path().join(WEIGHTS_FILE);
    let sparse = |first: &[u8], bytes: u64| {
        let mut file = File::create(&path).unwrap();
        file.write_all(first).unwrap();
        file.set_len(bytes).unwrap();
    };
    sparse(&(1u64 << 38).to_le_bytes(), 1 << 39);
    let read = read_folder(folder.path());
    assert!(matches!(read, Err(FolderError::Header { source: HeaderError::TooLong { .. }, .. })), "{read:?}");
    // a tensor of half a terabyte that is really there, as a hole
    let json = br#"{"visual.class_embedding":{"dtype":"F32","shape":[137438953472],"data_offsets":[0,549755813888]}}   "#;
    let mut first = (json.len() as u64).to_le_bytes().to_vec();
    first.extend(json);
    sparse(&first, first.len() as u64 + (1 << 39));
    let said = refused(folder.path());
    assert!(said.contains("is missing") || said.contains("has shape [137438953472]"), "{said}");
    let mut json = serde_json::Map::new();
    for (name, raw) in tensors() {
        json.insert(name, serde_json::json!({"dtype": "BF16", "shape": raw.shape, "data_offsets": [0, 0]}));
    }
    // every tensor right, but for one of half a terabyte in the place of the embedding
    let mut end = 0u64;
    for (name, entry) in &mut json {
        let shape = if name == "model.embed_tokens.weight" { vec![1u64 << 38] } else { shape_of(entry) };
        let bytes = 2 * shape.iter().product::<u64>();
        *entry = serde_json::json!({"dtype": "BF16", "shape": shape, "data_offsets": [end, end + bytes]});
        end += bytes;
    }
    let json = serde_json::to_vec(&json).unwrap();
    let mut first = (json.len() as u64).to_le_bytes().to_vec();
    first.extend(&json);
    sparse(&first, first.len() as u64 + end);
    let said = refused(folder.path());
    assert!(said.contains("tensor model.embed_tokens.weight has shape [274877906944]"), "{said}");
    // and a description in a file without an end
    File::create(folder.path().join(CONFIG_FILE)).unwrap().set_len(1 << 39).unwrap();
    assert!(refused(folder.path()).contains("config.json has 549755813888 bytes, more than the"));
}

fn shape_of(entry: &serde_json::Value) -> Vec<u64> {
    entry["shape"].as_array().unwrap().iter().map(|axis| axis.as_u64().unwrap()).collect()
}
