//! What a log signed earlier, held against what it shows now.

use super::{Folder, ReadError, TileSource, replay::note_at, root_at};
use crate::{
    checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint},
    note::VerifierKey,
};

/// Checks one kept note against the current checkpoint: its signature, its size, its root. `path` names
/// the note in errors.
///
/// The old root is computed from the log's tiles, after these were led to the current root; so a
/// difference is the operator's two signatures against each other.
///
/// # Errors
///
/// [`ReadError::Equivocation`], [`ReadError::Rollback`], [`ReadError::BadCheckpoint`], or what the tiles
/// give.
pub fn check_kept<S: TileSource + ?Sized>(
    source: &S,
    vkey: &VerifierKey,
    current: &Checkpoint,
    path: &str,
    note: &[u8],
) -> Result<(), ReadError> {
    let kept = SignedCheckpoint::verify(note, vkey)
        .map_err(|source| ReadError::BadCheckpoint { path: path.to_owned(), source })?;
    compare(source, current, path, &kept.checkpoint)
}

/// Checks every note under `checkpoints/` of a folder, and that each stands under its own size.
///
/// # Errors
///
/// As [`check_kept`].
pub fn verify_history(folder: &Folder, vkey: &VerifierKey, current: &Checkpoint) -> Result<u64, ReadError> {
    let listing = "checkpoints".to_owned();
    let sizes = folder.kept_sizes().map_err(|source| ReadError::Io { path: listing, source })?;
    let mut checked = 0;
    for size in sizes {
        let path = format!("checkpoints/{size}");
        let kept = note_at(folder, &path, vkey)?.checkpoint;
        if kept.size != size {
            let source = CheckpointError::BadSize { text: kept.size.to_string() };
            return Err(ReadError::BadCheckpoint { path, source });
        }
        compare(folder, current, &path, &kept)?;
        checked += 1;
    }
    Ok(checked)
}

fn compare<S: TileSource + ?Sized>(
    source: &S,
    current: &Checkpoint,
    path: &str,
    kept: &Checkpoint,
) -> Result<(), ReadError> {
    if kept.size > current.size {
        let (kept, current) = (kept.size, current.size);
        return Err(ReadError::Rollback { path: path.to_owned(), kept, current });
    }
    let computed = root_at(source, current, kept.size)?;
    if computed != kept.root {
        let (size, kept) = (kept.size, kept.root);
        return Err(ReadError::Equivocation { path: path.to_owned(), size, kept, computed });
    }
    Ok(())
}
