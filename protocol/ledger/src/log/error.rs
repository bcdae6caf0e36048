//! Why a log doesn't open, doesn't take entries or doesn't sign.

use std::path::PathBuf;

use crate::{
    checkpoint::CheckpointError, disk::DiskError, note::KeyError, reader::ReadError, tile::MAX_ENTRY_BYTES,
};

/// Why a log doesn't open or doesn't take entries.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// A file operation failed. After such an error in [`Log::append`](super::Log::append), open the log again: the entries
    /// are then either all in it or not at all.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The origin can't name a key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The origin, the size or the note isn't fit for a checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// There is a log already.
    #[error("{} holds a log already; open it, or choose another folder", dir.display())]
    Exists {
        /// The folder.
        dir: PathBuf,
    },
    /// There is no log here.
    #[error("{} holds no log; create one, or check the path", dir.display())]
    NoLog {
        /// The folder.
        dir: PathBuf,
    },
    /// There is a log, but not the file that says what its key signed last.
    #[error(
        "{} is missing beside a signed checkpoint: this is a copy or a mirror, and signing on from it may \
         fork the log; use the original folder",
        path.display()
    )]
    NotTheOriginal {
        /// The missing file.
        path: PathBuf,
    },
    /// The folder is a copy of the one that the log was written in.
    #[error(
        "the log in {} is a copy or was restored from a backup: signing on from an old copy forks the log. Use \
         the original folder. If that is gone for good, compare this copy with the newest checkpoint that \
         members and witnesses hold, then claim it (`talkoot coordinator --claim-copy`)",
        dir.display()
    )]
    Copied {
        /// The folder.
        dir: PathBuf,
    },
    /// The key isn't the one the log was created with.
    #[error("the log in {} is signed by {expected}, not by the given key {got}", dir.display())]
    WrongKey {
        /// The folder.
        dir: PathBuf,
        /// The key the log was created with, or its origin.
        expected: String,
        /// The given key.
        got: String,
    },
    /// The file of the last signed checkpoint is older than something that was signed since, or newer
    /// than anything this process signed.
    #[error(
        "{} says that {last_signed} entries were signed, but {} is about {found}: one of them was restored or \
         changed by another hand; signing on may fork the log, so bring back the newest copy of the folder",
        path.display(), other.display()
    )]
    Restored {
        /// The file that says what was signed last.
        path: PathBuf,
        /// The size in it.
        last_signed: u64,
        /// The file that contradicts it.
        other: PathBuf,
        /// The size in that one.
        found: u64,
    },
    /// The file of the last signed checkpoint can't be read.
    #[error("{} is damaged: {source}; bring back the newest copy of the folder", path.display())]
    DamagedGuard {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: CheckpointError,
    },
    /// The tiles and entries aren't those that were signed.
    #[error("the log in {} is damaged: {source}; copy the file from a mirror", dir.display())]
    Damaged {
        /// The folder.
        dir: PathBuf,
        /// Which file, and what is wrong.
        source: ReadError,
    },
    /// Somebody holds a checkpoint by this key that this folder doesn't continue.
    #[error(
        "a checkpoint of {seen_size} entries by this key is about, and this folder with {size} entries is not \
         its continuation: it is an old copy; do not append, copy the missing entries from a mirror"
    )]
    Behind {
        /// Entries in the checkpoint that was shown.
        seen_size: u64,
        /// Entries here.
        size: u64,
    },
    /// The note to publish isn't the one of the checkpoint that was signed last.
    #[error("a checkpoint of {got} entries cannot be published: the one that was signed last has {signed}")]
    NotSigned {
        /// Entries in the checkpoint that was signed last.
        signed: u64,
        /// Entries in the given one.
        got: u64,
    },
    /// An entry is too long.
    #[error(
        "entry {position} of the batch has {got} bytes: at most {MAX_ENTRY_BYTES} fit; log the hash of the data"
    )]
    EntryTooLong {
        /// Its position in the batch.
        position: usize,
        /// Its length in bytes.
        got: usize,
    },
    /// The log would outgrow 2^63 - 1 entries.
    #[error("the log is full")]
    Full,
    /// An earlier append failed half-way.
    #[error("an earlier write to the log in {} failed; open it again before going on", dir.display())]
    Broken {
        /// The folder.
        dir: PathBuf,
    },
}
