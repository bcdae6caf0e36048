//! Checkpoints in the layout of the Hugging Face hub: `config.json`, safetensors shards, tokenizer files.
//!
//! ```text
//! folder --names, lengths--> Checkpoint --shapes of the config--> parameters --+--> State    (read_folder)
//!                                                                              +--> Summary  (inspect)
//!                                      pieces of a MiB, one after another <----+--> folder   (Conversion, Merge)
//! State --> canonical model.safetensors (write_folder)
//! ```
//!
//! Reading is generous, because checkpoints come from many tools: one file or shards with an index, f32, bf16 or f16,
//! names as on disk or as in memory, a head that is left out because it is tied. Writing is strict: names on disk, the
//! head wherever it is not tied, files that appear whole or not at all, `config.json` last. [`write_folder`] writes the
//! canonical `model.safetensors` whose BLAKE3 is the state's hash.
//!
//! # Memory
//!
//! A model may be larger than the machine's memory. Descriptions are bounded and read first; then tensors are read at
//! their positions, in pieces of [`PIECE_BYTES`]. Only [`read_folder`] holds a whole model, because its purpose is to.
//! Files are not memory-mapped: a mapping is as frugal, but it needs `unsafe`, and when a file is cut off or a network
//! file system fails meanwhile, the process dies of a signal. A positioned read gives an error that names the file.
//! A file that is overwritten while it is read gives a mixture, as it would with a mapping.

use std::{collections::BTreeMap, fs, path::Path};

use crate::{
    config::ModelConfig,
    state::{State, Tensor32},
};

mod carry;
mod checkpoint;
mod config;
mod convert;
mod dtype;
mod error;
mod files;
mod header;
mod index;
mod merge;
mod names;
mod parameters;
mod shards;
mod summary;
mod unique;
mod write;

pub use self::{
    checkpoint::{Checkpoint, PIECE_BYTES, StoredTensor},
    convert::Conversion,
    dtype::{FloatType, FloatTypeError},
    error::FolderError,
    header::{Header, HeaderError, MAX_HEADER_BYTES, TensorPlace},
    index::{IndexError, ShardIndex},
    merge::Merge,
    names::{CONFIG_FILE, INDEX_FILE, WEIGHTS_FILE},
    shards::{ShardSize, ShardSizeError},
    summary::{Group, StageMemory, Summary, TensorSummary, memory},
    write::Written,
};

/// Reads `config.json` and the weights beside it.
///
/// # Errors
///
/// [`FolderError`] names the file, the field or the tensor that is wrong.
pub fn read_folder(folder: &Path) -> Result<(ModelConfig, State), FolderError> {
    let (config, _) = config::read_model(folder)?;
    let state = read_state(parameters::model_tensors(&Checkpoint::open(folder)?, &config)?)?;
    Ok((config, state))
}

/// Reads what makes rows of pictures and words: the tower, the merger, the token table. The config that comes with them
/// has no layers and a tied head.
///
/// Of the released 8B model these are 1 of 8.5 billion parameters.
///
/// # Errors
///
/// [`FolderError`] names the file, the field or the tensor that is wrong.
pub fn read_senses(folder: &Path) -> Result<(ModelConfig, State), FolderError> {
    let (mut config, _) = config::read_model(folder)?;
    config.text.num_hidden_layers = 0;
    config.text.tie_word_embeddings = true;
    let state = read_state(parameters::some_tensors(&Checkpoint::open(folder)?, &config)?)?;
    Ok((config, state))
}

/// Shapes were checked before; numbers are while they are read.
fn read_state(tensors: BTreeMap<String, StoredTensor>) -> Result<State, FolderError> {
    let mut state = State::default();
    for (name, tensor) in tensors {
        let values = tensor.values()?;
        state.tensors.insert(name, Tensor32 { shape: tensor.shape, values });
    }
    Ok(state)
}

/// Writes the canonical `model.safetensors`, `extra` files (tokenizer, chat template) as they are, and `config.json`.
///
/// The folder is made where it is missing; files that stand in it under the same names are replaced, each at once.
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
    extra.iter().try_for_each(|(name, _)| names::check_plain(name))?;
    fs::create_dir_all(folder).map_err(error::io_error(folder))?;
    files::write_file(folder, WEIGHTS_FILE, &state.to_safetensors())?;
    for (name, bytes) in extra {
        files::write_file(folder, name, bytes)?;
    }
    files::write_file(folder, CONFIG_FILE, &config::to_text(folder, config)?)?;
    files::sync_folder(folder)
}
