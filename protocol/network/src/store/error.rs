//! Why the blob store refuses or fails, with what to do about it.

use std::{io, path::PathBuf};

use talkoot_protocol::digest::Digest;

/// Why an operation of the [`BlobStore`](super::BlobStore) did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A file operation failed.
    #[error("{operation} {}: {source}", path.display())]
    Io {
        /// What was done, as in "writing".
        operation: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The disk has no room left.
    #[error(
        "the disk is full, {operation} {} stopped{}; free some space or move the folder to a larger disk, then start again: \
         nothing that was stored is lost",
        path.display(), left(*free_bytes)
    )]
    DiskFull {
        /// What was done.
        operation: &'static str,
        /// To which file.
        path: PathBuf,
        /// Bytes that are free there for this user, where the system says so.
        free_bytes: Option<u64>,
        /// What the system said.
        source: io::Error,
    },
    /// What has to be kept leaves too little of the quota.
    #[error(
        "the disk quota of {} is too small: {} of it hold what this member needs now, and {} more are to be stored; \
         raise the quota to {} or more",
        gib(*quota_bytes), gib(*kept_bytes), gib(*wanted_bytes), gib(kept_bytes + wanted_bytes)
    )]
    QuotaFull {
        /// The limit.
        quota_bytes: u64,
        /// Pinned, hidden and half-fetched blobs, which stay.
        kept_bytes: u64,
        /// Footprint of what does not fit.
        wanted_bytes: u64,
    },
    /// Another process works in the folder.
    #[error(
        "the blob store {} is in use by another process; stop that process or give this one a folder of its own",
        path.display()
    )]
    InUse {
        /// The store's folder.
        path: PathBuf,
    },
    /// The store does not have the blob.
    #[error("blob {digest} is not in the store; fetch it first")]
    NotFound {
        /// Which blob.
        digest: Digest,
    },
    /// The blob is longer than the reader is ready to take.
    #[error("blob {digest} has {bytes} bytes, more than the {max_bytes} that the reader allows")]
    TooLarge {
        /// Which blob.
        digest: Digest,
        /// Length of its file in bytes.
        bytes: u64,
        /// The reader's limit in bytes.
        max_bytes: u64,
    },
    /// The bytes on the disk are no longer those that were stored.
    #[error(
        "the file of blob {digest} no longer has its bytes; it was set aside as {} and the blob will be fetched again; \
         check that disk if this comes back",
        path.display()
    )]
    Damaged {
        /// Which blob.
        digest: Digest,
        /// Where the damaged file is now.
        path: PathBuf,
    },
    /// A file changed its length while it was being copied into the store.
    #[error("{} changed while it was being stored; store it again once nobody writes to it", path.display())]
    Changed {
        /// The file outside the store.
        path: PathBuf,
    },
}

impl StoreError {
    /// Whether the disk has no room, which may change without anybody's doing.
    pub const fn is_disk_full(&self) -> bool {
        matches!(self, Self::DiskFull { .. })
    }

    /// Sorts a full disk from all other trouble.
    pub(super) fn io(operation: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                let free_bytes = path.ancestors().find_map(|folder| fs4::available_space(folder).ok());
                Self::DiskFull { operation, path, free_bytes, source }
            }
            _ => Self::Io { operation, path, source },
        }
    }
}

/// Bytes for people.
fn gib(bytes: u64) -> String {
    if bytes < 10 << 20 {
        format!("{} KiB", bytes.div_ceil(1 << 10))
    } else {
        format!("{:.2} GiB", bytes as f64 / f64::from(1 << 30))
    }
}

/// How much is free, for the message.
fn left(free_bytes: Option<u64>) -> String {
    free_bytes.map(|bytes| format!(" ({} MiB are free there)", bytes >> 20)).unwrap_or_default()
}

/// Puts the operation and the path to a system error.
pub(super) trait At<T> {
    /// Says what was done to which path.
    fn at(self, operation: &'static str, path: impl Into<PathBuf>) -> Result<T, StoreError>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, operation: &'static str, path: impl Into<PathBuf>) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::io(operation, path, source))
    }
}
