//! States, configs and folders: what comes back, and what is refused and why.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "in a test a panic is the report")]

use std::fs;

use half::bf16;
use proptest::prelude::*;
use safetensors::{Dtype, tensor::TensorView};
use talkoot_protocol::digest::Digest;
use talkoot_trainer::{
    config::{ConfigError, ModelConfig},
    huggingface::{CONFIG_FILE, FolderError, INDEX_FILE, WEIGHTS_FILE, read_folder, write_folder},
    presets::demo_model,
    state::{State, StateError},
};

fn small() -> ModelConfig {
    let mut config = demo_model(32);
    (config.vision.depth, config.vision.hidden_size, config.vision.num_heads) = (1, 8, 2);
    (config.vision.intermediate_size, config.vision.text_hidden_size) = (12, 8);
    config.vision.embed_dim = None;
    config.text.num_hidden_layers = 1;
    (config.text.hidden_size, config.text.head_dim, config.text.intermediate_size) = (8, 4, 12);
    config
}

#[test]
fn a_state_and_its_hash_survive_the_file() {
    let (config, state) = (small(), State::initial(&small(), 3));
    state.check(&config).unwrap();
    let bytes = state.to_safetensors();
    assert_eq!(State::from_safetensors(&bytes, &config).unwrap(), state);
    assert_eq!(state.digest(), Digest::of(&bytes));
    assert_eq!(state.parameter_count(), config.parameter_count());
    assert_ne!(state.digest(), State::initial(&config, 4).digest());
}

/// Fixed when it was first computed: fresh weights must never change, on any machine.
#[test]
fn fresh_weights_have_the_bits_they_always_had() {
    let digest = State::initial(&small(), 3).digest().to_string();
    assert_eq!(digest, "160afe0792f8bd7890144976f0fb300f57b77e91f0671456ea8e4b949217b0fb");
}

#[test]
fn our_file_is_what_the_safetensors_crate_writes() {
    let state = State::initial(&small(), 3);
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = state
        .tensors
        .iter()
        .map(|(name, tensor)| {
            let bytes = tensor.values.iter().flat_map(|value| value.to_le_bytes()).collect();
            (name.clone(), tensor.shape.clone(), bytes)
        })
        .collect();
    let views =
        bytes.iter().map(|(name, shape, b)| (name, TensorView::new(Dtype::F32, shape.clone(), b).unwrap()));
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    assert_eq!(safetensors::serialize(views, Some(metadata)).unwrap(), state.to_safetensors());
}

#[test]
fn a_wrong_state_is_refused_with_the_tensors_name() {
    let (config, state) = (small(), State::initial(&small(), 3));
    let refused = |change: &dyn Fn(&mut State)| {
        let mut state = state.clone();
        change(&mut state);
        let checked = state.check(&config).unwrap_err();
        let read = State::from_safetensors(&state.to_safetensors(), &config);
        (checked, read.err())
    };
    const NAME: &str = "visual.class_embedding";
    let (checked, read) = refused(&|state| drop(state.tensors.remove(NAME)));
    assert!(matches!(checked, StateError::Missing { name } if name == NAME));
    assert!(matches!(read, Some(StateError::Missing { name }) if name == NAME));
    let (checked, read) = refused(&|state| {
        let tensor = state.tensors[NAME].clone();
        state.tensors.insert("visual.extra".to_owned(), tensor);
    });
    assert!(matches!(checked, StateError::Surplus { name } if name == "visual.extra"));
    assert!(matches!(read, Some(StateError::Surplus { name }) if name == "visual.extra"));
    let (checked, read) = refused(&|state| state.tensors.get_mut(NAME).unwrap().shape = vec![2, 4]);
    assert!(matches!(checked, StateError::Shape { name, got, .. } if name == NAME && got == [2, 4]));
    assert!(matches!(read, Some(StateError::Shape { name, .. }) if name == NAME));
    let (checked, read) = refused(&|state| state.tensors.get_mut(NAME).unwrap().values[3] = f32::NAN);
    assert!(matches!(checked, StateError::NotFinite { name, index: 3, .. } if name == NAME));
    assert!(matches!(read, Some(StateError::NotFinite { index: 3, .. })));
    let (checked, _) = refused(&|state| state.tensors.get_mut(NAME).unwrap().values.truncate(1));
    assert!(matches!(checked, StateError::Length { name, expected: 8, got: 1 } if name == NAME));
}

