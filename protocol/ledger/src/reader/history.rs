//! What a log signed earlier, held against what it shows now.

use super::{Folder, ReadError, TileSource, Tiles, replay::note_at, root_at};
use crate::{
    checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint},
    note::VerifierKey,
    tile::TILE_WIDTH,
    tree::{CompactRange, Hash},
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

/// Which checkpoints a folder keeps, at one moment.
///
/// A log that goes on keeps newer ones meanwhile. So who reads its checkpoint and then its history takes this first:
/// a kept one is written after the checkpoint that it is a copy of, and what is listed here is no newer than what is read later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    sizes: Vec<u64>,
}

impl History {
    /// Lists the notes under `checkpoints/` of a folder.
    ///
    /// # Errors
    ///
    /// [`ReadError::Io`] when it cannot be listed.
    pub fn of(folder: &Folder) -> Result<Self, ReadError> {
        let path = "checkpoints".to_owned();
        folder.kept_sizes().map(|sizes| Self { sizes }).map_err(|source| ReadError::Io { path, source })
    }

    /// Checks every listed note, and that each stands under its own size. The tiles are read once, however many notes there
    /// are. Returns how many there were.
    ///
    /// # Errors
    ///
    /// As [`check_kept`].
    pub fn verify(
        &self,
        folder: &Folder,
        vkey: &VerifierKey,
        current: &Checkpoint,
    ) -> Result<u64, ReadError> {
        let mut prefixes = Prefixes::new(folder, current.size);
        let mut differs = None;
        let mut checked = 0;
        for &size in &self.sizes {
            let path = format!("checkpoints/{size}");
            let kept = note_at(folder, &path, vkey)?.checkpoint;
            if kept.size != size {
                let source = CheckpointError::BadSize { text: kept.size.to_string() };
                return Err(ReadError::BadCheckpoint { path, source });
            }
            if size > current.size {
                return Err(ReadError::Rollback { path, kept: size, current: current.size });
            }
            let computed = prefixes.root_at(size)?;
            if computed != kept.root {
                differs = Some(ReadError::Equivocation { path, size, kept: kept.root, computed });
                break;
            }
            checked += 1;
        }
        // only now is it known that the roots on the way were those of the signed tree
        let computed = prefixes.root_at(current.size)?;
        if computed != current.root {
            return Err(ReadError::RootMismatch { size: current.size, signed: current.root, computed });
        }
        differs.map_or(Ok(checked), Err)
    }
}

/// Checks every note under `checkpoints/` of a folder that nobody writes to meanwhile; else see [`History`].
///
/// # Errors
///
/// As [`check_kept`].
pub fn verify_history(folder: &Folder, vkey: &VerifierKey, current: &Checkpoint) -> Result<u64, ReadError> {
    History::of(folder)?.verify(folder, vkey, current)
}

/// The roots of ever longer prefixes of a tree, out of its lowest tiles.
struct Prefixes<'a> {
    tiles: Tiles<'a, Folder>,
    range: CompactRange,
    /// The tile that the next leaf is in.
    tile: Vec<Hash>,
}

impl<'a> Prefixes<'a> {
    const fn new(folder: &'a Folder, size: u64) -> Self {
        Self { tiles: Tiles::new(folder, size), range: CompactRange::new(), tile: Vec::new() }
    }

    /// The root of the first `size` leaves, not fewer than were asked for before.
    fn root_at(&mut self, size: u64) -> Result<Hash, ReadError> {
        let width = u64::from(TILE_WIDTH);
        while self.range.size() < size {
            let next = self.range.size();
            let within = (next % width) as usize;
            if within == 0 {
                (_, self.tile) = self.tiles.tile(0, next / width)?;
            }
            let leaf = self.tile.get(within).ok_or(ReadError::OutOfRange { index: next, size })?;
            self.range.append(*leaf);
        }
        Ok(self.range.root())
    }
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
