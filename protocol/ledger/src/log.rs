//! The single writer of a log.
//!
//! Every append keeps this order, so that a kill or a power cut at any point leaves a log that opens and
//! that every verifier accepts:
//!
//! ```text
//! 1. bundles, tiles, partial tiles      each file whole or absent
//! 2. fsync of files and folders
//! 3. .writer/last-signed                compared with what this process signed last, swapped, fsync
//! 4. sign
//! 5. checkpoint                         renamed into place, fsync: the entries are published
//! 6. checkpoints/<size>                 the same note, kept for good
//! ```
//!
//! Step 3 is the safety device: what stands in `last-signed` may have been signed, so the log never goes
//! on from anything else. **Never restore that file, or the folder with it, from a backup**: the log would
//! sign a second history over the same indices. When a backup is all there is, ask members and witnesses
//! for the newest checkpoint they hold, copy the missing entries from a mirror, and pass the checkpoint to
//! [`Log::check_seen`] before appending.

use std::path::{Path, PathBuf};

use crate::{
    checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint},
    disk::{Disk, DiskError},
    encoding::MAX_SIZE,
    note::{KeyError, SignerKey, VerifierKey},
    reader::ReadError,
    store::Store,
    tile::MAX_ENTRY_BYTES,
    tree::{Hash, empty_root},
};

mod open;

/// What was signed last, or is about to be.
const LAST_SIGNED: &str = ".writer/last-signed";
const CHECKPOINT: &str = "checkpoint";
/// The verifier key, for readers' convenience; they should have it from elsewhere.
pub(crate) const VKEY: &str = "log.vkey";

/// Why a log doesn't open or doesn't take entries.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// A file operation failed. After such an error in [`Log::append`], open the log again: the entries
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

/// A log and the right to append to it.
#[derive(Debug)]
pub struct Log {
    store: Store,
    signer: SignerKey,
    current: SignedCheckpoint,
    broken: bool,
}

impl Log {
    /// Makes an empty log and signs its checkpoint of size 0. `origin` is the log's address without scheme
    /// and trailing slash; `key` is an Ed25519 seed, used for nothing else. One log, one origin, one key.
    ///
    /// # Errors
    ///
    /// [`LogError::Exists`], [`LogError::Key`] for an origin with spaces or plus signs, [`LogError::Disk`];
    /// after the last, the same call may be made again, or [`Log::open_or_create`].
    pub fn create(dir: &Path, origin: &str, key: &[u8; 32]) -> Result<Self, LogError> {
        let signer = SignerKey::log(origin, key)?;
        Self::create_on(Disk::lock(dir)?, signer)
    }

    fn create_on(disk: Disk, signer: SignerKey) -> Result<Self, LogError> {
        for file in [LAST_SIGNED, CHECKPOINT] {
            if disk.get(file)?.is_some() {
                return Err(LogError::Exists { dir: disk.root().to_owned() });
            }
        }
        let origin = signer.verifier().name().to_owned();
        let checkpoint = Checkpoint { origin, size: 0, root: empty_root() };
        let current = SignedCheckpoint::sign(checkpoint, &signer)?;
        let dir = disk.root().to_owned();
        let store = Store::load(disk, &current.checkpoint);
        let store = store.map_err(|source| LogError::Damaged { dir, source })?;
        let mut log = Self { store, signer, current, broken: false };
        let vkey = format!("{}\n", log.signer.verifier());
        log.store.disk.put(VKEY, vkey.as_bytes())?;
        log.store.disk.sync()?;
        log.publish(&log.current.clone())?;
        Ok(log)
    }

