//! The coordinator's folder: made once by `run init`, opened at every start.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use talkoot_ledger::{Log, LogError, SignerKey};
use talkoot_network::{
    BlobStore, StoreError,
    keyfile::{self, KeyFileError},
};
use talkoot_protocol::{
    digest::{BlobRef, Digest},
    entry::{Entry, Statement},
    event::Event,
    identity::Keypair,
    manifest::{Bindings, DatasetBinding, Manifest, ManifestError, RunId, Terms},
    run::{RuleError, RunState},
};

pub(crate) use crate::clock::now_ms;

/// Why a run's folder cannot be made or opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// There is a run already.
    #[error("{} already holds a run; choose another folder", dir.display())]
    Taken {
        /// The folder.
        dir: PathBuf,
    },
    /// There is no run.
    #[error("{} holds no run; make one with `talkoot run init`", dir.display())]
    Empty {
        /// The folder.
        dir: PathBuf,
    },
    /// The manifest is refused.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A key file is missing, unreadable or malformed.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The log.
    #[error("the ledger in {}: {source}", dir.display())]
    Log {
        /// The ledger's folder.
        dir: PathBuf,
        /// What went wrong.
        source: LogError,
    },
    /// The blob store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log holds an entry that breaks a rule.
    #[error("entry {index} of the ledger in {} breaks a rule: {source}", dir.display())]
    BrokenRule {
        /// Index of the entry.
        index: u64,
        /// The ledger's folder.
        dir: PathBuf,
        /// The rule.
        source: RuleError,
    },
    /// A file is not what its name says.
    #[error("{} hashes to {got} instead of {expected}: it was damaged or changed; pack the data again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The hash that it has to have.
        expected: Digest,
        /// The hash that it has.
        got: Digest,
    },
    /// A file operation.
    #[error("{operation} {}: {source}", path.display())]
    Io {
        /// What was done.
        operation: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What a new run is made of.
#[derive(Debug)]
pub struct NewRun<'a> {
    /// The terms.
    pub terms: Terms,
    /// `config.json` of the model.
    pub config: &'a [u8],
    /// `tokenizer.json` of the model.
    pub tokenizer: &'a [u8],
    /// Canonical `model.safetensors` that the run starts from.
    pub initial_state: &'a [u8],
    /// The data set of each stage.
    pub datasets: Vec<DatasetBinding>,
    /// Files whose bytes become blobs, and the names that they have to hash to: indexes and shards.
    pub files: Vec<(PathBuf, Digest)>,
    /// Secret bytes of the operator's key, or none for fresh ones; given only where a run has to be repeatable.
    pub operator_seed: Option<[u8; 32]>,
}

/// A run's folder, opened: its keys, its log and its blobs, for this process alone.
#[derive(Debug)]
pub struct Folder {
    pub(crate) dir: PathBuf,
    pub(crate) operator: Keypair,
    pub(crate) log: Log,
    pub(crate) store: BlobStore,
    pub(crate) state: RunState,
}

