//! The growing right edge of a tree on a disk: what `Log` and `Mirror` have in common.

use crate::{
    checkpoint::Checkpoint,
    disk::{Disk, DiskError},
    reader::{Folder, ReadError, Tiles, replay_to},
    tile::{TILE_HEIGHT, TILE_WIDTH, TilePath, encode_bundle, encode_tile, push_entry, width_at},
    tree::{CompactRange, Hash, empty_root, fold, leaf_hash},
};

/// Tiles below `disk`, verified up to a size, and the hashes that a next entry needs. Memory is at most
/// 255 hashes for each tile level and one bundle.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) disk: Disk,
    folder: Folder,
    range: CompactRange,
    /// The hashes of the partial tile at each tile level.
    edges: Vec<Vec<Hash>>,
    /// The bytes of the partial bundle.
    tail: Vec<u8>,
    /// The size whose partial tiles are all on the disk.
    finished: u64,
}

impl Store {
    /// Reads the tree that `checkpoint` stands for, every byte of it, and stands ready behind it.
    pub(crate) fn load(disk: Disk, checkpoint: &Checkpoint) -> Result<Self, ReadError> {
        let folder = Folder::new(disk.root());
        replay_to(&folder, checkpoint, |_, _| {})?;
        let size = checkpoint.size;
        let tiles = Tiles::new(&folder, size);
        let range = CompactRange::load(size, &tiles)?;
        let mut edges = Vec::new();
        for level in 0.. {
            if size >> (TILE_HEIGHT * level) == 0 {
                break;
            }
            let number = edge_number(size, level);
            let partial = width_at(size, level, number) > 0;
            edges.push(if partial { tiles.tile(level, number)?.1 } else { Vec::new() });
        }
        let number = edge_number(size, 0);
        let tail = if width_at(size, 0, number) > 0 {
            let (path, entries) = tiles.bundle(number)?;
            encode_bundle(&entries)
                .map_err(|source| ReadError::BadBundle { path: path.to_string(), source })?
        } else {
            Vec::new()
        };
        drop(tiles);
        Ok(Self { disk, folder, range, edges, tail, finished: size })
    }

    pub(crate) const fn folder(&self) -> &Folder {
        &self.folder
    }

    pub(crate) const fn range(&self) -> &CompactRange {
        &self.range
    }

    /// Adds one entry, of at most `MAX_ENTRY_BYTES`, and writes the bundle and the tiles it completes.
    pub(crate) fn append(&mut self, entry: &[u8]) -> Result<(), DiskError> {
        let leaf = leaf_hash(entry);
        if push_entry(&mut self.tail, entry).is_err() {
            let path = self.disk.root().join("tile/entries");
            let source = std::io::Error::other("the entry is longer than an entry may be");
            return Err(DiskError { op: "append to", path, source });
        }
        self.range.append(leaf);
        if self.edges.is_empty() {
            self.edges.push(Vec::new());
        }
        self.edges[0].push(leaf);
        if self.edges[0].len() == usize::from(TILE_WIDTH) {
            let bundle = std::mem::take(&mut self.tail);
            self.put(None, edge_number(self.range.size(), 0) - 1, TILE_WIDTH, &bundle)?;
            self.complete(0)?;
        }
        Ok(())
    }

    /// Writes the full tile at `level` and carries its root upwards.
    fn complete(&mut self, level: u8) -> Result<(), DiskError> {
        let at = usize::from(level);
        let hashes = std::mem::take(&mut self.edges[at]);
        self.put(Some(level), edge_number(self.range.size(), level) - 1, TILE_WIDTH, &encode_tile(&hashes))?;
        if self.edges.len() == at + 1 {
            self.edges.push(Vec::new());
        }
        self.edges[at + 1].push(fold(&hashes));
        if self.edges[at + 1].len() == usize::from(TILE_WIDTH) {
            self.complete(level + 1)?;
        }
        Ok(())
    }

    /// Writes the partial bundle and tiles of the present size and makes everything durable. After that,
    /// and only after that, the size may be signed.
    pub(crate) fn finish(&mut self) -> Result<(), DiskError> {
        let size = self.range.size();
        if !self.tail.is_empty() {
            let number = edge_number(size, 0);
            let bundle = std::mem::take(&mut self.tail);
            let put = self.put(None, number, width_at(size, 0, number), &bundle);
            self.tail = bundle;
            put?;
        }
        for level in 0..u8::try_from(self.edges.len()).unwrap_or(TILE_HEIGHT) {
            let number = edge_number(size, level);
            let width = width_at(size, level, number);
            // a tile that an earlier size had is there, and never changes
            if width > 0 && width_at(self.finished, level, number) != width {
                let tile = encode_tile(&self.edges[usize::from(level)]);
                self.put(Some(level), number, width, &tile)?;
            }
        }
        self.disk.sync()?;
        self.finished = size;
        Ok(())
    }

    fn put(&mut self, level: Option<u8>, number: u64, width: u16, bytes: &[u8]) -> Result<(), DiskError> {
        let path = match level {
            Some(level) => TilePath::tile(level, number, width),
            None => TilePath::entries(number, width),
        };
        debug_assert!(path.is_some(), "sizes up to 2^63 - 1 have tiles at levels 0 to 7");
        path.map_or(Ok(()), |path| self.disk.put(&path.to_string(), bytes))
    }

    /// The root of the first `size` entries of a tree of `current` entries.
    pub(crate) fn root_at(&self, current: u64, size: u64) -> Result<Hash, ReadError> {
        if size > current {
            return Err(ReadError::OutOfRange { index: size, size: current });
        }
        if size == 0 {
            return Ok(empty_root());
        }
        crate::tree::root_at(size, &Tiles::new(&self.folder, current))
    }

    /// Entries from `from` on: at least one where there is one, else at most `max_count` of them and
    /// `max_bytes` in all.
    pub(crate) fn entries(
        &self,
        current: u64,
        from: u64,
        max_count: usize,
        max_bytes: usize,
    ) -> Result<Vec<Vec<u8>>, ReadError> {
        let tiles = Tiles::new(&self.folder, current);
        let width = u64::from(TILE_WIDTH);
        let (mut taken, mut bytes) = (Vec::new(), 0_usize);
        let mut next = from;
        while next < current && taken.len() < max_count {
            let (_, bundle) = tiles.bundle(next / width)?;
            for entry in bundle.into_iter().skip((next % width) as usize) {
                bytes = bytes.saturating_add(entry.len());
                if taken.len() == max_count || (bytes > max_bytes && !taken.is_empty()) {
                    return Ok(taken);
                }
                taken.push(entry);
                next += 1;
            }
        }
        Ok(taken)
    }

    pub(crate) fn entry(&self, current: u64, index: u64) -> Result<Vec<u8>, ReadError> {
        let out_of_range = ReadError::OutOfRange { index, size: current };
        if index >= current {
            return Err(out_of_range);
        }
        self.entries(current, index, 1, usize::MAX)?.pop().ok_or(out_of_range)
    }
}

/// The number of the tile at `level` that the next hash goes to.
const fn edge_number(size: u64, level: u8) -> u64 {
    match size.checked_shr(TILE_HEIGHT as u32 * (level as u32 + 1)) {
        Some(number) => number,
        None => 0,
    }
}
