//! Reading a ledger while it grows, from its files alone.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use talkoot_ledger::{Folder, VerifierKey, reader};
use talkoot_protocol::{entry::Entry, event::Event, run::RunState};

/// A ledger's folder, read as far as it goes.
#[derive(Debug)]
pub(crate) struct LedgerWatch {
    dir: PathBuf,
    key: Option<VerifierKey>,
    state: Option<RunState>,
}

/// An entry and the state of the run after it.
pub(crate) struct Happening {
    pub(crate) index: u64,
    pub(crate) author: talkoot_protocol::identity::MemberId,
    pub(crate) event: Event,
}

impl LedgerWatch {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), key: None, state: None }
    }

    /// The run's state as far as it was read; none before the first entry.
    pub(crate) const fn state(&self) -> Option<&RunState> {
        self.state.as_ref()
    }

    /// Reads what is new and shows each entry with the state after it; returns how many there were. A log that is
    /// just being written to may show nothing new for a moment.
    pub(crate) fn read_new(&mut self, mut see: impl FnMut(&Happening, &RunState)) -> Result<u64> {
        let key = match &self.key {
            Some(key) => key.clone(),
            None => {
                let path = self.dir.join("log.vkey");
                let Ok(text) = std::fs::read_to_string(&path) else { return Ok(0) };
                let key: VerifierKey = text.trim().parse().with_context(|| path.display().to_string())?;
                self.key.insert(key).clone()
            }
        };
        let folder = Folder::new(&self.dir);
        let Ok(signed) = reader::current(&folder, &key) else { return Ok(0) };
        let from = self.state.as_ref().map_or(0, RunState::size);
        for index in from..signed.checkpoint.size {
            let bytes = reader::entry(&folder, &signed.checkpoint, index)?;
            let entry = Entry::from_bytes(&bytes)?;
            let (state, event) = match self.state.take() {
                None => {
                    let state = RunState::begin(&bytes)?;
                    let event = Event::Manifest(Box::new(state.manifest().clone()));
                    (state, event)
                }
                Some(mut state) => {
                    let event = state.apply(&bytes).with_context(|| format!("entry {index}"))?;
                    (state, event)
                }
            };
            see(&Happening { index, author: entry.statement.author, event }, &state);
            self.state = Some(state);
        }
        Ok(signed.checkpoint.size.saturating_sub(from))
    }
}
