//! The audit: a stranger with the files checks everything that can be checked.
//!
//! ```text
//! 1. the log       signature, every tile, the history of checkpoints, what others were shown   (always)
//! 2. the rules     the fold: signatures, assignments, draws, verdicts                          (always)
//! 3. the states    every aggregation, from the first weights to the last      (as far as blobs are there)
//! 4. the training  a share of the contributions, executed again               (as much as is asked for)
//! ```
//! 1 to 4 happen in one pass: each entry is proven to be in the log, folded, and forgotten.

mod blobs;
mod fold;
mod heads;
mod page;
mod peers;
mod progress;
mod report;
mod states;
mod web;

use std::{
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use talkoot_ledger::{
    Folder, ReadError, SignedCheckpoint, TileSource, VerifierKey,
    reader::{self, History},
};
use talkoot_witness::HttpLog;

pub use blobs::{BlobSource, Blobs, FolderBlobs};
pub use heads::Seen;
pub use page::page;
pub use peers::{Peers, PeersError};
pub use progress::{Listener, Progress};
pub use report::{Counts, Head, Lie, Report, Unchecked, Verdict};
pub use states::describe;
pub use web::WebBlobs;

use fold::Fold;
use heads::Heads;

/// Longest file of a verifier key that is read, in bytes.
const MAX_VKEY_BYTES: u64 = 4_096;

/// Where a log is.
#[derive(Debug, Clone)]
pub enum LogPlace {
    /// In a folder.
    Folder(PathBuf),
    /// Behind a web server.
    Web(HttpLog),
}

/// What is audited, and how much of it.
#[derive(Debug, Clone)]
pub struct Options {
    /// The log.
    pub ledger: LogPlace,
    /// The blobs.
    pub blobs: Blobs,
    /// The log's verifier key, when the auditor has it from elsewhere; otherwise the one that lies beside the log is
    /// taken, and the report says so.
    pub log_key: Option<String>,
    /// Share of the sealed contributions that are executed again, 0 to 1.
    pub replay: f64,
    /// Seed of the choice which ones; an auditor who wants to be unpredictable draws it at random.
    pub seed: u64,
    /// Checkpoints that the auditor has from elsewhere.
    pub seen: Vec<Seen>,
    /// A folder in which audits leave the checkpoints that they were shown, for later ones to be held against.
    pub trail: Option<PathBuf>,
    /// The auditor's clock: milliseconds since 1970.
    pub now_ms: u64,
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

/// Audits a run. `listener` hears what is being done.
///
/// # Errors
///
/// [`AuditError`] when there is nothing to audit. What is found wrong is in the report.
pub fn audit(options: &Options, listener: &mut Listener<'_>) -> Result<Report, AuditError> {
    let (source, folder): (Box<dyn TileSource>, Option<Folder>) = match &options.ledger {
        LogPlace::Folder(dir) => (Box::new(Folder::new(dir)), Some(Folder::new(dir))),
        LogPlace::Web(log) => (Box::new(log.clone()), None),
    };
    let key = log_key(options, &*source)?;
    let mut report = Report::new(options.log_key.is_some());
    let mut progress = Progress::beginning("the log: signature, tiles");
    listener(&progress);
    let mut fold = Fold::new(options, &key);
    let history = folder.as_ref().map(History::of);
    let signed = match replay(&*source, &key, &mut fold, &mut report, &mut progress, listener) {
        Ok(signed) => signed,
        Err(error) if error.is_inconclusive() => return Err(AuditError::Unreadable(chain(&error))),
        Err(error) => {
            report.lie(Lie::Log { reason: chain(&error) });
            fold.finish(&mut report);
            return Ok(report);
        }
    };
    progress.doing = "the checkpoints: history, witnesses, age".to_owned();
    listener(&progress);
    report.counts.entries = signed.checkpoint.size;
    report.root = signed.checkpoint.root.to_string();
    let heads = Heads {
        source: &*source,
        folder: folder.as_ref(),
        history: history.as_ref(),
        key: &key,
        newest: &signed,
    };
    let mut seen = options.seen.clone();
    seen.extend(options.trail.iter().flat_map(|dir| heads::trail(dir, &key)));
    heads.compare(&seen, &mut report);
    if let Some(state) = fold.state() {
        let policy = state.manifest().terms.policy();
        heads.check_witnesses(&policy, &mut report);
        let head = heads.age(&policy, state.time_ms(), options.now_ms);
        let most_s = state.manifest().terms.deadlines.most_age_s();
        if !state.progress().ended && head.age_s > most_s {
            report.unchecked(Unchecked::StandsStill { age_s: head.age_s, most_s });
        }
        report.head = Some(head);
    }
    fold.finish(&mut report);
    if let Some(dir) = &options.trail
        && report.verdict() != Verdict::Lie
        && let Err(error) = heads::keep_in_trail(dir, &key, &signed)
    {
        tracing::warn!(%error, dir = %dir.display(), "this audit leaves no trail");
    }
    Ok(report)
}

/// Proves every entry to be in the signed log, and lets the fold take it.
fn replay(
    source: &dyn TileSource,
    key: &VerifierKey,
    fold: &mut Fold<'_>,
    report: &mut Report,
    progress: &mut Progress,
    listener: &mut Listener<'_>,
) -> Result<SignedCheckpoint, ReadError> {
    let signed = reader::current(source, key)?;
    progress.of = signed.checkpoint.size;
    reader::replay_to(source, &signed.checkpoint, |index, entry| {
        if let Some(round) = fold.take(index, entry, report) {
            progress.doing = format!("round {round}: rules, weights, contributions");
            progress.done = index;
            listener(progress);
        }
    })?;
    progress.done = progress.of;
    Ok(signed)
}

fn log_key(options: &Options, source: &dyn TileSource) -> Result<VerifierKey, AuditError> {
    let no_key = |reason: String| AuditError::NoKey { reason };
    let text = match &options.log_key {
        Some(text) => text.clone(),
        None => {
            let read = source.read("log.vkey", MAX_VKEY_BYTES).map_err(|error| no_key(error.to_string()))?;
            let bytes = read.ok_or_else(|| no_key("there is no log.vkey beside the log".to_owned()))?;
            String::from_utf8_lossy(&bytes).into_owned()
        }
    };
    text.trim().parse().map_err(|error: talkoot_ledger::note::KeyError| no_key(error.to_string()))
}

/// An error with its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// This machine's clock: milliseconds since 1970.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The folders of a run as the coordinator keeps it: `ledger` and `store/blobs` below `dir`.
pub fn folders_of(dir: &Path) -> (PathBuf, PathBuf) {
    (dir.join("ledger"), dir.join("store/blobs"))
}
