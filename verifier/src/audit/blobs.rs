//! Blobs as an auditor has them: files named by their hash, believed only when they hash to it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use talkoot_protocol::digest::{BlobRef, Digest};

/// A folder of blobs.
#[derive(Debug, Clone)]
pub(super) struct Blobs {
    dir: PathBuf,
}

/// Why a blob cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Absent {
    /// There is no such file.
    Missing,
    /// The file does not hash to its name, or has another length.
    Damaged,
}

impl Blobs {
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Reads a blob; its length is looked at before it is read.
    pub(super) fn read(&self, blob: &BlobRef) -> Result<Vec<u8>, Absent> {
        let path = self.path(&blob.digest);
        let length = fs::metadata(&path).map_err(|_| Absent::Missing)?.len();
        if length != blob.bytes {
            return Err(Absent::Damaged);
        }
        let bytes = fs::read(&path).map_err(|_| Absent::Missing)?;
        if Digest::of(&bytes) == blob.digest { Ok(bytes) } else { Err(Absent::Damaged) }
    }

    /// Where the blob would lie.
    pub(super) fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(digest.to_string())
    }
}
