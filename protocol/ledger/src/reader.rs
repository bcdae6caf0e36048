//! Reading a log as a stranger: nothing is believed but the signature of a key one already has.
//!
//! ```text
//!   checkpoint --signature--> size, root
//!        tiles --hashing----> the same root?        no: which tile, or root mismatch
//!      bundles --hashing----> the same leaf hashes? no: which entry
//!  kept notes  --tiles------> the same old roots?   no: equivocation
//! ```

use std::io;

use crate::{
    checkpoint::CheckpointError,
    tile::{BundleError, TileLengthError},
    tree::Hash,
};

mod history;
mod proofs;
mod replay;
mod source;
mod tiles;

pub use history::{History, check_kept, verify_history};
pub use proofs::{consistency_proof, entry, inclusion_proof, root_at};
pub use replay::{current, replay, replay_to};
pub use source::{Folder, TileSource};
pub(crate) use tiles::Tiles;

/// Why a log isn't accepted: which file, and what is wrong with it. Paths are relative to the log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The source couldn't be read; this says nothing about the log.
    #[error("cannot read {path}")]
    Io {
        /// The file.
        path: String,
        /// What the source said.
        #[source]
        source: io::Error,
    },
    /// A file that the checkpoint implies isn't there.
    #[error("{path} is missing")]
    Missing {
        /// The file.
        path: String,
    },
    /// A note is malformed, badly signed, or not the log's.
    #[error("{path}: {source}")]
    BadCheckpoint {
        /// The file.
        path: String,
        /// What is wrong.
        source: CheckpointError,
    },
    /// A tile doesn't have the length that its width demands.
    #[error("{path}: {source}")]
    BadTile {
        /// The file.
        path: String,
        /// What is wrong.
        source: TileLengthError,
    },
    /// A bundle doesn't hold exactly its number of entries.
    #[error("{path}: {source}")]
    BadBundle {
        /// The file.
        path: String,
        /// What is wrong.
        source: BundleError,
    },
    /// A tile isn't the one that the signed root stands for.
    #[error("{path} differs from what the signed root stands for; fetch it anew from another copy")]
    TileMismatch {
        /// The file.
        path: String,
    },
    /// An entry isn't the one whose hash is in the tree.
    #[error("{path}: entry {index} is not the one in the tree; fetch the bundle anew from another copy")]
    EntryMismatch {
        /// The bundle.
        path: String,
        /// The entry's index in the log.
        index: u64,
    },
    /// The files agree with one another, but not with the signed root.
    #[error("the files hash to root {computed} at size {size}, the checkpoint says {signed}")]
    RootMismatch {
        /// Size of the tree.
        size: u64,
        /// The root in the checkpoint.
        signed: Hash,
        /// The root the tiles hash to.
        computed: Hash,
    },
    /// The log shows a smaller tree than it once signed.
    #[error("{path}: a checkpoint of {kept} entries was signed, and now the log shows {current} (rollback)")]
    Rollback {
        /// The kept note.
        path: String,
        /// Size in the kept note.
        kept: u64,
        /// Size in the current checkpoint.
        current: u64,
    },
    /// The log has signed two different histories. The kept note and the current one prove it.
    #[error("{path}: equivocation at size {size}: {kept} was signed, the current tree has {computed}")]
    Equivocation {
        /// The kept note.
        path: String,
        /// Size in the kept note.
        size: u64,
        /// The root in the kept note.
        kept: Hash,
        /// The root of the current tree at that size.
        computed: Hash,
    },
    /// The entry asked for isn't in the log.
    #[error("there is no entry {index} in a log of {size}")]
    OutOfRange {
        /// The index, or the size, asked for.
        index: u64,
        /// Entries in the log.
        size: u64,
    },
}

impl ReadError {
    /// Whether the same question may be answered later or by another copy: nothing here is evidence
    /// against the log's operator.
    #[must_use]
    pub const fn is_inconclusive(&self) -> bool {
        matches!(self, Self::Io { .. } | Self::Missing { .. } | Self::OutOfRange { .. })
    }
}
