//! A witness (`tlog-witness` at c2sp.org): it cosigns a checkpoint when that continues the last one that it
//! cosigned for the log, and so never vouches for two histories of one log.
//!
//! ```text
//! add-checkpoint:  old <size>                 what the log believes this witness saw last
//!                  <consistency proof>        from there to
//!                  <checkpoint>               this one, signed by the log
//!
//!    parse -> known log? -> log's signature? -> old = what I have? -> consistent? -> PERSIST -> answer
//! ```
//!
//! The state is one small file for each log: the checkpoint that was cosigned last, with both signatures. It is
//! on the disk before the cosignature leaves this module, and the whole call holds `&mut self`, so that check
//! and persistence are one step. Speaking HTTP is another room's business.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use crate::{
    checkpoint::{Checkpoint, CheckpointError},
    disk::{Disk, DiskError},
    note::{KeyKind, Note, NoteError, NoteSignature, SignerKey, VerifierKey},
    tree::verify_consistency,
};

mod refusal;
mod request;

pub use refusal::Refusal;
pub use request::{AddCheckpoint, MAX_REQUEST_BYTES, MAX_REQUEST_HASHES, RequestError};

/// The most logs that one witness looks after; each costs memory and a file.
pub const MAX_LOGS: usize = 4_096;

/// Why a witness can't work, or can't go on working.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WitnessError {
    /// A file operation failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The key is a log's.
    #[error("{name} is the key of a log; a witness needs a cosigner's key of its own")]
    NotACosigner {
        /// The key's name.
        name: String,
    },
    /// A key on the list is no log's.
    #[error("{name} is no key of a log")]
    NotALog {
        /// The key's name.
        name: String,
    },
    /// Two keys on the list have the same name.
    #[error("the list of logs has two keys for {origin}; a log has one")]
    TwoKeys {
        /// The origin.
        origin: String,
    },
    /// The list is too long.
    #[error("{got} logs, and a witness looks after at most {MAX_LOGS}")]
    TooManyLogs {
        /// Logs on the list.
        got: usize,
    },
    /// The folder is a copy.
    #[error(
        "the witness's folder {} is a copy or was restored from a backup: cosigning from an old state vouches for \
         two histories. Use the original folder, or begin anew with another key",
        dir.display()
    )]
    Copied {
        /// The folder.
        dir: PathBuf,
    },
    /// A file of the state can't be read.
    #[error("{} is damaged: {source}; a witness that has lost its memory has to begin anew with another key", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: CheckpointError,
    },
}

/// What was cosigned last for one log.
#[derive(Debug, Clone)]
struct Seen {
    checkpoint: Checkpoint,
    unix_seconds: u64,
}

#[derive(Debug)]
struct Watched {
    key: VerifierKey,
    seen: Option<Seen>,
}

/// A witness with its memory.
#[derive(Debug)]
pub struct Witness {
    disk: Disk,
    signer: SignerKey,
    logs: BTreeMap<String, Watched>,
    /// The latest time that was signed: cosignature times never go back, whatever the clock does.
    latest: u64,
    broken: bool,
}

impl Witness {
    /// Opens the witness's folder, or makes it, for these logs. What is remembered of logs that are not on the
    /// list is kept.
    ///
    /// # Errors
    ///
    /// [`WitnessError`]: another process has the folder, a copied or damaged one, wrong keys, a disk error.
    pub fn open(dir: &Path, signer: SignerKey, logs: &[VerifierKey]) -> Result<Self, WitnessError> {
        if signer.verifier().kind() != KeyKind::Cosigner {
            return Err(WitnessError::NotACosigner { name: signer.verifier().name().to_owned() });
        }
        if logs.len() > MAX_LOGS {
            return Err(WitnessError::TooManyLogs { got: logs.len() });
        }
        let mut disk = Disk::lock(dir)?;
        if !disk.is_original()? {
            if dir.join("logs").exists() {
                return Err(WitnessError::Copied { dir: dir.to_owned() });
            }
            disk.claim()?;
        }
        let mut witness = Self { disk, signer, logs: BTreeMap::new(), latest: 0, broken: false };
        for key in logs {
            if key.kind() != KeyKind::Log {
                return Err(WitnessError::NotALog { name: key.name().to_owned() });
            }
            let seen = witness.remembered(key)?;
            witness.latest = witness.latest.max(seen.as_ref().map_or(0, |seen| seen.unix_seconds));
            let origin = key.name().to_owned();
            if witness.logs.insert(origin.clone(), Watched { key: key.clone(), seen }).is_some() {
                return Err(WitnessError::TwoKeys { origin });
            }
        }
        Ok(witness)
    }

    /// The witness's public key.
    #[must_use]
    pub fn vkey(&self) -> VerifierKey {
        self.signer.verifier()
    }

