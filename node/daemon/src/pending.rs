//! A finished round that may not have reached the ledger yet, kept on disk so that a kill does not waste it.

use std::{fs, io, io::Write, path::PathBuf};

use talkoot_protocol::{canonical, event::Commit};

/// Greatest length of a kept commit in bytes.
const MAX_BYTES: usize = 4_096;

/// The file with the last commit that was made.
#[derive(Debug)]
pub(crate) struct Pending {
    path: PathBuf,
}

impl Pending {
    pub(crate) const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Keeps `commit`, durably.
    pub(crate) fn keep(&self, commit: &Commit) -> io::Result<()> {
        let temporary = self.path.with_extension("tmp");
        let mut file = fs::File::create(&temporary)?;
        file.write_all(&canonical::to_bytes(commit))?;
        file.sync_all()?;
        fs::rename(&temporary, &self.path)
    }

    /// The kept commit when it is of `round`; a damaged file is as good as none, since the round can be trained
    /// again.
    pub(crate) fn of_round(&self, round: u64) -> Option<Commit> {
        let bytes = fs::read(&self.path).ok()?;
        let commit: Commit = canonical::from_bytes("kept commit", &bytes, MAX_BYTES).ok()?;
        (commit.round == round).then_some(commit)
    }
}