#[test]
fn a_file_with_another_header_is_not_canonical() {
    let bytes = State::initial(&small(), 3).to_safetensors();
    let text = String::from_utf8_lossy(&bytes);
    let at = text.find(r#""format":"pt""#).unwrap();
    let mut changed = bytes.clone();
    changed[at + 10..at + 12].copy_from_slice(b"tp");
    let refused = State::from_safetensors(&changed, &small());
    assert!(matches!(refused, Err(StateError::NotCanonical)), "{refused:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn damaged_files_never_panic(at in 0usize..8000, byte: u8, cut: bool) {
        let mut bytes = State::initial(&small(), 3).to_safetensors();
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        let read = State::from_safetensors(&bytes, &small());
        // what is still a state has the hash of the very bytes it was read from
        if let Ok(state) = read {
            prop_assert_eq!(state.digest(), Digest::of(&bytes));
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(State::from_safetensors(&bytes, &small()).is_err());
    }
}

#[test]
fn a_folder_comes_back_and_its_hash_is_that_of_the_weights_file() {
    let folder = tempfile::tempdir().unwrap();
    let (config, state) = (small(), State::initial(&small(), 3));
    write_folder(folder.path(), &config, &state, &[("tokenizer.json", b"{}")]).unwrap();
    assert_eq!(read_folder(folder.path()).unwrap(), (config.clone(), state.clone()));
    assert_eq!(Digest::of(&fs::read(folder.path().join(WEIGHTS_FILE)).unwrap()), state.digest());
    assert_eq!(fs::read(folder.path().join("tokenizer.json")).unwrap(), b"{}");
    let refused = write_folder(folder.path(), &config, &state, &[("../x", b"")]);
    assert!(matches!(refused, Err(FolderError::Name { name }) if name == "../x"));
}

#[test]
fn shards_in_bf16_with_names_as_in_memory_are_read_too() {
    let folder = tempfile::tempdir().unwrap();
    let (config, state) = (small(), State::initial(&small(), 3));
    let json = serde_json::to_string(&config).unwrap();
    fs::write(folder.path().join(CONFIG_FILE), json).unwrap();
    let mut map = serde_json::Map::new();
    for (i, (name, tensor)) in state.tensors.iter().filter(|(name, _)| *name != "lm_head.weight").enumerate()
    {
        let file = format!("model-{i}.safetensors");
        let memory = if name.starts_with("visual.") {
            format!("model.{name}")
        } else {
            name.replace("model.", "model.language_model.")
        };
        let bytes: Vec<u8> = tensor.values.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect();
        let view = TensorView::new(Dtype::BF16, tensor.shape.clone(), &bytes).unwrap();
        fs::write(folder.path().join(&file), safetensors::serialize([(&memory, view)], None).unwrap())
            .unwrap();
        map.insert(memory, file.into());
    }
    fs::write(folder.path().join(INDEX_FILE), serde_json::json!({"weight_map": map}).to_string()).unwrap();
    let (_, read) = read_folder(folder.path()).unwrap();
    // the head that was left out starts as a copy of the embedding
    assert_eq!(read.tensors["lm_head.weight"], read.tensors["model.embed_tokens.weight"]);
    let rounded = state.tensors["visual.class_embedding"].values.iter().map(|&x| bf16::from_f32(x).to_f32());
    assert_eq!(read.tensors["visual.class_embedding"].values, rounded.collect::<Vec<_>>());
}

#[test]
fn a_tied_head_is_not_stored_and_a_different_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (mut config, state) = (small(), State::initial(&small(), 3));
    config.text.tie_word_embeddings = true;
    write_folder(folder.path(), &config, &state, &[]).unwrap();
    assert!(matches!(read_folder(folder.path()), Err(FolderError::TiedButDifferent)));
    let tied = State::initial(&config, 3);
    assert!(!tied.tensors.contains_key("lm_head.weight"));
    write_folder(folder.path(), &config, &tied, &[]).unwrap();
    assert_eq!(read_folder(folder.path()).unwrap().1, tied);
}

#[test]
fn impossible_numbers_are_refused_with_the_fields_name() {
    small().validate().unwrap();
    demo_model(512).validate().unwrap();
    let refused = |change: &dyn Fn(&mut ModelConfig)| {
        let mut config = small();
        change(&mut config);
        config.validate().unwrap_err().to_string()
    };
    let depth = refused(&|config| config.vision.depth = 0);
    assert_eq!(depth, "vision_config.depth is 0, but must be between 1 and 1024");
    assert!(
        refused(&|config| config.text.num_key_value_heads = 3).starts_with("text_config.num_attention_heads")
    );
    assert!(refused(&|config| config.vision.hidden_size = 12).contains("vision_config.hidden_size"));
    assert!(refused(&|config| config.text.hidden_size = 16).contains("vision_config.text_hidden_size"));
    assert!(refused(&|config| config.image_token_id = 32).starts_with("image_token_id is 32"));
    assert!(
        refused(&|config| config.text.rope_theta = f64::NAN).starts_with("text_config.rope_theta is NaN")
    );
    assert!(
        refused(&|config| config.text.attention_bias = true)
            .starts_with("text_config.attention_bias is true")
    );
    assert!(refused(&|config| config.vision.hidden_act = "quick_gelu".into()).contains("only gelu"));
    let large = refused(&|config| {
        config.text.num_hidden_layers = 1024;
        (config.text.hidden_size, config.vision.text_hidden_size) = (65_536, 65_536);
        config.text.intermediate_size = 262_144;
    });
    assert!(large.contains("parameters, more than the limit"), "{large}");
}

#[test]
fn keys_that_we_do_not_know_are_tolerated_and_missing_ones_named() {
    let mut json = serde_json::to_value(small()).unwrap();
    json["transformers_version"] = "4.53.1".into();
    json["text_config"]["max_window_layers"] = 36.into();
    assert_eq!(serde_json::from_value::<ModelConfig>(json.clone()).unwrap(), small());
    json["text_config"].as_object_mut().unwrap().remove("rope_theta");
    let missing = serde_json::from_value::<ModelConfig>(json).unwrap_err().to_string();
    assert!(missing.contains("rope_theta"), "{missing}");
    assert!(matches!(
        ModelConfig { image_token_id: 99, ..small() }.validate(),
        Err(ConfigError::OutOfRange { field: "image_token_id", .. })
    ));
}
