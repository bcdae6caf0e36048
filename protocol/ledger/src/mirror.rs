//! A member's own copy of somebody's log, in the same layout: any reader takes it for the log itself.
//!
//! Entries come from wherever they come from, in as many batches as the caller likes, and are staged;
//! a checkpoint then commits them. Nothing is kept unless the operator's signature stands and the old
//! entries plus the staged ones hash to exactly the signed root.
//!
//! ```text
//! stage(entries) stage(entries) ... commit(checkpoint)      extend(entries, checkpoint) = both
//!        `--- a spool file, gone after a restart ---'
//! ```

use std::{
    fs::File,
    io::{BufReader, BufWriter, Read as _, Write as _},
    path::{Path, PathBuf},
};

use crate::{
    checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint},
    disk::{Disk, DiskError, at},
    encoding::MAX_SIZE,
    log::VKEY,
    note::VerifierKey,
    policy::Policy,
    reader::{Folder, ReadError},
    store::Store,
    tile::MAX_ENTRY_BYTES,
    tree::{CompactRange, Hash, ProofError, empty_root, leaf_hash, verify_consistency},
};

const CHECKPOINT: &str = "checkpoint";
/// Among the temporary files, so that the next start clears it.
const SPOOL: &str = ".writer/tmp/staged";

/// Why a mirror doesn't open or doesn't follow the log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MirrorError {
    /// A file operation failed; open the mirror again.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The checkpoint is malformed, badly signed, or another log's.
    #[error("the log's checkpoint is refused")]
    BadCheckpoint(#[from] CheckpointError),
    /// The folder mirrors another log.
    #[error("{} mirrors the log of {expected}, not of {got}; use another folder", dir.display())]
    WrongLog {
        /// The folder.
        dir: PathBuf,
        /// The key it was made for.
        expected: String,
        /// The key given now.
        got: String,
    },
    /// What is stored isn't what was signed.
    #[error("the mirror in {} is damaged: {source}; delete it and fetch it anew", dir.display())]
    Damaged {
        /// The folder.
        dir: PathBuf,
        /// Which file, and what is wrong.
        source: ReadError,
    },
    /// The operator has signed two histories. Both notes are evidence; keep and publish them.
    #[error("equivocation at size {size}: this mirror has root {ours}, and the log has signed {theirs}")]
    Equivocation {
        /// Size at which the histories differ.
        size: u64,
        /// Root of the entries that were committed here under the operator's signature.
        ours: Hash,
        /// Root that the refused note stands for at that size.
        theirs: Hash,
        /// The note committed here.
        our_note: String,
        /// The refused note.
        their_note: String,
    },
    /// The checkpoint is older than what is here, though part of the same history.
    #[error("the checkpoint has {got} entries, and this mirror has {ours} already: it is an old one")]
    Rollback {
        /// Entries here.
        ours: u64,
        /// Entries in the refused checkpoint.
        got: u64,
    },
    /// The checkpoint covers another number of entries than are here.
    #[error(
        "the checkpoint has {signed} entries, and {staged} are here and staged; fetch the rest, or a newer checkpoint"
    )]
    SizeMismatch {
        /// Entries committed and staged.
        staged: u64,
        /// Entries in the checkpoint.
        signed: u64,
    },
    /// The entries aren't those that were signed. Either who sent them lies or the operator does; a
    /// consistency proof tells, see [`Mirror::check_consistency`].
    #[error(
        "the entries hash to root {computed} at size {size}, the checkpoint says {signed}; fetch them from another member"
    )]
    RootMismatch {
        /// Entries in the checkpoint.
        size: u64,
        /// Root in the checkpoint.
        signed: Hash,
        /// Root of what is here and was staged.
        computed: Hash,
    },
    /// A proof doesn't show what it should, which says nothing about the log.
    #[error("the consistency proof does not hold; ask another member for one")]
    BadProof(#[source] ProofError),
    /// An entry is longer than any log's.
    #[error("an entry of {got} bytes: no log has entries above {MAX_ENTRY_BYTES}")]
    EntryTooLong {
        /// Its length in bytes.
        got: usize,
    },
    /// An earlier write failed half-way.
    #[error("an earlier write to the mirror in {} failed; open it again before going on", dir.display())]
    Broken {
        /// The folder.
        dir: PathBuf,
    },
}

