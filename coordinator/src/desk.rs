//! The desk: statements come in, entries go into the log, answers go out.

use talkoot_ledger::{LogError, SignedCheckpoint};
use talkoot_protocol::{
    entry::{Entry, Statement},
    event::Event,
    identity::Keypair,
    message::{MAX_ENTRIES, MAX_ENTRIES_BYTES, Request, Response},
    run::{RuleError, RunState},
};

use crate::{
    folder::{Folder, now_ms},
    publishing::Publishing,
};

/// Accepts statements one by one and makes them durable together.
///
/// The fold takes a statement first, in memory; it is acknowledged only when the log holds it under a published
/// checkpoint. When the log cannot be written the process has to stop, as the fold is then ahead of the log; a restart
/// folds what is there. When witnesses that the manifest demands do not cosign, everything waits for them.
#[derive(Debug)]
pub(crate) struct Desk {
    folder: Folder,
    publishing: Publishing,
    /// Entries that the fold has taken and the log has not.
    pending: Vec<Vec<u8>>,
}

impl Desk {
    pub(crate) fn new(folder: Folder) -> Result<Self, talkoot_witness::PanelError> {
        let publishing = Publishing::new(folder.state.manifest(), &folder.log)?;
        Ok(Self { folder, publishing, pending: Vec::new() })
    }

    pub(crate) const fn state(&self) -> &RunState {
        self.folder.state()
    }

    /// Lets the fold take a statement. It is in the log after the next [`Desk::flush`].
    pub(crate) fn take(&mut self, statement: Statement) -> Result<(u64, Event), RuleError> {
        let index = self.folder.state.size();
        let time_ms = now_ms().max(self.folder.state.time_ms());
        let entry = Entry::new(index, time_ms, statement).to_bytes();
        let event = self.folder.state.apply(&entry)?;
        self.pending.push(entry);
        Ok((index, event))
    }

    /// Says something as the operator.
    pub(crate) fn say(&mut self, event: &Event) -> Result<u64, RuleError> {
        let statement = Statement::sign(self.folder.state.run(), &self.folder.operator, event);
        self.take(statement).map(|(index, _)| index)
    }

    /// Makes everything taken durable under a signed checkpoint and publishes it. Whether everything is published: it
    /// is not while witnesses are missing; then this is to be called again.
    pub(crate) async fn flush(&mut self) -> Result<bool, LogError> {
        if !self.pending.is_empty() {
            self.folder.log.sign(&self.pending)?;
            self.pending.clear();
        }
        self.publishing.publish(&mut self.folder.log).await
    }

    /// The operator's key.
    pub(crate) const fn operator(&self) -> &Keypair {
        &self.folder.operator
    }

    /// Whether something is signed that may not be shown yet. Until then nothing new is taken.
    pub(crate) fn is_waiting(&self) -> bool {
        self.publishing.is_waiting(&self.folder.log)
    }

    /// The latest published checkpoint.
    pub(crate) const fn checkpoint(&self) -> &SignedCheckpoint {
        self.folder.log.checkpoint()
    }

    /// Its note.
    pub(crate) fn head(&self) -> String {
        self.folder.log.checkpoint_note()
    }

    /// Answers a request that does not change the log; none when it is a submission.
    pub(crate) fn answer(&self, request: &Request) -> Option<Response> {
        if !self.publishing.may_show() && !matches!(request, Request::Submit { .. }) {
            let reason = "the ledger waits for its witnesses".to_owned();
            return Some(Response::NotServed { reason });
        }
        match request {
            Request::Head => Some(Response::Head { note: self.head() }),
            Request::Entries { from, max } => Some(self.entries(*from, *max)),
            Request::Submit { .. } => None,
        }
    }

    fn entries(&self, from: u64, max: u32) -> Response {
        let log = &self.folder.log;
        let max = max.min(MAX_ENTRIES) as usize;
        let entries =
            if from >= log.size() { Ok(Vec::new()) } else { log.entries(from, max, MAX_ENTRIES_BYTES) };
        match entries {
            Ok(entries) if from.saturating_add(entries.len() as u64) >= log.size() => Response::Entries {
                from,
                entries: entries.into_iter().map(Into::into).collect(),
                note: self.head(),
            },
            // The reader checks entries against the checkpoint that covers exactly them.
            Ok(entries) => match self.covered(from, entries) {
                Some(response) => response,
                None => Response::NotServed { reason: "no kept checkpoint covers so few entries".to_owned() },
            },
            Err(error) => Response::NotServed { reason: error.to_string() },
        }
    }

    /// The longest prefix of `entries` that ends where a checkpoint was signed, with that checkpoint.
    fn covered(&self, from: u64, mut entries: Vec<Vec<u8>>) -> Option<Response> {
        while !entries.is_empty() {
            let size = from.saturating_add(entries.len() as u64);
            let kept = self.folder.dir.join("ledger/checkpoints").join(size.to_string());
            if let Ok(note) = std::fs::read_to_string(kept) {
                return Some(Response::Entries {
                    from,
                    entries: entries.into_iter().map(Into::into).collect(),
                    note,
                });
            }
            entries.pop();
        }
        None
    }
}
