//! Everything that can be wrong with a folder.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{FloatType, HeaderError};
use crate::{config::ConfigError, state::StateError};

/// A folder that cannot be read as a checkpoint, or not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// The file system refused, or a file ended before its time.
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
    /// A file that is read whole and larger than any that is meant.
    #[error("{} has {got} bytes, more than the {limit} that are read", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        got: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The model description is not one of ours.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No file that weights are read from.
    #[error(
        "{} holds neither model.safetensors nor model.safetensors.index.json: weights in another format have to be \
         saved as safetensors first",
        path.display()
    )]
    NoWeights {
        /// The folder.
        path: PathBuf,
    },
    /// More files than any checkpoint is cut into.
    #[error("{} lists {got} files, more than the {limit} that are opened", path.display())]
    TooManyFiles {
        /// The index.
        path: PathBuf,
        /// Files that it names.
        got: usize,
        /// The limit.
        limit: usize,
    },
    /// A weights file whose first bytes do not describe it.
    #[error("{} is no safetensors file", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: HeaderError,
    },
    /// Weights that are damaged or of another model.
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
    /// The index names a file for a tensor, and the file doesn't have it.
    #[error("the index says that tensor {name} is in {}, but it is not", path.display())]
    NotInShard {
        /// Name on disk, cut to 200 characters.
        name: String,
        /// The file.
        path: PathBuf,
    },
    /// A file of the index has a tensor that the index doesn't know there.
    #[error("tensor {name} is in {}, but the index does not say so", path.display())]
    NotInIndex {
        /// Name on disk, cut to 200 characters.
        name: String,
        /// The file.
        path: PathBuf,
    },
    /// A parameter in a number type that is not read here.
    #[error("tensor {name} in {} is stored as {got}: f32, bf16 and f16 are read", path.display())]
    Dtype {
        /// Name as it stands in the file.
        name: String,
        /// The number type that was found.
        got: String,
        /// The file.
        path: PathBuf,
    },
    /// A number that the wanted type cannot hold.
    #[error("tensor {name} holds {value} at index {index}, which {dtype} cannot hold: choose bf16 or f32")]
    Overflow {
        /// Name on disk.
        name: String,
        /// Index of the first such number, row-major.
        index: usize,
        /// The number.
        value: f32,
        /// The wanted type.
        dtype: FloatType,
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
    /// The folder to write to is in use.
    #[error(
        "{} is there already: choose an empty folder, or delete what an interrupted command left in this one",
        path.display()
    )]
    Occupied {
        /// The file that is in the way.
        path: PathBuf,
    },
}

/// Says which file it was.
pub(super) fn io_error(path: &Path) -> impl FnOnce(io::Error) -> FolderError + '_ {
    move |source| FolderError::Io { path: path.to_owned(), source }
}