impl Folder {
    /// Makes a run in `dir`: keys, blobs, and the ledger with the manifest as entry 0.
    ///
    /// # Errors
    ///
    /// [`FolderError`] when the folder holds a run, the terms are refused, or a file cannot be written.
    pub fn create(dir: &Path, new: NewRun<'_>) -> Result<RunId, FolderError> {
        let ledger = dir.join("ledger");
        if ledger.join("checkpoint").exists() {
            return Err(FolderError::Taken { dir: dir.to_owned() });
        }
        new.terms.validate()?;
        let operator = match new.operator_seed {
            Some(seed) => keyfile::write(&dir.join("keys/operator.key"), &Keypair::from_seed(seed))?,
            None => keyfile::load_or_create(&dir.join("keys/operator.key"))?,
        };
        let log_key = match new.operator_seed {
            // Another key, not another use of the same one.
            Some(seed) => {
                let seed = *talkoot_protocol::digest::Digest::of(&[b"log key".as_slice(), &seed].concat())
                    .as_bytes();
                keyfile::write(&dir.join("keys/log.key"), &Keypair::from_seed(seed))?
            }
            None => keyfile::load_or_create(&dir.join("keys/log.key"))?,
        };
        let store = BlobStore::open(&dir.join("store"))?;
        for (file, expected) in &new.files {
            let got = store.put_file(file)?.digest;
            if got != *expected {
                return Err(FolderError::Damaged { path: file.clone(), expected: *expected, got });
            }
        }
        let origin = format!("talkoot.local/{}/{}", new.terms.name, operator.id().short());
        let signer = SignerKey::log(&origin, &log_key.seed())
            .map_err(|source| FolderError::Log { dir: ledger.clone(), source: source.into() })?;
        let put = |bytes: &[u8]| -> Result<BlobRef, StoreError> { store.put(bytes) };
        let manifest = Manifest {
            terms: new.terms,
            bindings: Bindings {
                operator: operator.id(),
                log_key: signer.verifier().to_string(),
                config: put(new.config)?,
                tokenizer: put(new.tokenizer)?,
                initial_state: put(new.initial_state)?,
                datasets: new.datasets,
            },
        };
        manifest.validate()?;
        let run = manifest.id();
        let statement = Statement::sign(run, &operator, &Event::Manifest(Box::new(manifest)));
        let first = Entry::new(0, now_ms(), statement).to_bytes();
        RunState::begin(&first).map_err(|source| FolderError::BrokenRule {
            index: 0,
            dir: ledger.clone(),
            source,
        })?;
        Log::create(&ledger, &origin, &log_key.seed())
            .and_then(|mut log| log.append(&[first]))
            .map_err(|source| FolderError::Log { dir: ledger, source })?;
        Ok(run)
    }

    /// Opens the run in `dir` and folds its ledger.
    ///
    /// # Errors
    ///
    /// [`FolderError`] when there is none, another coordinator has it, or its ledger is damaged.
    pub fn open(dir: &Path) -> Result<Self, FolderError> {
        let ledger = dir.join("ledger");
        if !ledger.join("checkpoint").exists() {
            return Err(FolderError::Empty { dir: dir.to_owned() });
        }
        let operator = keyfile::load(&dir.join("keys/operator.key"))?;
        let log_key = keyfile::load(&dir.join("keys/log.key"))?;
        let at = |source| FolderError::Log { dir: ledger.clone(), source };
        let log = Log::open_unpublished(&ledger, &log_key.seed()).map_err(at)?;
        let store = BlobStore::open(&dir.join("store"))?;
        let broken = |index, source| FolderError::BrokenRule { index, dir: ledger.clone(), source };
        let mut state = RunState::begin(&log.entry(0).map_err(at)?).map_err(|source| broken(0, source))?;
        // what was signed will be published, so it counts; it was not acknowledged yet
        for index in 1..log.signed().checkpoint.size {
            let entry = log.entry(index).map_err(at)?;
            state.apply(&entry).map_err(|source| broken(index, source))?;
        }
        Ok(Self { dir: dir.to_owned(), operator, log, store, state })
    }

    /// Makes a folder that was copied here the original. Only for who knows that the other one is gone, and that
    /// nobody holds a newer checkpoint than this copy.
    ///
    /// # Errors
    ///
    /// [`FolderError::Log`] when it holds no ledger or cannot be written.
    pub fn claim(dir: &Path) -> Result<(), FolderError> {
        let ledger = dir.join("ledger");
        Log::claim(&ledger).map_err(|source| FolderError::Log { dir: ledger, source })
    }

    /// The run's state as the ledger gives it.
    pub const fn state(&self) -> &RunState {
        &self.state
    }
}

/// Writes a small file so that readers see the old or the new one, never half of it.
pub(crate) fn replace_file(path: &Path, bytes: &[u8]) -> Result<(), FolderError> {
    let io = |operation| {
        let path = path.to_owned();
        move |source| FolderError::Io { operation, path, source }
    };
    let temporary = path.with_extension("tmp");
    fs::write(&temporary, bytes).map_err(io("writing"))?;
    fs::rename(&temporary, path).map_err(io("replacing"))
}
