//! A blob while it comes in: verified groups are written as they arrive, in any order, from any number of peers.

use std::{
    fs::{self, File},
    path::PathBuf,
};

use bao_tree::{
    ChunkNum, ChunkRanges,
    io::{DecodeError, outboard::PreOrderOutboard, sync},
};
use talkoot_protocol::digest::BlobRef;

use super::{
    BlobStore,
    error::{At, StoreError},
    files, tree,
};

/// What came of a slice.
#[derive(Debug)]
pub(crate) enum Written {
    /// All of it was right and is on its way to the disk.
    All,
    /// From this byte on it is not what the digest says; everything before was kept.
    FalseFrom(u64),
}

/// The two files of a download. Several threads may write to it at once: only verified bytes are written, so they
/// can only write the same ones.
#[derive(Debug)]
pub(crate) struct Partial {
    store: BlobStore,
    blob: BlobRef,
    data: File,
    outboard: File,
}

impl Partial {
    /// Opens or creates the files of `blob`, and says which chunks are there already, proved afresh.
    pub(super) fn open(store: &BlobStore, blob: BlobRef) -> Result<(Self, ChunkRanges), StoreError> {
        let open = |path: PathBuf, most: u64| {
            let file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .at("opening", path.clone())?;
            if file.metadata().at("looking at", path.clone())?.len() > most {
                file.set_len(most).at("cutting", path)?;
            }
            Ok::<_, StoreError>(file)
        };
        let layout = store.layout();
        let tree = tree::tree(blob.bytes);
        let data_path = layout.partial(&blob.digest);
        let data = open(data_path.clone(), blob.bytes)?;
        let outboard = open(layout.partial_outboard(&blob.digest), tree.outboard_size())?;
        let partial = Self { store: store.clone(), blob, data, outboard };
        let mut have = ChunkRanges::empty();
        if partial.data.metadata().at("looking at", data_path.clone())?.len() > 0 {
            let board = partial.board(&partial.outboard);
            for range in sync::valid_ranges(board, &partial.data, &ChunkRanges::all()) {
                have |= ChunkRanges::from(range.at("proving", data_path.clone())?);
            }
        }
        Ok((partial, have))
    }

    fn board<F>(&self, data: F) -> PreOrderOutboard<F> {
        PreOrderOutboard { root: tree::root(&self.blob.digest), tree: tree::tree(self.blob.bytes), data }
    }

    /// Verifies a slice and writes what is right of it.
    pub(crate) fn write(&self, ranges: &ChunkRanges, encoded: &[u8]) -> Result<Written, StoreError> {
        let path = self.store.layout().partial(&self.blob.digest);
        let mut data = self.data.try_clone().at("opening", path.clone())?;
        let outboard = self.outboard.try_clone().at("opening", path.clone())?;
        match sync::decode_ranges(encoded, ranges, &mut data, self.board(outboard)) {
            Ok(()) => Ok(Written::All),
            Err(DecodeError::LeafHashMismatch(chunk) | DecodeError::LeafNotFound(chunk)) => {
                Ok(Written::FalseFrom(chunk.to_bytes()))
            }
            Err(DecodeError::ParentHashMismatch(node) | DecodeError::ParentNotFound(node)) => {
                Ok(Written::FalseFrom(node.chunk_range().start.to_bytes()))
            }
            Err(DecodeError::Io(source)) => Err(StoreError::io("writing", path, source)),
        }
    }

    /// Syncs both files and moves them to their places among the blobs. MUST be called once every chunk has been verified.
    pub(crate) fn finish(&self) -> Result<(), StoreError> {
        let layout = self.store.layout();
        let digest = &self.blob.digest;
        let path = layout.partial(digest);
        self.data.sync_all().at("syncing", path.clone())?;
        self.outboard.sync_all().at("syncing", layout.partial_outboard(digest))?;
        let inner = &self.store.0;
        let mut index = inner.index();
        if layout.blob(digest).exists() {
            files::remove(&path)?;
            files::remove(&layout.partial_outboard(digest))?;
            return Ok(());
        }
        // whoever sent it has shown it: a marker that an earlier life left behind no longer means anything
        files::remove(&layout.hidden(digest))?;
        if self.blob.bytes > tree::GROUP_BYTES {
            let target = layout.outboard(digest);
            fs::rename(layout.partial_outboard(digest), &target).at("renaming a download to", target)?;
        } else {
            files::remove(&layout.partial_outboard(digest))?;
        }
        let target = layout.blob(digest);
        fs::rename(&path, &target).at("renaming a download to", target)?;
        files::sync_folder(&layout.folder("blobs"))?;
        index.insert(digest, self.blob.bytes);
        Ok(())
    }
}

/// All chunks of a blob that `have` lacks.
pub(crate) fn missing(size: u64, have: &ChunkRanges) -> ChunkRanges {
    &ChunkRanges::from(ChunkNum(0)..ChunkNum::chunks(size)) - have
}
