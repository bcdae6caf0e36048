//! Checkpoints: those that the log keeps, those that others were shown, who cosigned them, and how old the newest is.

use std::path::Path;

use talkoot_ledger::{
    Folder, Policy, ReadError, SignedCheckpoint, TileSource, VerifierKey,
    note::MAX_NOTE_BYTES,
    reader::{self, History},
};

use super::{
    chain,
    report::{Head, Lie, Report, Unchecked},
};

/// A signed checkpoint that the auditor has from elsewhere: a member's copy, a witness, an earlier audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Where from, for the report.
    pub from: String,
    /// The note.
    pub note: Vec<u8>,
}

/// Holds the newest checkpoint against all others that there are.
pub(super) struct Heads<'a> {
    pub(super) source: &'a dyn TileSource,
    /// The log as a folder, where it is one: only there the kept checkpoints can be listed.
    pub(super) folder: Option<&'a Folder>,
    /// What the folder kept before the newest checkpoint was read, as the log may grow meanwhile.
    pub(super) history: Option<&'a Result<History, ReadError>>,
    pub(super) key: &'a VerifierKey,
    pub(super) newest: &'a SignedCheckpoint,
}

impl Heads<'_> {
    /// Whether the log continues what it signed before, and what it showed to others.
    pub(super) fn compare(&self, seen: &[Seen], report: &mut Report) {
        match (self.folder, self.history) {
            (Some(folder), Some(Ok(history))) => {
                match history.verify(folder, self.key, &self.newest.checkpoint) {
                    Ok(kept) => report.counts.checkpoints = kept,
                    Err(error) => report.lie(Lie::Log { reason: chain(&error) }),
                }
            }
            (_, Some(Err(error))) => report.lie(Lie::Log { reason: chain(error) }),
            _ => report.unchecked(Unchecked::History),
        }
        for Seen { from, note } in seen {
            match reader::check_kept(self.source, self.key, &self.newest.checkpoint, from, note) {
                Ok(()) => report.counts.seen += 1,
                Err(error @ ReadError::Equivocation { .. }) => {
                    report.lie(Lie::TwoHistories {
                        reason: chain(&error),
                        ours: self.newest.note.clone(),
                        theirs: String::from_utf8_lossy(note).into_owned(),
                    });
                }
                Err(ReadError::Rollback { kept, .. }) => {
                    report.unchecked(Unchecked::Behind { from: from.clone(), seen: kept });
                }
                Err(error) => report.unchecked(Unchecked::Seen { from: from.clone(), reason: chain(&error) }),
            }
        }
    }

    /// Whether the newest checkpoint and all that were kept have the quorum that the manifest demands. Those of the empty log
    /// and of the manifest alone are made before witnesses can know the log.
    pub(super) fn check_witnesses(&self, policy: &Policy, report: &mut Report) {
        if !policy.demands_witnesses() {
            report.unchecked(Unchecked::NoWitnesses);
            return;
        }
        let kept = self.folder.map_or_else(Vec::new, |folder| folder.kept_checkpoints().unwrap_or_default());
        let kept = kept.into_iter().filter_map(|path| {
            let note = self.source.read(&path, MAX_NOTE_BYTES as u64 + 1).ok().flatten()?;
            Some((path, note))
        });
        let newest = ("checkpoint".to_owned(), self.newest.note.clone().into_bytes());
        for (path, note) in kept.chain([newest]) {
            let size =
                SignedCheckpoint::verify(&note, self.key).map_or(u64::MAX, |signed| signed.checkpoint.size);
            if size > 1
                && let Err(error) = policy.verify(&note, self.key)
            {
                report.lie(Lie::Log { reason: format!("{path}: {error}") });
            }
        }
    }

    /// How old the newest checkpoint is: by its witnesses' clocks where it has any, else by the operator's.
    pub(super) fn age(&self, policy: &Policy, last_entry_ms: u64, now_ms: u64) -> Head {
        let witnessed = policy.verify(self.newest.note.as_bytes(), self.key).ok();
        let cosigned = witnessed.and_then(|witnessed| {
            witnessed.cosignatures.iter().map(|cosignature| cosignature.unix_seconds).max()
        });
        let made_ms = cosigned.map_or(last_entry_ms, |seconds| seconds.saturating_mul(1_000));
        Head {
            size: self.newest.checkpoint.size,
            age_s: now_ms.saturating_sub(made_ms) / 1_000,
            by_witnesses: cosigned.is_some(),
        }
    }
}

/// The checkpoints that earlier audits left in `dir`, of the log with this key.
pub(super) fn trail(dir: &Path, key: &VerifierKey) -> Vec<Seen> {
    let dir = dir.join(name_of(key));
    let Ok(items) = std::fs::read_dir(&dir) else { return Vec::new() };
    let files = items.flatten().map(|item| item.path());
    let notes = files.filter(|path| path.extension().is_some_and(|extension| extension == "checkpoint"));
    let read = notes.filter_map(|path| {
        let folder = Folder::new(path.parent()?);
        let note = folder.read(path.file_name()?.to_str()?, MAX_NOTE_BYTES as u64 + 1).ok().flatten()?;
        Some(Seen { from: format!("the trail, {}", path.display()), note })
    });
    read.collect()
}

/// Leaves the newest checkpoint for later audits.
pub(super) fn keep_in_trail(dir: &Path, key: &VerifierKey, newest: &SignedCheckpoint) -> std::io::Result<()> {
    let dir = dir.join(name_of(key));
    std::fs::create_dir_all(&dir)?;
    let path = dir.join(format!("{}.checkpoint", newest.checkpoint.size));
    let temporary = path.with_extension("tmp");
    std::fs::write(&temporary, &newest.note)?;
    std::fs::rename(&temporary, &path)
}

/// A folder's name for a log: its key's hash, as an origin may hold anything.
fn name_of(key: &VerifierKey) -> String {
    talkoot_protocol::digest::Digest::of(key.to_string().as_bytes()).to_string()[..16].to_owned()
}
