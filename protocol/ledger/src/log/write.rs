//! Making a log, signing more of it, publishing what was signed.

use std::path::Path;

use super::{CHECKPOINT, LAST_SIGNED, Log, LogError, VKEY};
use crate::{
    checkpoint::{Checkpoint, SignedCheckpoint},
    disk::Disk,
    encoding::MAX_SIZE,
    note::SignerKey,
    store::Store,
    tile::MAX_ENTRY_BYTES,
    tree::empty_root,
};

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

    pub(super) fn create_on(mut disk: Disk, signer: SignerKey) -> Result<Self, LogError> {
        for file in [LAST_SIGNED, CHECKPOINT] {
            if disk.get(file)?.is_some() {
                return Err(LogError::Exists { dir: disk.root().to_owned() });
            }
        }
        disk.claim()?;
        let origin = signer.verifier().name().to_owned();
        let checkpoint = Checkpoint { origin, size: 0, root: empty_root() };
        let current = SignedCheckpoint::sign(checkpoint, &signer)?;
        let dir = disk.root().to_owned();
        let store = Store::load(disk, &current.checkpoint);
        let store = store.map_err(|source| LogError::Damaged { dir, source })?;
        let mut log = Self { store, signer, published: current.clone(), signed: current, broken: false };
        let vkey = format!("{}\n", log.signer.verifier());
        log.store.disk.put(VKEY, vkey.as_bytes())?;
        log.store.disk.sync()?;
        log.publish_anew()?;
        Ok(log)
    }

    /// Appends entries, in order, and signs and publishes the tree they make. When this returns, they are on
    /// the disk and under the published checkpoint. Without entries, nothing is written and the checkpoint is
    /// as it was.
    ///
    /// # Errors
    ///
    /// As [`Log::sign`] and [`Log::publish`].
    pub fn append(&mut self, entries: &[Vec<u8>]) -> Result<SignedCheckpoint, LogError> {
        self.sign(entries)?;
        if let Some(signed) = self.unpublished().cloned() {
            self.publish(&signed.note)?;
        }
        Ok(self.published.clone())
    }

    /// Appends entries, in order, and signs the tree they make. When this returns, they are on the disk, and
    /// the log will never go on without them; but nobody is shown them before [`Log::publish`]. Without
    /// entries, nothing is written and what was signed last is returned.
    ///
    /// # Errors
    ///
    /// [`LogError::EntryTooLong`] and [`LogError::Full`] change nothing. After [`LogError::Disk`] or
    /// [`LogError::Restored`] the log refuses to go on until it's opened again; then it holds all the entries
    /// or none of them.
    pub fn sign(&mut self, entries: &[Vec<u8>]) -> Result<&SignedCheckpoint, LogError> {
        self.expect_whole()?;
        if let Some((position, entry)) =
            entries.iter().enumerate().find(|(_, entry)| entry.len() > MAX_ENTRY_BYTES)
        {
            return Err(LogError::EntryTooLong { position, got: entry.len() });
        }
        if entries.len() as u64 > MAX_SIZE - self.signed.checkpoint.size {
            return Err(LogError::Full);
        }
        if entries.is_empty() {
            return Ok(&self.signed);
        }
        // from here on, every early return leaves the disk in a state only `open` can sort out
        self.broken = true;
        for entry in entries {
            self.store.append(entry)?;
        }
        self.store.finish()?;
        let next = Checkpoint {
            origin: self.signed.checkpoint.origin.clone(),
            size: self.store.range().size(),
            root: self.store.range().root(),
        };
        self.expect_last_signed()?;
        self.swap_last_signed(&next)?;
        self.signed = SignedCheckpoint::sign(next, &self.signer)?;
        self.broken = false;
        Ok(&self.signed)
    }

    /// Shows everybody the checkpoint that was signed last, in this note, which may carry cosignatures. The
    /// published checkpoint itself may be given again, with more of them.
    ///
    /// # Errors
    ///
    /// [`LogError::Checkpoint`] and [`LogError::NotSigned`] for a note that isn't the one, which changes
    /// nothing; [`LogError::Disk`], after which the log has to be opened again.
    pub fn publish(&mut self, note: &str) -> Result<(), LogError> {
        self.expect_whole()?;
        let given = SignedCheckpoint::verify(note.as_bytes(), &self.signer.verifier())?;
        if given.checkpoint != self.signed.checkpoint {
            let (signed, got) = (self.signed.checkpoint.size, given.checkpoint.size);
            return Err(LogError::NotSigned { signed, got });
        }
        self.broken = true;
        self.publish_note(&given)?;
        self.signed = given.clone();
        self.published = given;
        self.broken = false;
        Ok(())
    }

    /// Says again what was signed last, and publishes it: for a log that was just made.
    fn publish_anew(&mut self) -> Result<(), LogError> {
        let signed = self.signed.clone();
        self.swap_last_signed(&signed.checkpoint)?;
        self.publish_note(&signed)
    }

    /// The compare of compare-and-swap: nobody else has signed since this process did.
    fn expect_last_signed(&self) -> Result<(), LogError> {
        let found = self.store.disk.get(LAST_SIGNED)?;
        if found.as_deref() == Some(self.signed.checkpoint.to_string().as_bytes()) {
            return Ok(());
        }
        let text = found.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let last_signed = text.and_then(|text| Checkpoint::parse(&text).ok()).map_or(0, |guard| guard.size);
        let root = self.store.disk.root();
        Err(LogError::Restored {
            path: root.join(LAST_SIGNED),
            last_signed,
            other: root.join(CHECKPOINT),
            found: self.signed.checkpoint.size,
        })
    }

    pub(super) fn swap_last_signed(&mut self, next: &Checkpoint) -> Result<(), LogError> {
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

    fn expect_whole(&self) -> Result<(), LogError> {
        if self.broken {
            return Err(LogError::Broken { dir: self.store.disk.root().to_owned() });
        }
        Ok(())
    }
}
