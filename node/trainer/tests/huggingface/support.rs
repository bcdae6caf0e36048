//! A small model, and folders as other tools write them.

use std::{collections::BTreeMap, fs, path::Path};

use half::{bf16, f16};
use safetensors::{Dtype, tensor::TensorView};
use talkoot_trainer::{
    config::ModelConfig,
    huggingface::{CONFIG_FILE, FloatType, INDEX_FILE, WEIGHTS_FILE},
    presets::demo_model,
    state::{State, Tensor32},
};

/// A model of a few thousand parameters.
pub(crate) fn small() -> ModelConfig {
    let mut config = demo_model(32);
    (config.vision.depth, config.vision.hidden_size, config.vision.num_heads) = (1, 8, 2);
    (config.vision.intermediate_size, config.vision.text_hidden_size) = (12, 12);
    config.vision.embed_dim = None;
    config.text.num_hidden_layers = 1;
    (config.text.hidden_size, config.text.head_dim, config.text.intermediate_size) = (12, 4, 16);
    config
}

/// A tensor as another tool stores it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Raw {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Vec<u8>,
}

impl Raw {
    /// `tensor` rounded to `kind` by the half crate.
    pub(crate) fn of(tensor: &Tensor32, kind: FloatType) -> Self {
        let bytes = tensor.values.iter().flat_map(|&value| match kind {
            FloatType::F32 => value.to_le_bytes().to_vec(),
            FloatType::Bf16 => bf16::from_f32(value).to_le_bytes().to_vec(),
            FloatType::F16 => f16::from_f32(value).to_le_bytes().to_vec(),
        });
        Self { dtype: kind.dtype(), shape: tensor.shape.clone(), bytes: bytes.collect() }
    }
}

pub(crate) type Tensors = BTreeMap<String, Raw>;

/// Every tensor of a state in one number type.
pub(crate) fn raw(state: &State, kind: FloatType) -> Tensors {
    state.tensors.iter().map(|(name, tensor)| (name.clone(), Raw::of(tensor, kind))).collect()
}

/// The name that the published class has for a parameter in memory.
pub(crate) fn memory_name(name: &str) -> String {
    match name.strip_prefix("model.") {
        Some(rest) => format!("model.language_model.{rest}"),
        None if name.starts_with("visual.") => format!("model.{name}"),
        None => name.to_owned(),
    }
}

/// Writes a weights file.
pub(crate) fn write_file(path: &Path, tensors: &Tensors) {
    let views = tensors
        .iter()
        .map(|(name, raw)| (name, TensorView::new(raw.dtype, raw.shape.clone(), &raw.bytes).unwrap()));
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// Writes a folder with one weights file.
pub(crate) fn write_single(folder: &Path, config: &ModelConfig, tensors: &Tensors) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join(CONFIG_FILE), serde_json::to_string(config).unwrap()).unwrap();
    write_file(&folder.join(WEIGHTS_FILE), tensors);
}

/// Writes a folder with the tensors dealt out to `count` files.
pub(crate) fn write_shards(folder: &Path, config: &ModelConfig, tensors: &Tensors, count: usize) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join(CONFIG_FILE), serde_json::to_string(config).unwrap()).unwrap();
    let mut map = BTreeMap::new();
    for at in 0..count {
        let file = format!("part-{at}.safetensors");
        let part: Tensors = tensors.clone().into_iter().skip(at).step_by(count).collect();
        map.extend(part.keys().map(|name| (name.clone(), file.clone())));
        write_file(&folder.join(file), &part);
    }
    fs::write(folder.join(INDEX_FILE), serde_json::json!({"weight_map": map}).to_string()).unwrap();
}

/// All tensors of a folder, read with the safetensors crate, whatever the files are called.
pub(crate) fn read_raw(folder: &Path) -> Tensors {
    let mut tensors = Tensors::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "safetensors") {
            let bytes = fs::read(path).unwrap();
            for (name, view) in safetensors::SafeTensors::deserialize(&bytes).unwrap().iter() {
                let (dtype, shape, bytes) = (view.dtype(), view.shape().to_vec(), view.data().to_vec());
                assert!(
                    tensors.insert(name.to_owned(), Raw { dtype, shape, bytes }).is_none(),
                    "{name} twice"
                );
            }
        }
    }
    tensors
}

/// Names in a folder.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
