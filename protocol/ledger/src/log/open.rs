//! Opening a log: what stands on the disk against what was signed last.

use super::{CHECKPOINT, LAST_SIGNED, Log, LogError, VKEY};
use crate::{
    checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint},
    disk::{Disk, at},
    note::{NoteError, SignerKey},
    reader::{Folder, ReadError},
    store::Store,
    tree::empty_root,
};

/// The log as far as it was signed; what wasn't published stays unpublished.
pub(super) fn open_on(disk: Disk, key: &[u8; 32]) -> Result<Log, LogError> {
    let guard = read_guard(&disk)?;
    let signer = SignerKey::log(&guard.origin, key)?;
    expect_key(&disk, &signer)?;
    let published = published(&disk, &signer)?;
    expect_newest(&disk, &guard, published.as_ref())?;
    if !disk.is_original()? {
        return Err(LogError::Copied { dir: disk.root().to_owned() });
    }

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

    let nothing = Checkpoint { origin: guard.origin.clone(), size: 0, root: empty_root() };
    let published = match published {
        Some(published) => published,
        None => SignedCheckpoint::sign(nothing, &signer)?,
    };
    let signed = SignedCheckpoint::sign(guard, &signer)?;
    let mut log = Log { store, signer, published, signed, broken: false };
    if log.store.disk.get(VKEY)?.is_none() {
        let vkey = format!("{}\n", log.signer.verifier());
        log.store.disk.put(VKEY, vkey.as_bytes())?;
    }
    complete(&mut log)?;
    log.store.disk.sync()?;
    Ok(log)
}

/// A process may have died between saying what it would sign, publishing it and keeping the note.
fn complete(log: &mut Log) -> Result<(), LogError> {
    let kept = kept_note(log)?;
    let is_published = log.unpublished().is_none() && log.store.disk.get(CHECKPOINT)?.is_some();
    match kept {
        Some(_) if is_published => log.signed = log.published.clone(),
        // it was published once, so everybody may see it again
        Some(kept) => log.publish(&kept.note)?,
        None => {
            // the `last-signed` may not have reached the disk, so it is written again before anything is signed
            log.swap_last_signed(&log.signed.checkpoint.clone())?;
            if log.unpublished().is_none() {
                // the note as it stands: it may carry cosignatures
                log.publish(&log.published.note.clone())?;
            }
        }
    }
    Ok(())
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

/// The kept note of the size that was signed last. It must be about this tree.
fn kept_note(log: &Log) -> Result<Option<SignedCheckpoint>, LogError> {
    let path = format!("checkpoints/{}", log.signed.checkpoint.size);
    let Some(note) = log.store.disk.get(&path)? else { return Ok(None) };
    let kept = SignedCheckpoint::verify(&note, &log.signer.verifier())
        .map_err(|source| log.damaged(ReadError::BadCheckpoint { path: path.clone(), source }))?;
    let ours = &log.signed.checkpoint;
    if kept.checkpoint != *ours {
        let (size, computed, kept) = (ours.size, ours.root, kept.checkpoint.root);
        return Err(log.damaged(ReadError::Equivocation { path, size, kept, computed }));
    }
    Ok(Some(kept))
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
