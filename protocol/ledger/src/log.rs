//! The single writer of a log.
//!
//! Every append keeps this order, so that a kill or a power cut at any point leaves a log that opens and
//! that every verifier accepts:
//!
//! ```text
//! sign     1. bundles, tiles, partial tiles      each file whole or absent
//!          2. fsync of files and folders
//!          3. .writer/last-signed                compared with what this process signed last, swapped, fsync
//!          4. sign
//!                                                here witnesses may be asked to cosign
//! publish  5. checkpoint                         renamed into place, fsync: the entries are published
//!          6. checkpoints/<size>                 the same note, kept for good
//! ```
//!
//! Step 3 is the safety device: what stands in `last-signed` may have been signed, so the log never goes
//! on from anything else. **Never restore that file, or the folder with it, from a backup**: the log would
//! sign a second history over the same indices. A copied or restored folder is told from the original and
//! refuses to sign ([`LogError::Copied`]); a snapshot of the whole file system can't be told, so ask members
//! and witnesses for the newest checkpoint they hold and pass it to [`Log::check_seen`]. When a backup is all
//! there is, copy the missing entries from a mirror, check, and only then [`Log::claim`] it.

use std::path::Path;

use crate::{
    checkpoint::SignedCheckpoint,
    disk::Disk,
    note::{SignerKey, VerifierKey},
    reader::{Folder, ReadError},
    store::Store,
    tree::Hash,
};

mod error;
mod open;
mod write;

pub use error::LogError;

/// What was signed last, or is about to be.
const LAST_SIGNED: &str = ".writer/last-signed";
const CHECKPOINT: &str = "checkpoint";
/// The verifier key, for readers' convenience; they should have it from elsewhere.
pub(crate) const VKEY: &str = "log.vkey";

/// A log and the right to append to it.
#[derive(Debug)]
pub struct Log {
    store: Store,
    signer: SignerKey,
    /// What everybody may see.
    published: SignedCheckpoint,
    /// What was signed last: the published one, or one that waits for witnesses.
    signed: SignedCheckpoint,
    broken: bool,
}

impl Log {
    /// Opens a log: locks it, reads all of it, holds it against what was signed last, and completes what a
    /// killed process left undone. What was signed is published.
    ///
    /// # Errors
    ///
    /// [`LogError`]: another process has it (the message names the lock file), a copied, damaged or restored
    /// folder, another key, a disk error.
    pub fn open(dir: &Path, key: &[u8; 32]) -> Result<Self, LogError> {
        let mut log = Self::open_unpublished(dir, key)?;
        if let Some(signed) = log.unpublished().cloned() {
            log.publish(&signed.note)?;
        }
        Ok(log)
    }

    /// As [`Log::open`], but what was signed and not yet published stays so: for logs whose checkpoints have
    /// to be cosigned before anybody sees them.
    ///
    /// # Errors
    ///
    /// As [`Log::open`].
    pub fn open_unpublished(dir: &Path, key: &[u8; 32]) -> Result<Self, LogError> {
        if !dir.join(LAST_SIGNED).exists() {
            if dir.join(CHECKPOINT).exists() {
                return Err(LogError::NotTheOriginal { path: dir.join(LAST_SIGNED) });
            }
            return Err(LogError::NoLog { dir: dir.to_owned() });
        }
        open::open_on(Disk::lock(dir)?, key)
    }

    /// Opens the log in `dir`, or makes it where there is none yet.
    ///
    /// # Errors
    ///
    /// As [`Log::open`] and [`Log::create`]; a log of another origin is [`LogError::WrongKey`].
    pub fn open_or_create(dir: &Path, origin: &str, key: &[u8; 32]) -> Result<Self, LogError> {
        match Self::open(dir, key) {
            Err(LogError::NoLog { .. }) => Self::create(dir, origin, key),
            Ok(log) if log.origin() != origin => Err(LogError::WrongKey {
                dir: dir.to_owned(),
                expected: log.vkey().to_string(),
                got: origin.to_owned(),
            }),
            opened => opened,
        }
    }

