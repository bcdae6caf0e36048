//! Checkpoints in the layout of the Hugging Face hub: `config.json`, safetensors shards, tokenizer files.
//!
//! Reading is generous, because checkpoints come from many tools: one file or shards with an index, f32, bf16 or f16,
//! names as on disk or as in memory, a head that is left out because it is tied. Writing is strict: the canonical
//! `model.safetensors` whose BLAKE3 is the state's hash.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use crate::{
    config::{ConfigError, ModelConfig},
    state::{State, StateError, Tensor32},
};

/// Name of the model description in a folder.
pub const CONFIG_FILE: &str = "config.json";
/// Name of the weights in a folder.
pub const WEIGHTS_FILE: &str = "model.safetensors";
/// Name of the list of shards in a folder whose weights are split.
pub const INDEX_FILE: &str = "model.safetensors.index.json";

/// A folder that cannot be read as a checkpoint, or not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// The file system refused.
    #[error("no access to {}", path.display())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A JSON file that does not parse.
    #[error("{} is not what it should be", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
    /// The model description is not one of ours.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A weights file is damaged or of another model.
    #[error("{} does not hold the model's weights", path.display())]
    Weights {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: StateError,
    },
    /// The same parameter came twice, perhaps under two spellings.
    #[error("tensor {name} comes twice, the second time in {}", path.display())]
    Twice {
        /// Name on disk.
        name: String,
        /// The later file.
        path: PathBuf,
    },
    /// The head differs from the embedding that it is declared tied to.
    #[error(
        "the head is declared tied but differs from the embedding: set text_config.tie_word_embeddings to false"
    )]
    TiedButDifferent,
    /// A file name that would leave the folder.
    #[error("{name:?} is no plain file name")]
    Name {
        /// The name as it came, cut to 200 characters.
        name: String,
    },
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> FolderError + '_ {
    move |source| FolderError::Io { path: path.to_owned(), source }
}

/// Reads `config.json` and the weights beside it.
///
/// # Errors
///
/// [`FolderError`] names the file, the field or the tensor that is wrong.
pub fn read_folder(folder: &Path) -> Result<(ModelConfig, State), FolderError> {
    let path = folder.join(CONFIG_FILE);
    let text = fs::read(&path).map_err(io_error(&path))?;
    let config: ModelConfig =
        serde_json::from_slice(&text).map_err(|source| FolderError::Json { path, source })?;
    config.validate()?;
    let mut state = State::default();
    for file in weight_files(folder)? {
        let path = folder.join(&file);
        let bytes = fs::read(&path).map_err(io_error(&path))?;
        add_tensors(&bytes, &path, &mut state)?;
    }
    settle_head(&config, &mut state)?;
    state.check(&config).map_err(|source| FolderError::Weights { path: folder.to_owned(), source })?;
    Ok((config, state))
}

/// Writes `config.json`, the canonical `model.safetensors`, and `extra` files (tokenizer, chat template) as they are.
///
/// The folder is made where it is missing; files that stand in it under the same names are replaced.
///
/// # Errors
///
/// [`FolderError`] when the file system refuses, or a name in `extra` is not a plain file name.
pub fn write_folder(
    folder: &Path,
    config: &ModelConfig,
    state: &State,
    extra: &[(&str, &[u8])],
) -> Result<(), FolderError> {
    if let Some((name, _)) = extra.iter().find(|(name, _)| !is_plain(name)) {
        return Err(FolderError::Name { name: name.chars().take(200).collect() });
    }
    fs::create_dir_all(folder).map_err(io_error(folder))?;
    let mut text = serde_json::to_string_pretty(config)
        .map_err(|source| FolderError::Json { path: folder.join(CONFIG_FILE), source })?;
    text.push('\n');
    let weights = state.to_safetensors();
    let own = [(CONFIG_FILE, text.as_bytes()), (WEIGHTS_FILE, weights.as_slice())];
    for (name, bytes) in own.iter().chain(extra) {
        let path = folder.join(name);
        fs::write(&path, bytes).map_err(io_error(&path))?;
    }
    Ok(())
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', ':', '\0'])
}

/// The single file where it stands, or the shards that the index names, sorted, each once.
fn weight_files(folder: &Path) -> Result<Vec<String>, FolderError> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let path = folder.join(INDEX_FILE);
    if folder.join(WEIGHTS_FILE).exists() || !path.exists() {
        return Ok(vec![WEIGHTS_FILE.to_owned()]);
    }
    let text = fs::read(&path).map_err(io_error(&path))?;
    let index: Index = serde_json::from_slice(&text).map_err(|source| FolderError::Json { path, source })?;
    let mut files: Vec<_> = index.weight_map.into_values().collect();
    files.sort_unstable();
    files.dedup();
    match files.iter().find(|name| !is_plain(name)) {
        Some(name) => Err(FolderError::Name { name: name.chars().take(200).collect() }),
        None => Ok(files),
    }
}

/// The name on disk of a parameter that may be spelt as in memory.
fn disk_name(name: &str) -> String {
    if let Some(rest) = name.strip_prefix("model.visual.") {
        return format!("visual.{rest}");
    }
    match name.strip_prefix("model.language_model.") {
        Some(rest) => format!("model.{rest}"),
        None => name.to_owned(),
    }
}

fn add_tensors(bytes: &[u8], path: &Path, state: &mut State) -> Result<(), FolderError> {
    let wrong = |source| FolderError::Weights { path: path.to_owned(), source };
    let file = SafeTensors::deserialize(bytes).map_err(|source| wrong(source.into()))?;
    for (name, view) in file.iter() {
        let name = disk_name(name);
        let values = as_f32(&view).ok_or_else(|| {
            wrong(StateError::Dtype { name: name.clone(), got: format!("{:?}", view.dtype()) })
        })?;
        let tensor = Tensor32 { shape: view.shape().to_vec(), values };
        if state.tensors.insert(name.clone(), tensor).is_some() {
            return Err(FolderError::Twice { name, path: path.to_owned() });
        }
    }
    Ok(())
}

fn as_f32(view: &TensorView<'_>) -> Option<Vec<f32>> {
    let data = view.data();
    Some(match view.dtype() {
        Dtype::F32 => data.as_chunks().0.iter().map(|&word| f32::from_le_bytes(word)).collect(),
        Dtype::BF16 => data.as_chunks().0.iter().map(|&word| bf16::from_le_bytes(word).to_f32()).collect(),
        Dtype::F16 => data.as_chunks().0.iter().map(|&word| f16::from_le_bytes(word).to_f32()).collect(),
        _ => return None,
    })
}

/// A tied head is not stored twice; an untied one that is missing starts as a copy of the embedding.
fn settle_head(config: &ModelConfig, state: &mut State) -> Result<(), FolderError> {
    const HEAD: &str = "lm_head.weight";
    const EMBEDDING: &str = "model.embed_tokens.weight";
    let embedding = state.tensors.get(EMBEDDING).cloned();
    if config.text.tie_word_embeddings {
        let head = state.tensors.remove(HEAD);
        if head.is_some() && head != embedding {
            return Err(FolderError::TiedButDifferent);
        }
    } else if !state.tensors.contains_key(HEAD)
        && let Some(copy) = embedding
    {
        state.tensors.insert(HEAD.to_owned(), copy);
    }
    Ok(())
}
