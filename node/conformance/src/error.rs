//! What makes a folder of reference numbers unusable.

use std::{io, path::PathBuf};

use talkoot_trainer::{huggingface::FolderError, model, reference};

/// Why nothing could be said.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// A file or folder cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file that isn't what its name says.
    #[error("{} is not what it should be: {reason}", path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file that nobody knows how to compare.
    #[error("{} is not known, and so would be left out: remove it, or use a release that knows it", path.display())]
    Unknown {
        /// Which.
        path: PathBuf,
    },
    /// The checkpoint is no model of ours.
    #[error("the checkpoint cannot be used")]
    Checkpoint(#[from] FolderError),
    /// The model failed.
    #[error("the model failed")]
    Model(#[from] model::ModelError),
    /// The reference model failed.
    #[error("the reference model failed")]
    Reference(#[from] reference::ModelError),
    /// The model did not show a value that the folder holds.
    #[error("the model has no {name}, which {} holds", path.display())]
    NotShown {
        /// Name of the value.
        name: String,
        /// The file.
        path: PathBuf,
    },
}