/// A copy of a log and the right to extend it. The folder has one writer at a time.
#[derive(Debug)]
pub struct Mirror {
    store: Store,
    vkey: VerifierKey,
    policy: Policy,
    current: Checkpoint,
    note: Option<String>,
    staged: Staged,
    broken: bool,
}

#[derive(Debug)]
struct Staged {
    range: CompactRange,
    spool: Option<BufWriter<File>>,
}

impl Mirror {
    /// Opens the mirror in `dir`, or makes an empty one; reads all of it, and completes a commit that a
    /// killed process left undone. Staged entries don't survive.
    ///
    /// # Errors
    ///
    /// [`MirrorError`]: another process has it, another log's folder, damage, a disk error.
    pub fn open(dir: &Path, vkey: &VerifierKey) -> Result<Self, MirrorError> {
        Self::open_on(Disk::lock(dir)?, vkey)
    }

    fn open_on(mut disk: Disk, vkey: &VerifierKey) -> Result<Self, MirrorError> {
        let got = vkey.to_string();
        match disk.get(VKEY)?.map(|bytes| String::from_utf8_lossy(&bytes).trim_end().to_owned()) {
            Some(expected) if expected != got => {
                return Err(MirrorError::WrongLog { dir: disk.root().to_owned(), expected, got });
            }
            Some(_) => {}
            None => {
                disk.put(VKEY, format!("{got}\n").as_bytes())?;
                disk.sync()?;
            }
        }
        let dir = disk.root().to_owned();
        let damaged = |source| MirrorError::Damaged { dir: dir.clone(), source };
        let published = read_note(&disk, CHECKPOINT, vkey)?;
        let size = published.as_ref().map(|signed| signed.checkpoint.size);
        let kept = Folder::new(&dir).kept_sizes().map_err(at("list", &dir.join("checkpoints")))?;
        // a signed statement isn't forgotten because somebody put an older checkpoint in its place
        let newest = match kept.last() {
            Some(&kept) if size.is_none_or(|size| kept > size) => {
                read_note(&disk, &format!("checkpoints/{kept}"), vkey)?
            }
            _ => None,
        };
        let signed = newest.or(published);
        let current = signed.as_ref().map_or_else(
            || Checkpoint { origin: vkey.name().to_owned(), size: 0, root: empty_root() },
            |signed| signed.checkpoint.clone(),
        );
        let note = signed.map(|signed| signed.note);
        let mut store = Store::load(disk, &current).map_err(damaged)?;
        // a killed process may have left one of the two unwritten
        if let Some(note) = &note {
            for path in [CHECKPOINT.to_owned(), format!("checkpoints/{}", current.size)] {
                if store.disk.get(&path)?.as_deref() != Some(note.as_bytes()) {
                    store.disk.put(&path, note.as_bytes())?;
                    store.disk.sync()?;
                }
            }
        }
        let staged = Staged { range: store.range().clone(), spool: None };
        let (vkey, policy) = (vkey.clone(), Policy::none());
        Ok(Self { store, vkey, policy, current, note, staged, broken: false })
    }

