//! From the signature down to every entry.

use super::{ReadError, TileSource, Tiles};
use crate::{
    checkpoint::{Checkpoint, SignedCheckpoint},
    note::{MAX_NOTE_BYTES, VerifierKey},
    tile::{TILE_HEIGHT, TILE_WIDTH, TilePath, width_at},
    tree::{CompactRange, Hash, fold, leaf_hash},
};

/// The log's current checkpoint, its signature and origin checked.
///
/// # Errors
///
/// [`ReadError::Missing`] or [`ReadError::BadCheckpoint`].
pub fn current<S: TileSource + ?Sized>(
    source: &S,
    vkey: &VerifierKey,
) -> Result<SignedCheckpoint, ReadError> {
    note_at(source, "checkpoint", vkey)
}

pub(super) fn note_at<S: TileSource + ?Sized>(
    source: &S,
    path: &str,
    vkey: &VerifierKey,
) -> Result<SignedCheckpoint, ReadError> {
    let note = source.read(path, MAX_NOTE_BYTES as u64 + 1);
    let note = note.map_err(|source| ReadError::Io { path: path.to_owned(), source })?;
    let note = note.ok_or_else(|| ReadError::Missing { path: path.to_owned() })?;
    SignedCheckpoint::verify(&note, vkey)
        .map_err(|source| ReadError::BadCheckpoint { path: path.to_owned(), source })
}

/// Reads the whole log: checks the signature, then every tile against the signed root, then every entry
/// against the tiles, and shows the entries in order. The visitor only ever sees entries that are in the
/// signed tree; when an error is returned it may have seen some of them.
///
/// Memory: 32 bytes for every 256 entries, and one bundle.
///
/// # Errors
///
/// [`ReadError`], saying which file is wrong and why.
pub fn replay<S: TileSource + ?Sized>(
    source: &S,
    vkey: &VerifierKey,
    visitor: impl FnMut(u64, &[u8]),
) -> Result<SignedCheckpoint, ReadError> {
    let signed = current(source, vkey)?;
    replay_to(source, &signed.checkpoint, visitor)?;
    Ok(signed)
}

/// As [`replay`], towards a checkpoint that the caller trusts already.
///
/// # Errors
///
/// [`ReadError`], saying which file is wrong and why.
pub fn replay_to<S: TileSource + ?Sized>(
    source: &S,
    checkpoint: &Checkpoint,
    mut visitor: impl FnMut(u64, &[u8]),
) -> Result<(), ReadError> {
    let tiles = Tiles::new(source, checkpoint.size);
    let bottom = check_tiles(&tiles, checkpoint)?;
    let mut index = 0_u64;
    for number in 0..checkpoint.size.div_ceil(u64::from(TILE_WIDTH)) {
        let (path, entries) = tiles.bundle(number)?;
        let leaves: Vec<Hash> = entries.iter().map(|entry| leaf_hash(entry)).collect();
        if !bottom.holds(number, &leaves) {
            return Err(entry_mismatch(&tiles, path, number, &leaves));
        }
        for entry in &entries {
            visitor(index, entry);
            index += 1;
        }
    }
    Ok(())
}

/// What the signed root says about the leaves: the roots of the full level-0 tiles, and the leaf hashes
/// after them. Kept, because a source may answer differently the second time.
#[derive(Default)]
struct Bottom {
    full: Vec<Hash>,
    tail: Vec<Hash>,
}

impl Bottom {
    fn holds(&self, number: u64, leaves: &[Hash]) -> bool {
        match usize::try_from(number).ok().and_then(|number| self.full.get(number)) {
            Some(root) => leaves.len() == usize::from(TILE_WIDTH) && fold(leaves) == *root,
            None => leaves == self.tail,
        }
    }
}

