//! The audit: a stranger with the files checks everything that can be checked.
//!
//! ```text
//! 1. the log       signature, every tile, the history of checkpoints          (always)
//! 2. the rules     the fold: signatures, assignments, draws, verdicts         (always)
//! 3. the states    every aggregation, from the first weights to the last      (as far as blobs are there)
//! 4. the training  a share of the contributions, executed again               (as much as is asked for)
//! ```

mod blobs;
mod page;
mod report;
mod states;

use std::path::{Path, PathBuf};

use talkoot_ledger::{
    Folder, Policy, ReadError, SignedCheckpoint, TileSource as _, VerifierKey, note::MAX_NOTE_BYTES, reader,
};
use talkoot_protocol::{
    event::Event,
    run::{Phase, RuleError, RunState},
};

pub use page::page;
pub use report::{Counts, Lie, Report, Unchecked, Verdict};
pub use states::describe;

use blobs::Blobs;
use states::States;

/// What is audited, and how much of it.
#[derive(Debug, Clone)]
pub struct Options {
    /// Folder of the log.
    pub ledger: PathBuf,
    /// Folder with blobs as files named by their hash.
    pub blobs: PathBuf,
    /// The log's verifier key, when the auditor has it from elsewhere; otherwise the one that lies beside the log is
    /// taken, and the report says so.
    pub log_key: Option<String>,
    /// Share of the sealed contributions that are executed again, 0 to 1.
    pub replay: f64,
    /// Seed of the choice which ones; an auditor who wants to be unpredictable draws it at random.
    pub seed: u64,
}

/// Why there is no report at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// There is no readable key.
    #[error("no verifier key of the log: {reason}")]
    NoKey {
        /// What was tried.
        reason: String,
    },
    /// The log cannot be read; this says nothing about the run.
    #[error("the log cannot be read: {0}")]
    Unreadable(String),
}

/// Audits a run. `progress` hears what is being done.
///
/// # Errors
///
/// [`AuditError`] when there is nothing to audit. What is found wrong is in the report.
pub fn audit(options: &Options, progress: &mut dyn FnMut(&str)) -> Result<Report, AuditError> {
    let key = log_key(options)?;
    let folder = Folder::new(&options.ledger);
    let mut report = Report::new(options.log_key.is_some());
    progress("the log: signature, tiles, history");
    let mut entries: Vec<Vec<u8>> = Vec::new();
    let signed = match reader::replay(&folder, &key, |_, entry| entries.push(entry.to_vec())) {
        Ok(signed) => signed,
        Err(ReadError::Io { path, source }) => {
            return Err(AuditError::Unreadable(format!("{path}: {source}")));
        }
        Err(error) => {
            report.lie(Lie::Log { reason: chain(&error) });
            return Ok(report);
        }
    };
    report.counts.entries = signed.checkpoint.size;
    report.root = signed.checkpoint.root.to_string();
    match reader::verify_history(&folder, &key, &signed.checkpoint) {
        Ok(kept) => report.counts.checkpoints = kept,
        Err(error) => report.lie(Lie::Log { reason: chain(&error) }),
    }
    progress("the rules: every entry, in order");
    if let Err((index, error)) = walk(&entries, &key, options, &mut report, progress) {
        report.lie(Lie::Rule { entry: index, reason: error.to_string() });
    }
    if let Some(manifest) = entries.first().and_then(|first| RunState::begin(first).ok()) {
        check_witnesses(&folder, &key, &manifest.manifest().terms.policy(), &signed, &mut report);
    }
    Ok(report)
}

/// Whether the newest checkpoint and all that were kept have the quorum that the manifest demands. Those of the empty log
/// and of the manifest alone are made before witnesses can know the log.
fn check_witnesses(
    folder: &Folder,
    key: &VerifierKey,
    policy: &Policy,
    newest: &SignedCheckpoint,
    report: &mut Report,
) {
    if !policy.demands_witnesses() {
        report.unchecked(Unchecked::NoWitnesses);
        return;
    }
    let kept = folder.kept_checkpoints().unwrap_or_default().into_iter().filter_map(|path| {
        let note = folder.read(&path, MAX_NOTE_BYTES as u64 + 1).ok().flatten()?;
        Some((path, note))
    });
    let newest = ("checkpoint".to_owned(), newest.note.clone().into_bytes());
    for (path, note) in kept.chain([newest]) {
        let size = SignedCheckpoint::verify(&note, key).map_or(u64::MAX, |signed| signed.checkpoint.size);
        if size > 1
            && let Err(error) = policy.verify(&note, key)
        {
            report.lie(Lie::Log { reason: format!("{path}: {error}") });
        }
    }
}

fn log_key(options: &Options) -> Result<VerifierKey, AuditError> {
    let text = match &options.log_key {
        Some(text) => text.clone(),
        None => {
            let path = options.ledger.join("log.vkey");
            std::fs::read_to_string(&path)
                .map_err(|error| AuditError::NoKey { reason: format!("{}: {error}", path.display()) })?
        }
    };
    text.trim()
        .parse()
        .map_err(|error: talkoot_ledger::note::KeyError| AuditError::NoKey { reason: error.to_string() })
}

/// Folds the entries and hands every settled round to the state checks.
fn walk(
    entries: &[Vec<u8>],
    key: &VerifierKey,
    options: &Options,
    report: &mut Report,
    progress: &mut dyn FnMut(&str),
) -> Result<(), (u64, RuleError)> {
    let Some(first) = entries.first() else { return Ok(()) };
    let mut state = RunState::begin(first).map_err(|error| (0, error))?;
    report.run = state.run().to_string();
    report.name.clone_from(&state.manifest().terms.name);
    if state.manifest().bindings.log_key != key.to_string() {
        report.lie(Lie::Log {
            reason: "the manifest names another log key than the one that signed".to_owned(),
        });
    }
    let mut states = States::new(state.manifest(), Blobs::new(&options.blobs), options);
    for (index, entry) in (1u64..).zip(&entries[1..]) {
        let before = state.clone();
        let event = state.apply(entry).map_err(|error| (index, error))?;
        match &event {
            // The round before is settled by what comes after it.
            Event::RoundOpen(open) => {
                if let Some(round) = before.round() {
                    progress(&format!("round {}: weights and contributions", round.open.round));
                    states.settle(&before, round, open.start_state, report);
                }
            }
            Event::End(end) => {
                if let Some(round) = before.round() {
                    states.settle(&before, round, end.state, report);
                }
            }
            _ => {}
        }
    }
    let totals = state.totals();
    report.counts.rounds = state.progress().next_round;
    report.counts.contributions = totals.sealed;
    report.counts.verdicts = totals.passed + totals.failed + totals.inconclusive;
    report.excluded = state
        .members()
        .iter()
        .filter(|(_, member)| member.excluded.is_some())
        .map(|(id, _)| id.to_string())
        .collect();
    report.state = state.state().digest.to_string();
    if state.phase() != Phase::Ended {
        report.unchecked(Unchecked::NotEnded { phase: state.phase().to_string() });
    }
    if report.counts.replayed < report.counts.contributions {
        let left = report.counts.contributions - report.counts.replayed;
        report.note_not_replayed(left);
    }
    Ok(())
}

/// An error with its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// The folders of a run as the coordinator keeps it: `ledger` and `store/blobs` below `dir`.
pub fn folders_of(dir: &Path) -> (PathBuf, PathBuf) {
    (dir.join("ledger"), dir.join("store/blobs"))
}