    /// The size of the checkpoint that was cosigned last for the log of this origin; none when none was.
    #[must_use]
    pub fn seen(&self, origin: &str) -> Option<u64> {
        self.logs.get(origin)?.seen.as_ref().map(|seen| seen.checkpoint.size)
    }

    /// Answers an `add-checkpoint` request with a cosignature, or says why not. `unix_seconds` is the time; a
    /// clock that was put back does not bring cosignature times back. When this returns a cosignature, the
    /// checkpoint is on the disk.
    ///
    /// # Errors
    ///
    /// [`Refusal`], with the status to answer. After [`Refusal::Disk`] the witness refuses everything until it's
    /// opened again.
    pub fn add_checkpoint(&mut self, body: &[u8], unix_seconds: u64) -> Result<NoteSignature, Refusal> {
        if self.broken {
            return Err(Refusal::Broken);
        }
        let AddCheckpoint { old, proof, note } = AddCheckpoint::parse(body)?;
        let note = Note::parse(note.as_bytes()).map_err(CheckpointError::from)?;
        let checkpoint = Checkpoint::parse(note.text())?;
        let watched = self
            .logs
            .get(&checkpoint.origin)
            .ok_or_else(|| Refusal::UnknownLog { origin: checkpoint.origin.clone() })?;
        match note.verify(std::slice::from_ref(&watched.key)) {
            Ok(signatures) if !signatures.is_empty() => {}
            Ok(_) => {
                let (name, key_id) = (watched.key.name().to_owned(), watched.key.id());
                return Err(Refusal::Unsigned(NoteError::MissingSignature { name, key_id }));
            }
            Err(error) => return Err(Refusal::Unsigned(error)),
        }
        if old > checkpoint.size {
            return Err(Refusal::OldAboveNew { old, new: checkpoint.size });
        }
        let seen = watched.seen.as_ref().map(|seen| &seen.checkpoint);
        let size = seen.map_or(0, |seen| seen.size);
        if old != size {
            return Err(Refusal::Conflict { size });
        }
        if let Some(seen) = seen.filter(|seen| seen.size == checkpoint.size)
            && seen.root != checkpoint.root
        {
            // with the note that was cosigned, this one proves that the log has two histories: keep it
            let evidence = format!("evidence/{}-{size}", file_name(&checkpoint.origin));
            let refusal = Refusal::Fork { size, seen: seen.root, got: checkpoint.root };
            if self.disk.get(&evidence)?.is_none() {
                self.disk.put(&evidence, note.to_string().as_bytes())?;
                self.disk.sync()?;
            }
            return Err(refusal);
        }
        let old_root = seen.map_or_else(crate::tree::empty_root, |seen| seen.root);
        verify_consistency(&proof, old, old_root, checkpoint.size, checkpoint.root)
            .map_err(Refusal::BadProof)?;

        let unix_seconds = unix_seconds.max(self.latest);
        let (name, key_id) = (watched.key.name().to_owned(), watched.key.id());
        // only the log's own line is kept, whatever else the asker put there
        let mut kept = note.with_only(|line| line.name == name && line.key_id == key_id);
        let cosignature = self.signer.sign(kept.text(), unix_seconds);
        kept.add(cosignature.clone()).map_err(CheckpointError::from)?;
        self.broken = true;
        self.disk.put(&state_file(&checkpoint.origin), kept.to_string().as_bytes())?;
        self.disk.sync()?;
        self.broken = false;
        self.latest = unix_seconds;
        if let Some(watched) = self.logs.get_mut(&name) {
            watched.seen = Some(Seen { checkpoint, unix_seconds });
        }
        Ok(cosignature)
    }

    fn remembered(&self, log: &VerifierKey) -> Result<Option<Seen>, WitnessError> {
        let file = state_file(log.name());
        let Some(note) = self.disk.get(&file)? else { return Ok(None) };
        let keys = [log.clone(), self.signer.verifier()];
        let seen = Note::parse(&note).map_err(CheckpointError::from).and_then(|note| {
            let checkpoint = Checkpoint::parse(note.text())?;
            let signatures = note.verify(&keys)?;
            for (at, key) in keys.iter().enumerate() {
                if !signatures.iter().any(|signature| signature.key == at) {
                    let (name, key_id) = (key.name().to_owned(), key.id());
                    return Err(NoteError::MissingSignature { name, key_id }.into());
                }
            }
            let unix_seconds = signatures.iter().filter_map(|signature| signature.unix_seconds).max();
            Ok(Seen { checkpoint, unix_seconds: unix_seconds.unwrap_or(0) })
        });
        seen.map(Some).map_err(|source| WitnessError::Damaged { path: self.disk.root().join(file), source })
    }
}

fn state_file(origin: &str) -> String {
    format!("logs/{}", file_name(origin))
}

/// Origins are of any length and have slashes, so files are named by their hash.
fn file_name(origin: &str) -> String {
    HEXLOWER.encode(&Sha256::digest(origin.as_bytes()))
}

#[cfg(test)]
mod tests;
