//! What shows later, to anybody, that a member's own statements were in the log.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use talkoot_ledger::{Mirror, Receipt, VerifierKey};
use talkoot_protocol::{
    entry::{Entry, Statement},
    event::Event,
    identity::MemberId,
};

use crate::ReplicaError;

/// A folder of receipts beside the copy of the ledger: for each of the member's commits and verdicts the entry and its
/// `.tlog-proof`, which the log's key and the policy's witnesses have signed. Should the log ever show another history,
/// the two contradict each other.
#[derive(Debug)]
pub(crate) struct Receipts {
    dir: PathBuf,
    log_key: VerifierKey,
}

impl Receipts {
    /// Beside the copy of the ledger in `ledger`.
    pub(crate) fn new(ledger: &Path, log_key: VerifierKey) -> Self {
        Self { dir: ledger.with_file_name("receipts"), log_key }
    }

    /// Keeps a receipt of `entry`, which `mirror` holds at `index`, if it is one of `member`'s commits or verdicts and
    /// there is none yet.
    pub(crate) fn keep(
        &self,
        mirror: &Mirror,
        index: u64,
        entry: &[u8],
        member: MemberId,
    ) -> Result<(), ReplicaError> {
        if !Entry::from_bytes(entry).is_ok_and(|entry| matters(&entry.statement, member)) {
            return Ok(());
        }
        let path = self.dir.join(format!("{index}.tlog-proof"));
        if path.exists() {
            return Ok(());
        }
        let failed = |reason: String| ReplicaError::Receipt { path: path.clone(), reason };
        let receipt = Receipt::make(mirror.folder(), &self.log_key, index)
            .map_err(|error| failed(error.to_string()))?;
        // the receipt last: where it is, its entry is too
        fs::create_dir_all(&self.dir)
            .and_then(|()| put(&self.dir.join(format!("{index}.entry")), entry))
            .and_then(|()| put(&path, receipt.to_string().as_bytes()))
            .map_err(|error| failed(error.to_string()))
    }
}

/// Whether the statement is this member's, and one that it would be hurt by losing.
fn matters(statement: &Statement, member: MemberId) -> bool {
    statement.author == member
        && statement
            .open(&statement.run)
            .is_ok_and(|event| matches!(event, Event::Commit(_) | Event::Verdict(_)))
}

/// A file that is there whole or not at all.
fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    fs::write(&temporary, bytes)?;
    fs::rename(&temporary, path)
}
