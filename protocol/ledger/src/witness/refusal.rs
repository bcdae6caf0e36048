//! Why a witness doesn't cosign, and what it answers then.

use super::RequestError;
use crate::{
    checkpoint::CheckpointError,
    disk::DiskError,
    note::NoteError,
    tree::{Hash, ProofError},
};

/// Why a witness doesn't cosign.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// 400: the request is malformed.
    #[error(transparent)]
    Malformed(#[from] RequestError),
    /// 400: the checkpoint in it is malformed.
    #[error("the checkpoint is malformed: {0}")]
    BadCheckpoint(#[from] CheckpointError),
    /// 400: the old size is above the checkpoint's.
    #[error("the old size {old} is above the checkpoint's {new}")]
    OldAboveNew {
        /// The old size.
        old: u64,
        /// The checkpoint's size.
        new: u64,
    },
    /// 404: the log isn't one that this witness looks after.
    #[error("the log {origin:?} is unknown here")]
    UnknownLog {
        /// Its origin.
        origin: String,
    },
    /// 403: the log hasn't signed it.
    #[error("the log's signature is missing or bad: {0}")]
    Unsigned(NoteError),
    /// 409: the old size isn't that of the checkpoint that was cosigned last.
    #[error("the last checkpoint cosigned here has {size} entries")]
    Conflict {
        /// The size that was cosigned last.
        size: u64,
    },
    /// 409: another tree of this size was cosigned.
    #[error("a checkpoint of {size} entries with root {seen} was cosigned here, this one has {got}: a fork")]
    Fork {
        /// The size.
        size: u64,
        /// The root that was cosigned.
        seen: Hash,
        /// The root in the request.
        got: Hash,
    },
    /// 422: the proof doesn't lead from the one to the other.
    #[error("the consistency proof does not hold: {0}")]
    BadProof(ProofError),
    /// 500: the checkpoint couldn't be persisted, so nothing was cosigned.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// 500: it couldn't be persisted earlier.
    #[error("an earlier checkpoint could not be persisted; the witness has to be started again")]
    Broken,
}

impl Refusal {
    /// The HTTP status that says so.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Malformed(_) | Self::BadCheckpoint(_) | Self::OldAboveNew { .. } => 400,
            Self::Unsigned(_) => 403,
            Self::UnknownLog { .. } => 404,
            Self::Conflict { .. } | Self::Fork { .. } => 409,
            Self::BadProof(_) => 422,
            Self::Disk(_) | Self::Broken => 500,
        }
    }
}
