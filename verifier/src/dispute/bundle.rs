//! The bundle: a folder with everything that a dispute is judged by, and nothing that has to be believed.
//!
//! ```text
//! <folder>/ledger/        a copy of the log, up to the draw: checkpoint, log.vkey, tile/
//!          verdict        the accuser's signed statement, canonical bytes
//!          blobs/<hex>    traces, training state, start state, shards, config: each named by its hash
//! ```
//! Rules and rounds come from folding the log, so that not even the step's packs are somebody's word; everything else is found
//! by the hashes that log, verdict and traces name. Whatever is changed, something no longer fits.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use talkoot_ledger::{Folder, VerifierKey, reader};
use talkoot_protocol::{
    digest::{BlobRef, Digest},
    entry::{MAX_STATEMENT_BYTES, Statement},
    event::{Commit, Divergence, Event, Finding, Role, Verdict},
    identity::MemberId,
    run::{Round, RunState},
};

/// Files and folders of a bundle.
pub(super) const LEDGER: &str = "ledger";
pub(super) const VERDICT: &str = "verdict";
pub(super) const BLOBS: &str = "blobs";
/// Beside the log, for convenience; the manifest names it too.
pub(super) const LOG_KEY: &str = "log.vkey";

/// A dispute as its bundle tells it, everything checked but what has to be executed.
#[derive(Debug)]
pub struct Bundle {
    /// The run, as the bundle's log leaves it.
    pub(super) state: RunState,
    /// The round, when it was sealed.
    pub(super) round: Round,
    /// Who is accused.
    pub(super) member: MemberId,
    /// Of what.
    pub(super) commit: Commit,
    /// Ledger index of the commit.
    pub(super) index: u64,
    /// Who accuses.
    pub(super) accuser: MemberId,
    /// What it says.
    pub(super) accusation: Divergence,
    /// Entries in the bundle's log.
    pub(super) entries: u64,
    blobs: PathBuf,
}

/// Why a bundle shows nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// A file is missing or cannot be read.
    #[error("{what} cannot be read: {path}: {source}")]
    Io {
        /// What it is.
        what: &'static str,
        /// Where it should be.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The log's key cannot be read.
    #[error("the log's key cannot be read: {reason}")]
    Key {
        /// What is wrong with it.
        reason: String,
    },
    /// The log is not what its operator signed.
    #[error("the bundle's log is refused: {reason}")]
    Log {
        /// What is wrong with it.
        reason: String,
    },
    /// The log is signed by another key than the manifest names.
    #[error("the manifest names another log key than the one that signed the bundle's log")]
    OtherKey,
    /// An entry breaks a rule.
    #[error("entry {entry} of the bundle's log breaks a rule: {reason}")]
    Rule {
        /// Its index.
        entry: u64,
        /// The rule.
        reason: String,
    },
    /// The verdict is not its author's statement.
    #[error("the accuser's verdict is refused: {reason}")]
    Statement {
        /// What is wrong with it.
        reason: String,
    },
    /// The statement accuses nobody.
    #[error("the accuser's statement is no verdict that something failed, so that there is nothing to judge")]
    NoAccusation,
    /// Who accuses is no verifier of the run.
    #[error("the verdict is by {}, who is no verifier of the run", author.short())]
    NotAVerifier {
        /// Who signed it.
        author: MemberId,
    },
    /// The verdict is about something that the log has not.
    #[error("the verdict is about commit {commit} of round {round}, which the bundle's log does not have")]
    NoSuchCommit {
        /// The round that it names.
        round: u64,
        /// The ledger index that it names.
        commit: u64,
    },
    /// A blob is not there.
    #[error("{what} is missing: blob {digest}")]
    Missing {
        /// What it is.
        what: &'static str,
        /// Its name.
        digest: Digest,
    },
    /// A file is not the blob that it is called.
    #[error("{what} is damaged: the file {digest} has other bytes than its name says")]
    Damaged {
        /// What it is.
        what: &'static str,
        /// Its name.
        digest: Digest,
    },
}