    /// Opens a log: locks it, reads all of it, holds it against what was signed last, and completes what a
    /// killed process left undone.
    ///
    /// # Errors
    ///
    /// [`LogError`]: another process has it (the message names the lock file), a damaged or restored copy,
    /// another key, a disk error.
    pub fn open(dir: &Path, key: &[u8; 32]) -> Result<Self, LogError> {
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

    /// Appends entries, in order, and signs the tree they make. When this returns, they are on the disk and
    /// under the published checkpoint. Without entries, nothing is written and the checkpoint is as it was.
    ///
    /// # Errors
    ///
    /// [`LogError::EntryTooLong`] and [`LogError::Full`] change nothing. After [`LogError::Disk`] or
    /// [`LogError::Restored`] the log refuses to go on until it's opened again; then it holds all the entries
    /// or none of them.
    pub fn append(&mut self, entries: &[Vec<u8>]) -> Result<SignedCheckpoint, LogError> {
        if self.broken {
            return Err(LogError::Broken { dir: self.store.disk.root().to_owned() });
        }
        if let Some((position, entry)) =
            entries.iter().enumerate().find(|(_, entry)| entry.len() > MAX_ENTRY_BYTES)
        {
            return Err(LogError::EntryTooLong { position, got: entry.len() });
        }
        if entries.len() as u64 > MAX_SIZE - self.size() {
            return Err(LogError::Full);
        }
        if entries.is_empty() {
            return Ok(self.current.clone());
        }
        // from here on, every early return leaves the disk in a state only `open` can sort out
        self.broken = true;
        for entry in entries {
            self.store.append(entry)?;
        }
        self.store.finish()?;
        let next = Checkpoint {
            origin: self.current.checkpoint.origin.clone(),
            size: self.store.range().size(),
            root: self.store.range().root(),
        };
        self.expect_last_signed()?;
        let signed = self.sign_and_publish(next)?;
        self.broken = false;
        Ok(signed)
    }

    /// The compare of compare-and-swap: nobody else has signed since this process did.
    fn expect_last_signed(&self) -> Result<(), LogError> {
        let found = self.store.disk.get(LAST_SIGNED)?;
        if found.as_deref() == Some(self.current.checkpoint.to_string().as_bytes()) {
            return Ok(());
        }
        let text = found.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let last_signed = text.and_then(|text| Checkpoint::parse(&text).ok()).map_or(0, |guard| guard.size);
        let root = self.store.disk.root();
        Err(LogError::Restored {
            path: root.join(LAST_SIGNED),
            last_signed,
            other: root.join(CHECKPOINT),
            found: self.size(),
        })
    }

    fn sign_and_publish(&mut self, next: Checkpoint) -> Result<SignedCheckpoint, LogError> {
        self.swap_last_signed(&next)?;
        let signed = SignedCheckpoint::sign(next, &self.signer)?;
        self.publish_note(&signed)?;
        self.current = signed.clone();
        Ok(signed)
    }

    fn publish(&mut self, signed: &SignedCheckpoint) -> Result<(), LogError> {
        self.swap_last_signed(&signed.checkpoint)?;
        self.publish_note(signed)
    }

    fn swap_last_signed(&mut self, next: &Checkpoint) -> Result<(), LogError> {
        self.store.disk.put(LAST_SIGNED, next.to_string().as_bytes())?;
        Ok(self.store.disk.sync()?)
    }

    fn publish_note(&mut self, signed: &SignedCheckpoint) -> Result<(), LogError> {
        self.store.disk.put(CHECKPOINT, signed.note.as_bytes())?;
        self.store.disk.sync()?;
        // kept only when published: a reader who finds a newer note than the current one cries rollback
        let kept = format!("checkpoints/{}", signed.checkpoint.size);
        self.store.disk.put(&kept, signed.note.as_bytes())?;
        Ok(self.store.disk.sync()?)
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
        if seen.size <= self.size() && self.root_at(seen.size)? == seen.root {
            return Ok(());
        }
        Err(LogError::Behind { seen_size: seen.size, size: self.size() })
    }

    /// Entries under the published checkpoint.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.current.checkpoint.size
    }

    /// The root of the published checkpoint.
    #[must_use]
    pub const fn root(&self) -> Hash {
        self.current.checkpoint.root
    }

    /// The log's name.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.current.checkpoint.origin
    }

    /// The key that readers need.
    #[must_use]
    pub fn vkey(&self) -> VerifierKey {
        self.signer.verifier()
    }

    /// The published checkpoint.
    #[must_use]
    pub const fn checkpoint(&self) -> &SignedCheckpoint {
        &self.current
    }

    /// The published checkpoint's note.
    #[must_use]
    pub fn checkpoint_note(&self) -> String {
        self.current.note.clone()
    }

    /// The root of the first `size` entries.
    ///
    /// # Errors
    ///
    /// [`LogError::Damaged`] with [`ReadError::OutOfRange`] above the log's size, or when a tile can't be read.
    pub fn root_at(&self, size: u64) -> Result<Hash, LogError> {
        self.store.root_at(self.size(), size).map_err(|source| self.damaged(source))
    }

    /// One entry.
    ///
    /// # Errors
    ///
    /// [`LogError::Damaged`] with [`ReadError::OutOfRange`] when there is none, or when it can't be read.
    pub fn entry(&self, index: u64) -> Result<Vec<u8>, LogError> {
        self.store.entry(self.size(), index).map_err(|source| self.damaged(source))
    }

    /// Entries from index `from` on: at most `max_count` of them and `max_bytes` in all, but at least one
    /// where there is one, so that a caller always gets ahead. Empty at the end of the log.
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
