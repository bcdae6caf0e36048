//! Keeping a bundle when a replay fails.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use talkoot_execution::{ExecutionError, execute_steps};
use talkoot_network::BlobStore;
use talkoot_protocol::{
    digest::{BlobRef, Digest},
    event::Divergence,
};
use talkoot_trainer::trace::Trace;

use super::{
    Accounts, Question,
    bundle::{BLOBS, LEDGER, LOG_KEY, VERDICT},
};
use crate::replay::Replay;

/// Most bytes of one bundle. A model of a billion parameters has some 16 GB: its weights, and the state with both moments.
const MAX_BYTES: u64 = 256 << 30;

/// Bundles of earlier rounds that are kept besides those of the current one.
const KEPT: usize = 8;

/// What a bundle needs beyond the log and the verdict.
#[derive(Debug)]
pub(crate) struct Evidence {
    /// The accuser's trace and the state that both name, which are this verifier's to publish.
    pub(crate) published: Vec<Vec<u8>>,
    /// What the store has.
    pub(crate) stored: Vec<BlobRef>,
}

impl Evidence {
    /// Finds out where `replay` and its commit part, and computes the state before. None when nothing executed settles it.
    ///
    /// Takes as long as the steps up to there.
    ///
    /// # Errors
    ///
    /// [`ExecutionError`] when they cannot be executed a second time.
    pub(crate) fn gather(
        replay: &Replay,
        accusation: &Divergence,
        trace: Option<&Trace>,
    ) -> Result<Option<Self>, ExecutionError> {
        let terms = &replay.manifest.terms.verification;
        let accounts = Accounts {
            commit: replay.commit.clone(),
            claimed: replay.trace.clone(),
            accusation: accusation.clone(),
            replayed: trace.map(Trace::to_bytes),
            interval: terms.digest_interval(),
        };
        let Ok(question) = accounts.question() else { return Ok(None) };
        let mut published: Vec<Vec<u8>> = accounts.replayed.clone().into_iter().collect();
        let agreed = match question {
            Question::Steps { agreed, .. } => agreed,
            Question::End { agreed } => Some(agreed),
            Question::Form => None,
        };
        if let Some(agreed) = agreed {
            let part = execute_steps(&replay.job(), None, agreed, replay.packs.as_ref())?;
            published.push(part.end.to_bytes());
        }
        let mut stored =
            vec![replay.manifest.bindings.config, replay.round.open.start_state, replay.commit.trace];
        stored.extend(replay.manifest.stage(replay.round.open.stage).map(|(_, dataset)| dataset.index));
        if question.needs_feedback() {
            stored.extend(replay.commit.feedback_in);
        }
        if question.begins_at_the_start() {
            let precedent = replay.round.precedent.iter().flat_map(|precedent| &precedent.contributions);
            stored.extend(precedent.map(|(_, commit)| commit.contribution));
        }
        let steps = replay.work.steps.get(question.steps()).unwrap_or_default();
        if let Ok(shards) = replay.packs.reader().shards_of(steps.concat()) {
            stored.extend(shards);
        }
        Ok(Some(Self { published, stored }))
    }
}

/// Writes the bundle `name` into `folder`, whole or not at all, and drops the oldest there. `ledger` is the verifier's copy of
/// the log, `verdict` its signed statement. Returns where the bundle is.
///
/// # Errors
///
/// What the system says; a bundle that would be too large, or lacks a blob.
pub(crate) fn keep(
    folder: &Path,
    (round, commit): (u64, u64),
    ledger: &Path,
    verdict: &[u8],
    evidence: &Evidence,
    store: &BlobStore,
) -> io::Result<PathBuf> {
    let target = folder.join(format!("{round}-{commit}"));
    if target.exists() {
        return Ok(target);
    }
    let stored: BTreeMap<Digest, u64> =
        evidence.stored.iter().map(|blob| (blob.digest, blob.bytes)).collect();
    let published: u64 = evidence.published.iter().map(|bytes| bytes.len() as u64).sum();
    let bytes = stored.values().sum::<u64>().saturating_add(published);
    if bytes > MAX_BYTES {
        let reason = format!("the bundle would have {bytes} bytes, more than {MAX_BYTES}");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
    }
    let writing = folder.join(".writing");
    match fs::remove_dir_all(&writing) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let blobs = writing.join(BLOBS);
    fs::create_dir_all(&blobs)?;
    for digest in stored.keys() {
        let path = store
            .path(digest)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("blob {digest} is not here")))?;
        link(&path, &blobs.join(digest.to_string()))?;
    }
    for bytes in &evidence.published {
        put(&blobs.join(Digest::of(bytes).to_string()), bytes)?;
    }
    let copy = writing.join(LEDGER);
    copy_folder(&ledger.join("tile"), &copy.join("tile"))?;
    for name in [LOG_KEY, "checkpoint"] {
        put(&copy.join(name), &fs::read(ledger.join(name))?)?;
    }
    put(&writing.join(VERDICT), verdict)?;
    fs::rename(&writing, &target)?;
    forget(folder, round)?;
    Ok(target)
}

/// A second name for a blob, which costs no room; a copy where the file system has none.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(_) => fs::copy(from, to).map(drop),
    }
}

fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use io::Write as _;
    let mut file = fs::File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Drops all bundles but those of `round` and the newest [`KEPT`] of earlier rounds, which are final.
fn forget(folder: &Path, round: u64) -> io::Result<()> {
    let mut earlier: Vec<((u64, u64), PathBuf)> = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let number = |text: &str| text.parse::<u64>().ok();
        if let Some((of, commit)) = name.split_once('-')
            && let (Some(of), Some(commit)) = (number(of), number(commit))
            && of < round
        {
            earlier.push(((of, commit), path));
        }
    }
    earlier.sort_unstable();
    let surplus = earlier.len().saturating_sub(KEPT);
    earlier.into_iter().take(surplus).try_for_each(|(_, path)| fs::remove_dir_all(path))
}