impl Bundle {
    /// Opens a bundle and checks the log and both signatures. `key` is the log's verifier key when it is known from elsewhere.
    ///
    /// # Errors
    ///
    /// [`BundleError`]: what does not fit.
    pub fn open(folder: &Path, key: Option<&str>) -> Result<Self, BundleError> {
        let ledger = folder.join(LEDGER);
        let text = match key {
            Some(key) => key.to_owned(),
            None => read_small("the log's key", &ledger.join(LOG_KEY), 1 << 10)
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())?,
        };
        let key: VerifierKey = text.trim().parse().map_err(|error: talkoot_ledger::note::KeyError| {
            BundleError::Key { reason: error.to_string() }
        })?;
        let statement =
            read_small("the accuser's verdict", &folder.join(VERDICT), MAX_STATEMENT_BYTES as u64)?;
        let refused = |reason: String| BundleError::Statement { reason };
        let statement = Statement::from_bytes(&statement).map_err(|error| refused(error.to_string()))?;
        let mut entries = Vec::new();
        reader::replay(&Folder::new(&ledger), &key, |_, entry| entries.push(entry.to_vec()))
            .map_err(|error| BundleError::Log { reason: crate::audit::chain(&error) })?;
        let rule = |entry: u64| {
            move |error: talkoot_protocol::run::RuleError| BundleError::Rule {
                entry,
                reason: error.to_string(),
            }
        };
        let first = entries.first().ok_or(BundleError::Log { reason: "it is empty".to_owned() })?;
        let mut state = RunState::begin(first).map_err(rule(0))?;
        if state.manifest().bindings.log_key != key.to_string() {
            return Err(BundleError::OtherKey);
        }
        let event = statement.open(&state.run()).map_err(|error| refused(error.to_string()))?;
        let Event::Verdict(Verdict {
            round: number, commit: index, finding: Finding::Fail(accusation), ..
        }) = event
        else {
            return Err(BundleError::NoAccusation);
        };
        let mut round = None;
        for (entry, bytes) in (1..).zip(&entries[1..]) {
            let event = state.apply(bytes).map_err(rule(entry))?;
            if matches!(event, Event::Seal(_)) {
                round = state.round().filter(|open| open.open.round == number).cloned().or(round);
            }
        }
        let accuser = statement.author;
        if state.members().get(&accuser).is_none_or(|member| member.role != Role::Verifier) {
            return Err(BundleError::NotAVerifier { author: accuser });
        }
        let nothing = BundleError::NoSuchCommit { round: number, commit: index };
        let Some(round) = round else { return Err(nothing) };
        let Some((member, record)) = round.commit_at(index) else { return Err(nothing) };
        let (member, commit) = (*member, record.commit.clone());
        let (entries, blobs) = (state.size(), folder.join(BLOBS));
        Ok(Self { state, member, commit, round, index, accuser, accusation, entries, blobs })
    }

    /// Where the blobs lie.
    pub(super) fn blobs(&self) -> &Path {
        &self.blobs
    }

    /// Reads a blob; its length is looked at before it is read.
    pub(super) fn read(&self, what: &'static str, blob: &BlobRef) -> Result<Vec<u8>, BundleError> {
        let path = self.blobs.join(blob.digest.to_string());
        let digest = blob.digest;
        let found = fs::metadata(&path).map_err(|_| BundleError::Missing { what, digest })?;
        if found.len() != blob.bytes {
            return Err(BundleError::Damaged { what, digest });
        }
        let bytes = fs::read(&path).map_err(|_| BundleError::Missing { what, digest })?;
        if Digest::of(&bytes) == digest { Ok(bytes) } else { Err(BundleError::Damaged { what, digest }) }
    }
}

/// Reads a file of at most `most` bytes.
fn read_small(what: &'static str, path: &Path, most: u64) -> Result<Vec<u8>, BundleError> {
    let failed = |source| BundleError::Io { what, path: path.display().to_string(), source };
    let length = fs::metadata(path).map_err(failed)?.len();
    if length > most {
        let reason = format!("{length} bytes, more than the {most} that it may have");
        return Err(failed(io::Error::new(io::ErrorKind::InvalidData, reason)));
    }
    fs::read(path).map_err(failed)
}