    /// From now on only commits what a quorum of this policy has cosigned.
    pub fn require(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// Stages the entries and commits them: the new root must be exactly the old entries plus these. On any
    /// error the staged entries are dropped.
    ///
    /// # Errors
    ///
    /// As [`Mirror::stage`] and [`Mirror::commit`].
    pub fn extend(&mut self, entries: &[Vec<u8>], checkpoint_note: &str) -> Result<(), MirrorError> {
        let extended = self.stage(entries).and_then(|()| self.commit(checkpoint_note));
        if extended.is_err() {
            self.discard_staged();
        }
        extended
    }

    /// Takes entries that follow what is here and staged already. They're kept in a spool file, not in memory,
    /// and count for nothing until a checkpoint commits them.
    ///
    /// # Errors
    ///
    /// [`MirrorError::EntryTooLong`], which stages nothing; [`MirrorError::Disk`], after which everything staged
    /// is dropped.
    pub fn stage(&mut self, entries: &[Vec<u8>]) -> Result<(), MirrorError> {
        self.expect_whole()?;
        if let Some(entry) = entries.iter().find(|entry| entry.len() > MAX_ENTRY_BYTES) {
            return Err(MirrorError::EntryTooLong { got: entry.len() });
        }
        let staged = self.staged.range.size();
        if entries.len() as u64 > MAX_SIZE - staged {
            return Err(MirrorError::SizeMismatch { staged, signed: MAX_SIZE });
        }
        if entries.is_empty() {
            return Ok(());
        }
        let spooled = self.spool(entries);
        if spooled.is_err() {
            self.discard_staged();
        }
        spooled
    }

    fn spool(&mut self, entries: &[Vec<u8>]) -> Result<(), MirrorError> {
        let path = self.store.disk.root().join(SPOOL);
        let mut spool = match self.staged.spool.take() {
            Some(spool) => spool,
            None => BufWriter::new(File::create(&path).map_err(at("create", &path))?),
        };
        for entry in entries {
            let length =
                u16::try_from(entry.len()).map_err(|_| MirrorError::EntryTooLong { got: entry.len() })?;
            spool.write_all(&length.to_be_bytes()).map_err(at("write", &path))?;
            spool.write_all(entry).map_err(at("write", &path))?;
            self.staged.range.append(leaf_hash(entry));
        }
        self.staged.spool = Some(spool);
        Ok(())
    }

    /// Entries committed and staged.
    #[must_use]
    pub const fn staged_size(&self) -> u64 {
        self.staged.range.size()
    }

    /// Forgets what is staged.
    pub fn discard_staged(&mut self) {
        self.staged.spool = None;
        self.staged.range = self.store.range().clone();
    }

    /// Commits everything staged under a checkpoint of exactly that size. When this returns, the entries and
    /// the checkpoint are on the disk. A checkpoint of the size already here is stored anew, with whatever
    /// cosignatures it has gained, and leaves what is staged alone.
    ///
    /// # Errors
    ///
    /// [`MirrorError::RootMismatch`] drops what is staged; [`MirrorError::BadCheckpoint`] (which a missing quorum is too),
    /// [`MirrorError::Rollback`], [`MirrorError::Equivocation`] and [`MirrorError::SizeMismatch`] leave it. The
    /// committed entries stay as they were in every case. After [`MirrorError::Disk`], open the mirror again.
    pub fn commit(&mut self, checkpoint_note: &str) -> Result<(), MirrorError> {
        self.expect_whole()?;
        // the log's own signature is enough to accuse it; to be followed, a checkpoint needs the quorum too
        let signed = SignedCheckpoint::verify(checkpoint_note.as_bytes(), &self.vkey)?;
        let Checkpoint { size, root, .. } = signed.checkpoint;
        let quorum = self.policy.verify(checkpoint_note.as_bytes(), &self.vkey);
        if size <= self.size() {
            let ours = self.root_at(size)?;
            if ours != root {
                return Err(self.equivocation(size, ours, root, &signed.note));
            }
            if size < self.size() {
                return Err(MirrorError::Rollback { ours: self.size(), got: size });
            }
        } else {
            let staged = self.staged.range.size();
            if size != staged {
                return Err(MirrorError::SizeMismatch { staged, signed: size });
            }
            let computed = self.staged.range.root();
            if computed != root {
                self.discard_staged();
                return Err(MirrorError::RootMismatch { size, signed: root, computed });
            }
        }
        quorum?;
        self.broken = true;
        if size > self.size() {
            self.store_staged(&signed.checkpoint)?;
        }
        self.store.disk.put(CHECKPOINT, signed.note.as_bytes())?;
        self.store.disk.sync()?;
        // kept only when published: a reader who finds a newer note than the current one cries rollback
        self.store.disk.put(&format!("checkpoints/{size}"), signed.note.as_bytes())?;
        self.store.disk.sync()?;
        self.current = signed.checkpoint;
        self.note = Some(signed.note);
        self.broken = false;
        Ok(())
    }

    fn store_staged(&mut self, signed: &Checkpoint) -> Result<(), MirrorError> {
        let path = self.store.disk.root().join(SPOOL);
        if let Some(mut spool) = self.staged.spool.take() {
            spool.flush().map_err(at("write", &path))?;
            let mut reader = BufReader::new(File::open(&path).map_err(at("open", &path))?);
            let mut entry = Vec::new();
            for _ in self.store.range().size()..signed.size {
                let mut length = [0; 2];
                reader.read_exact(&mut length).map_err(at("read", &path))?;
                entry.resize(usize::from(u16::from_be_bytes(length)), 0);
                reader.read_exact(&mut entry).map_err(at("read", &path))?;
                self.store.append(&entry)?;
            }
        }
        self.store.finish()?;
        let computed = self.store.range().root();
        if computed != signed.root {
            // the spool came back changed: this disk isn't to be trusted
            let source = ReadError::RootMismatch { size: signed.size, signed: signed.root, computed };
            return Err(self.damaged(source));
        }
        Ok(())
    }

    /// Holds another checkpoint of the log, with a consistency proof from the size of the smaller to the larger,
    /// against what is here. For telling a lying sender from a lying operator.
    ///
    /// # Errors
    ///
    /// [`MirrorError::Equivocation`] when the proof shows two histories; [`MirrorError::BadProof`] when it shows
    /// nothing; [`MirrorError::BadCheckpoint`].
    pub fn check_consistency(&self, checkpoint_note: &str, proof: &[Hash]) -> Result<(), MirrorError> {
        let signed = SignedCheckpoint::verify(checkpoint_note.as_bytes(), &self.vkey)?;
        let Checkpoint { size, root, .. } = signed.checkpoint;
        if size <= self.size() {
            let ours = self.root_at(size)?;
            return if ours == root {
                Ok(())
            } else {
                Err(self.equivocation(size, ours, root, &signed.note))
            };
        }
        match verify_consistency(proof, self.size(), self.current.root, size, root) {
            Ok(()) => Ok(()),
            Err(ProofError::OldRootMismatch { expected, computed }) => {
                Err(self.equivocation(self.size(), expected, computed, &signed.note))
            }
            Err(error) => Err(MirrorError::BadProof(error)),
        }
    }

    /// Entries committed.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.current.size
    }