    /// Makes a copied folder the original from now on. Only who knows that the old one is gone for good, and
    /// that nobody holds a newer checkpoint than this copy, may do that: see [`Log::check_seen`].
    ///
    /// # Errors
    ///
    /// [`LogError::NoLog`], [`LogError::Disk`].
    pub fn claim(dir: &Path) -> Result<(), LogError> {
        if !dir.join(LAST_SIGNED).exists() {
            return Err(LogError::NoLog { dir: dir.to_owned() });
        }
        Ok(Disk::lock(dir)?.claim()?)
    }

    /// Holds the log against a checkpoint that somebody else has from it. To be called with what members and
    /// witnesses hold, before appending to a log that may have been restored from a backup.
    ///
    /// # Errors
    ///
    /// [`LogError::Behind`] when this log isn't a continuation of it; [`LogError::Checkpoint`] when it isn't
    /// by this log's key.
    pub fn check_seen(&self, note: &[u8]) -> Result<(), LogError> {
        let seen = SignedCheckpoint::verify(note, &self.signer.verifier())?.checkpoint;
        let signed = self.signed.checkpoint.size;
        if seen.size <= signed
            && self.store.root_at(signed, seen.size).map_err(|source| self.damaged(source))? == seen.root
        {
            return Ok(());
        }
        Err(LogError::Behind { seen_size: seen.size, size: signed })
    }

    /// Entries under the published checkpoint.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.published.checkpoint.size
    }

    /// The root of the published checkpoint.
    #[must_use]
    pub const fn root(&self) -> Hash {
        self.published.checkpoint.root
    }

    /// The log's name.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.published.checkpoint.origin
    }

    /// The key that readers need.
    #[must_use]
    pub fn vkey(&self) -> VerifierKey {
        self.signer.verifier()
    }

    /// The published checkpoint.
    #[must_use]
    pub const fn checkpoint(&self) -> &SignedCheckpoint {
        &self.published
    }

    /// The checkpoint that was signed last; it may not be published yet.
    #[must_use]
    pub const fn signed(&self) -> &SignedCheckpoint {
        &self.signed
    }

    /// The checkpoint that was signed last, while it isn't published.
    #[must_use]
    pub fn unpublished(&self) -> Option<&SignedCheckpoint> {
        (self.signed.checkpoint != self.published.checkpoint).then_some(&self.signed)
    }

    /// The published checkpoint's note.
    #[must_use]
    pub fn checkpoint_note(&self) -> String {
        self.published.note.clone()
    }

    /// The log's files, for [`crate::reader`].
    #[must_use]
    pub const fn folder(&self) -> &Folder {
        self.store.folder()
    }

    /// The root of the first `size` published entries.
    ///
    /// # Errors
    ///
    /// [`LogError::Damaged`] with [`ReadError::OutOfRange`] above the log's size, or when a tile can't be read.
    pub fn root_at(&self, size: u64) -> Result<Hash, LogError> {
        self.store.root_at(self.size(), size).map_err(|source| self.damaged(source))
    }

    /// One entry, of those that were signed. Whether it is published, [`Log::size`] tells.
    ///
    /// # Errors
    ///
    /// [`LogError::Damaged`] with [`ReadError::OutOfRange`] when there is none, or when it can't be read.
    pub fn entry(&self, index: u64) -> Result<Vec<u8>, LogError> {
        self.store.entry(self.signed.checkpoint.size, index).map_err(|source| self.damaged(source))
    }

    /// Published entries from index `from` on: at most `max_count` of them and `max_bytes` in all, but at least
    /// one where there is one, so that a caller always gets ahead. Empty at the end of the log.
    ///
    /// # Errors
    ///
    /// [`LogError::Damaged`] when a bundle can't be read.
    pub fn entries(&self, from: u64, max_count: usize, max_bytes: usize) -> Result<Vec<Vec<u8>>, LogError> {
        self.store.entries(self.size(), from, max_count, max_bytes).map_err(|source| self.damaged(source))
    }

    fn damaged(&self, source: ReadError) -> LogError {
        LogError::Damaged { dir: self.store.disk.root().to_owned(), source }
    }
}

#[cfg(test)]
mod tests;