/// Hashes all level-0 tiles up to the root and compares the tiles above them on the way.
fn check_tiles<S: TileSource + ?Sized>(
    tiles: &Tiles<'_, S>,
    checkpoint: &Checkpoint,
) -> Result<Bottom, ReadError> {
    let mut bottom = Bottom::default();
    let mut range = CompactRange::new();
    let mut above = Above::default();
    for number in 0..checkpoint.size.div_ceil(u64::from(TILE_WIDTH)) {
        let (_, hashes) = tiles.tile(0, number)?;
        if hashes.len() == usize::from(TILE_WIDTH) {
            let root = fold(&hashes);
            range.push(TILE_HEIGHT, root);
            above.push(tiles, 1, root)?;
            bottom.full.push(root);
        } else {
            hashes.iter().for_each(|&hash| range.append(hash));
            bottom.tail = hashes;
        }
    }
    above.finish(tiles, checkpoint.size)?;
    let computed = range.root();
    if computed != checkpoint.root {
        return Err(blame(tiles, checkpoint, computed)?);
    }
    // level 0 is now known to be right, so whatever differs above it is wrong itself
    match above.differs {
        Some(path) => Err(ReadError::TileMismatch { path: path.to_string() }),
        None => Ok(bottom),
    }
}

/// The hashes above level 0 as they come out of it, by tile level, compared tile by tile.
#[derive(Default)]
struct Above {
    rows: Vec<Vec<Hash>>,
    numbers: Vec<u64>,
    differs: Option<TilePath>,
}

impl Above {
    fn push<S: TileSource + ?Sized>(
        &mut self,
        tiles: &Tiles<'_, S>,
        level: u8,
        hash: Hash,
    ) -> Result<(), ReadError> {
        let row = usize::from(level) - 1;
        if self.rows.len() == row {
            self.rows.push(Vec::new());
            self.numbers.push(0);
        }
        self.rows[row].push(hash);
        if self.rows[row].len() == usize::from(TILE_WIDTH) {
            let hashes = std::mem::take(&mut self.rows[row]);
            let number = self.numbers[row];
            self.numbers[row] += 1;
            self.compare(tiles, level, number, &hashes)?;
            self.push(tiles, level + 1, fold(&hashes))?;
        }
        Ok(())
    }

    fn finish<S: TileSource + ?Sized>(&mut self, tiles: &Tiles<'_, S>, size: u64) -> Result<(), ReadError> {
        for (level, row) in (1..).zip(std::mem::take(&mut self.rows)) {
            let number = self.numbers[usize::from(level) - 1];
            debug_assert_eq!(usize::from(width_at(size, level, number)), row.len());
            if !row.is_empty() {
                self.compare(tiles, level, number, &row)?;
            }
        }
        Ok(())
    }

    fn compare<S: TileSource + ?Sized>(
        &mut self,
        tiles: &Tiles<'_, S>,
        level: u8,
        number: u64,
        hashes: &[Hash],
    ) -> Result<(), ReadError> {
        let (path, stored) = tiles.tile(level, number)?;
        if stored != hashes && self.differs.is_none() {
            self.differs = Some(path);
        }
        Ok(())
    }
}

/// The level-0 tiles don't lead to the signed root. If the entries do, the tile that disagrees with them
/// is at fault; if not, nobody can say which file is.
fn blame<S: TileSource + ?Sized>(
    tiles: &Tiles<'_, S>,
    checkpoint: &Checkpoint,
    computed: Hash,
) -> Result<ReadError, ReadError> {
    let mut range = CompactRange::new();
    let mut differs = None;
    for number in 0..checkpoint.size.div_ceil(u64::from(TILE_WIDTH)) {
        let (_, entries) = tiles.bundle(number)?;
        let leaves: Vec<Hash> = entries.iter().map(|entry| leaf_hash(entry)).collect();
        let (path, stored) = tiles.tile(0, number)?;
        if stored != leaves && differs.is_none() {
            differs = Some(path);
        }
        leaves.into_iter().for_each(|leaf| range.append(leaf));
    }
    Ok(match differs {
        Some(path) if range.root() == checkpoint.root => ReadError::TileMismatch { path: path.to_string() },
        _ => ReadError::RootMismatch { size: checkpoint.size, signed: checkpoint.root, computed },
    })
}

/// Finds the entry: the tile was right a moment ago. Should it not be any more, the first one is named.
fn entry_mismatch<S: TileSource + ?Sized>(
    tiles: &Tiles<'_, S>,
    path: TilePath,
    number: u64,
    leaves: &[Hash],
) -> ReadError {
    let stored = tiles.tile(0, number).map(|(_, hashes)| hashes).unwrap_or_default();
    let at = leaves.iter().zip(&stored).position(|(leaf, hash)| leaf != hash).unwrap_or(0);
    ReadError::EntryMismatch { path: path.to_string(), index: number * u64::from(TILE_WIDTH) + at as u64 }
}