    /// The root over them.
    #[must_use]
    pub const fn root(&self) -> Hash {
        self.current.root
    }

    /// The note they were committed under; `None` while nothing ever was.
    #[must_use]
    pub fn checkpoint_note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// The root of the first `size` committed entries.
    ///
    /// # Errors
    ///
    /// [`MirrorError::Damaged`] with [`ReadError::OutOfRange`] above the mirror's size, or when a tile can't be
    /// read.
    pub fn root_at(&self, size: u64) -> Result<Hash, MirrorError> {
        self.store.root_at(self.size(), size).map_err(|source| self.damaged(source))
    }

    /// One committed entry.
    ///
    /// # Errors
    ///
    /// [`MirrorError::Damaged`] with [`ReadError::OutOfRange`] when there is none, or when it can't be read.
    pub fn entry(&self, index: u64) -> Result<Vec<u8>, MirrorError> {
        self.store.entry(self.size(), index).map_err(|source| self.damaged(source))
    }

    /// Committed entries from index `from` on: at most `max_count` of them and `max_bytes` in all, but at least
    /// one where there is one. Empty at the end.
    ///
    /// # Errors
    ///
    /// [`MirrorError::Damaged`] when a bundle can't be read.
    pub fn entries(
        &self,
        from: u64,
        max_count: usize,
        max_bytes: usize,
    ) -> Result<Vec<Vec<u8>>, MirrorError> {
        self.store.entries(self.size(), from, max_count, max_bytes).map_err(|source| self.damaged(source))
    }

    /// The mirror's files, for [`crate::reader`].
    #[must_use]
    pub const fn folder(&self) -> &Folder {
        self.store.folder()
    }

    fn expect_whole(&self) -> Result<(), MirrorError> {
        if self.broken {
            return Err(MirrorError::Broken { dir: self.store.disk.root().to_owned() });
        }
        Ok(())
    }

    fn equivocation(&self, size: u64, ours: Hash, theirs: Hash, their_note: &str) -> MirrorError {
        let our_note = self.note.clone().unwrap_or_default();
        MirrorError::Equivocation { size, ours, theirs, our_note, their_note: their_note.to_owned() }
    }

    fn damaged(&self, source: ReadError) -> MirrorError {
        MirrorError::Damaged { dir: self.store.disk.root().to_owned(), source }
    }
}

fn read_note(disk: &Disk, path: &str, vkey: &VerifierKey) -> Result<Option<SignedCheckpoint>, MirrorError> {
    let Some(note) = disk.get(path)? else { return Ok(None) };
    match SignedCheckpoint::verify(&note, vkey) {
        Ok(signed) => Ok(Some(signed)),
        Err(source) => Err(MirrorError::Damaged {
            dir: disk.root().to_owned(),
            source: ReadError::BadCheckpoint { path: path.to_owned(), source },
        }),
    }
}

#[cfg(test)]
mod tests;
