//! Why embeddings cannot be used.

use std::{
    io,
    path::{Path, PathBuf},
};

use talkoot_trainer::huggingface::HeaderError;

use super::{Flaw, NpyError};

/// Why embeddings cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbeddingError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The name does not say what the file is.
    #[error("{} is neither .npy nor .safetensors; save the embeddings as one of these", path.display())]
    Kind {
        /// Which.
        path: PathBuf,
    },
    /// It is no file of NumPy's that is read here.
    #[error("{}: {source}", path.display())]
    Npy {
        /// Which.
        path: PathBuf,
        /// What is wrong with its head.
        #[source]
        source: NpyError,
    },
    /// It is no safetensors file.
    #[error("{}: {source}", path.display())]
    Tensors {
        /// Which.
        path: PathBuf,
        /// What is wrong with its description.
        #[source]
        source: HeaderError,
    },
    /// The numbers are not rows of numbers.
    #[error("{}: {what} has shape {got:?}; {must}", path.display())]
    Shape {
        /// Which file.
        path: PathBuf,
        /// What of it.
        what: &'static str,
        /// Its shape.
        got: Vec<u64>,
        /// What it must be.
        must: String,
    },
    /// It is not to be seen which tensor is meant.
    #[error(
        "{} has the tensors {names}: call the one with the embeddings \"embeddings\", with axes (rows, width)",
        path.display()
    )]
    WhichTensor {
        /// Which file.
        path: PathBuf,
        /// Names of the tensors, the first ones.
        names: String,
    },
    /// Numbers of another type.
    #[error("{}: {what} is {got}, it must be {must}", path.display())]
    Type {
        /// Which file.
        path: PathBuf,
        /// What of it.
        what: &'static str,
        /// Its type.
        got: String,
        /// What it must be.
        must: &'static str,
    },
    /// The file is shorter or longer than its head says.
    #[error("{} should have {expected} bytes by its head and has {got}: it was cut off, or bytes were added", path.display())]
    Length {
        /// Which.
        path: PathBuf,
        /// What the head asks for.
        expected: u64,
        /// What is there.
        got: u64,
    },
    /// An id is none.
    #[error("{}: the id of row {row} is no sample id (32 lower-case hexadecimal digits and a line feed)", path.display())]
    Id {
        /// The file of ids.
        path: PathBuf,
        /// Which row.
        row: u64,
    },
    /// A row has no direction.
    #[error("{}: row {row} {flaw}; embed it again, or leave it out with its sample", path.display())]
    Flawed {
        /// Which file.
        path: PathBuf,
        /// Which row, from 0.
        row: u64,
        /// What is wrong with it.
        flaw: Flaw,
    },
}

pub(super) fn shape(path: &Path, what: &'static str, got: Vec<u64>, must: String) -> EmbeddingError {
    EmbeddingError::Shape { path: path.to_path_buf(), what, got, must }
}

pub(super) fn read_error(path: &Path) -> impl FnOnce(io::Error) -> EmbeddingError {
    move |source| EmbeddingError::Read { path: path.to_path_buf(), source }
}

pub(super) fn write_error(path: &Path) -> impl FnOnce(io::Error) -> EmbeddingError {
    move |source| EmbeddingError::Write { path: path.to_path_buf(), source }
}
