//! Opening a log: what stands on the disk against what was signed last.

use super::{CHECKPOINT, LAST_SIGNED, Log, LogError, VKEY};
use crate::{
    checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint},
    disk::{Disk, at},
    note::{NoteError, SignerKey},
    reader::{Folder, ReadError},
    store::Store,
};

pub(super) fn open_on(disk: Disk, key: &[u8; 32]) -> Result<Log, LogError> {
    let guard = read_guard(&disk)?;
    let signer = SignerKey::log(&guard.origin, key)?;
    expect_key(&disk, &signer)?;
    let published = published(&disk, &signer)?;
    expect_newest(&disk, &guard, published.as_ref())?;

    let dir = disk.root().to_owned();
    let damaged = |source| LogError::Damaged { dir: dir.clone(), source };
    let store = Store::load(disk, &guard).map_err(damaged)?;
    if let Some(published) = published.as_ref().map(|signed| &signed.checkpoint) {
        let computed = store.root_at(guard.size, published.size).map_err(damaged)?;
        if computed != published.root {
            let (path, size, kept) = (CHECKPOINT.to_owned(), published.size, published.root);
            return Err(damaged(ReadError::Equivocation { path, size, kept, computed }));
        }
    }

    let vkey = format!("{}\n", signer.verifier());
    let current = SignedCheckpoint::sign(guard, &signer)?;
    let mut log = Log { store, signer, current: current.clone(), broken: false };
    if log.store.disk.get(VKEY)?.is_none() {
        log.store.disk.put(VKEY, vkey.as_bytes())?;
    }
    let kept = expect_kept(&log)?;
    if published.as_ref().map(|signed| &signed.checkpoint) != Some(&current.checkpoint) || !kept {
        // a process died between saying what it would sign and publishing it; its `last-signed` may not
        // have reached the disk, so that is written again too before anything is signed
        log.publish(&current)?;
    } else if let Some(published) = published {
        // keep the note as it stands: it may carry cosignatures
        log.current = published;
    }
    log.store.disk.sync()?;
    Ok(log)
}

fn read_guard(disk: &Disk) -> Result<Checkpoint, LogError> {
    let path = disk.root().join(LAST_SIGNED);
    let bytes = disk.get(LAST_SIGNED)?.ok_or_else(|| LogError::NoLog { dir: disk.root().to_owned() })?;
    let parsed = match std::str::from_utf8(&bytes) {
        Ok(text) => Checkpoint::parse(text),
        Err(_) => Err(NoteError::NotUtf8.into()),
    };
    parsed.map_err(|source| LogError::DamagedGuard { path, source })
}

/// Whether the note of this size was kept. If so, it must be about this tree.
fn expect_kept(log: &Log) -> Result<bool, LogError> {
    let path = format!("checkpoints/{}", log.size());
    let Some(note) = log.store.disk.get(&path)? else { return Ok(false) };
    let kept = SignedCheckpoint::verify(&note, &log.signer.verifier())
        .map_err(|source| log.damaged(ReadError::BadCheckpoint { path: path.clone(), source }))?
        .checkpoint;
    if kept != log.current.checkpoint {
        let (size, computed) = (log.size(), log.root());
        return Err(log.damaged(ReadError::Equivocation { path, size, kept: kept.root, computed }));
    }
    Ok(true)
}

/// The key must be the one the log was created with, or readers will turn away from what it signs.
fn expect_key(disk: &Disk, signer: &SignerKey) -> Result<(), LogError> {
    let got = signer.verifier().to_string();
    match disk.get(VKEY)? {
        Some(vkey) if String::from_utf8_lossy(&vkey).trim_end() != got => Err(LogError::WrongKey {
            dir: disk.root().to_owned(),
            expected: String::from_utf8_lossy(&vkey).trim_end().to_owned(),
            got,
        }),
        _ => Ok(()),
    }
}

fn published(disk: &Disk, signer: &SignerKey) -> Result<Option<SignedCheckpoint>, LogError> {
    let Some(note) = disk.get(CHECKPOINT)? else { return Ok(None) };
    match SignedCheckpoint::verify(&note, &signer.verifier()) {
        Ok(signed) => Ok(Some(signed)),
        Err(CheckpointError::Note(NoteError::MissingSignature { .. })) => Err(LogError::WrongKey {
            dir: disk.root().to_owned(),
            expected: "another key".to_owned(),
            got: signer.verifier().to_string(),
        }),
        Err(source) => Err(LogError::Damaged {
            dir: disk.root().to_owned(),
            source: ReadError::BadCheckpoint { path: CHECKPOINT.to_owned(), source },
        }),
    }
}

/// Nothing on the disk may be newer than what `last-signed` says, or another tree of the same size.
fn expect_newest(
    disk: &Disk,
    guard: &Checkpoint,
    published: Option<&SignedCheckpoint>,
) -> Result<(), LogError> {
    let root = disk.root();
    let restored = |other: String, found: u64| LogError::Restored {
        path: root.join(LAST_SIGNED),
        last_signed: guard.size,
        other: root.join(other),
        found,
    };
    if let Some(published) = published.map(|signed| &signed.checkpoint)
        && (published.size > guard.size || (published.size == guard.size && published.root != guard.root))
    {
        return Err(restored(CHECKPOINT.to_owned(), published.size));
    }
    let kept = Folder::new(root).kept_sizes().map_err(at("list", &root.join("checkpoints")))?;
    match kept.last() {
        Some(&newest) if newest > guard.size => Err(restored(format!("checkpoints/{newest}"), newest)),
        _ => Ok(()),
    }
}
