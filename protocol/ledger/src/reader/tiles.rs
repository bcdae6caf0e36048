//! The tiles and bundles of a tree of a given size, from any source.

use std::{cell::RefCell, collections::BTreeMap};

use super::{ReadError, TileSource};
use crate::{
    tile::{MAX_BUNDLE_BYTES, TILE_HEIGHT, TILE_WIDTH, TilePath, decode_bundle, decode_tile, width_at},
    tree::{Hash, HashReader, fold},
};

/// Tiles held at once: a proof touches a path or two from leaf to root, eight levels at most.
const CACHED_TILES: usize = 32;

/// The files of a tree of `size` leaves. Nothing here is authenticated; whoever uses a hash must lead it
/// to a root that was signed.
pub(crate) struct Tiles<'a, S: ?Sized> {
    source: &'a S,
    size: u64,
    cache: RefCell<BTreeMap<(u8, u64), Vec<Hash>>>,
}

impl<'a, S: TileSource + ?Sized> Tiles<'a, S> {
    pub(crate) const fn new(source: &'a S, size: u64) -> Self {
        Self { source, size, cache: RefCell::new(BTreeMap::new()) }
    }

    /// Path and hashes of tile `index` at tile level `level`, as wide as this size has it.
    pub(crate) fn tile(&self, level: u8, index: u64) -> Result<(TilePath, Vec<Hash>), ReadError> {
        let width = width_at(self.size, level, index);
        let path =
            TilePath::tile(level, index, width).ok_or(ReadError::OutOfRange { index, size: self.size })?;
        let limit = usize::from(TILE_WIDTH) * Hash::LEN;
        let (found, bytes) = self.partial_or_full(path, limit)?;
        let hashes = decode_tile(&bytes, found.width())
            .map_err(|source| ReadError::BadTile { path: found.to_string(), source })?;
        Ok((found, hashes[..usize::from(width)].to_vec()))
    }

    /// Path and entries of bundle `index`, as many as this size has there.
    pub(crate) fn bundle(&self, index: u64) -> Result<(TilePath, Vec<Vec<u8>>), ReadError> {
        let width = width_at(self.size, 0, index);
        let path = TilePath::entries(index, width).ok_or(ReadError::OutOfRange { index, size: self.size })?;
        let (found, bytes) = self.partial_or_full(path, MAX_BUNDLE_BYTES)?;
        let entries = decode_bundle(&bytes, found.width())
            .map_err(|source| ReadError::BadBundle { path: found.to_string(), source })?;
        Ok((found, entries[..usize::from(width)].iter().map(|entry| entry.to_vec()).collect()))
    }

    /// A partial file may be gone once the full one exists.
    fn partial_or_full(&self, path: TilePath, limit: usize) -> Result<(TilePath, Vec<u8>), ReadError> {
        if let Some(bytes) = self.read(path, limit)? {
            return Ok((path, bytes));
        }
        if path.width() < TILE_WIDTH
            && let Some(bytes) = self.read(path.full(), limit)?
        {
            return Ok((path.full(), bytes));
        }
        Err(ReadError::Missing { path: path.to_string() })
    }

    fn read(&self, path: TilePath, limit: usize) -> Result<Option<Vec<u8>>, ReadError> {
        let path = path.to_string();
        self.source.read(&path, limit as u64 + 1).map_err(|source| ReadError::Io { path, source })
    }
}

impl<S: TileSource + ?Sized> HashReader for Tiles<'_, S> {
    type Error = ReadError;

    fn node(&self, level: u8, index: u64) -> Result<Hash, ReadError> {
        let (tile_level, within) = (level / TILE_HEIGHT, level % TILE_HEIGHT);
        let first = index << within;
        let (number, offset) = (first / u64::from(TILE_WIDTH), (first % u64::from(TILE_WIDTH)) as usize);
        let mut cache = self.cache.borrow_mut();
        if !cache.contains_key(&(tile_level, number)) {
            let (_, hashes) = self.tile(tile_level, number)?;
            if cache.len() >= CACHED_TILES {
                cache.pop_first();
            }
            cache.insert((tile_level, number), hashes);
        }
        let hashes =
            cache.get(&(tile_level, number)).and_then(|hashes| hashes.get(offset..offset + (1 << within)));
        hashes.map(fold).ok_or(ReadError::OutOfRange { index: first, size: self.size })
    }
}
