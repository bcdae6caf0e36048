//! A blob while it comes in: verified groups are written as they arrive, in any order, from any number of peers, and are
//! served to others at once.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use bao_tree::{
    ChunkNum, ChunkRanges, TreeNode,
    io::{outboard::PreOrderOutboard, sync, sync::WriteAt},
};
use talkoot_protocol::digest::{BlobRef, Digest};

use super::{
    BlobStore,
    error::{At, StoreError},
    files,
    quota::Room,
    slice::SliceReader,
    tree,
    walk::{Step, Walk},
};

/// The downloads of this process that go on, for those who may be served from them.
pub(super) type Partials = Mutex<BTreeMap<Digest, Weak<Partial>>>;

/// The two files of a download. Several threads may write to it at once: only verified bytes are written, so they
/// can only write the same ones.
#[derive(Debug)]
pub(crate) struct Partial {
    store: BlobStore,
    blob: BlobRef,
    data: File,
    outboard: File,
    /// What is here, proved and written.
    have: Mutex<ChunkRanges>,
    /// What the quota holds for it.
    _room: Room,
}

/// Verified parts of a slice that are not written yet.
#[derive(Debug, Default)]
pub(crate) struct Proven {
    pairs: Vec<(TreeNode, [u8; 64])>,
    groups: Vec<(u64, Vec<u8>)>,
    /// Length of the groups together.
    pub(crate) bytes: usize,
}

/// A slice as it comes in: fed with whatever the network brings, it proves step by step.
#[derive(Debug)]
pub(crate) struct Incoming {
    walk: Walk,
    /// The beginning of a step whose rest has not come.
    waiting: Vec<u8>,
    proven: Proven,
}

impl Incoming {
    /// A slice of `ranges`, which MUST be whole groups of the blob.
    pub(crate) fn new(blob: BlobRef, ranges: &ChunkRanges) -> Self {
        Self { walk: Walk::new(blob, ranges), waiting: Vec::new(), proven: Proven::default() }
    }

    /// Whether all of it has come.
    pub(crate) fn is_complete(&self) -> bool {
        self.walk.step().is_none()
    }

    /// Takes bytes.
    ///
    /// # Errors
    ///
    /// The offset in the blob from which on they are not what the digest says; everything before it was proved.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> Result<(), u64> {
        while let Some(step) = self.walk.step() {
            let lacking = step.bytes() - self.waiting.len();
            let Some((now, rest)) = bytes.split_at_checked(lacking) else {
                self.waiting.extend_from_slice(bytes);
                return Ok(());
            };
            self.waiting.extend_from_slice(now);
            bytes = rest;
            if !self.walk.take(&self.waiting) {
                return Err(step.offset());
            }
            let taken = std::mem::take(&mut self.waiting);
            match step {
                Step::Pair(node) => {
                    if let Ok(pair) = taken.try_into() {
                        self.proven.pairs.push((node, pair));
                    }
                }
                Step::Group { offset, .. } => {
                    self.proven.bytes += taken.len();
                    self.proven.groups.push((offset, taken));
                }
            }
        }
        // bytes after the end belong to nothing
        if bytes.is_empty() { Ok(()) } else { Err(u64::MAX) }
    }

    /// Bytes that were proved and not taken out yet.
    pub(crate) const fn proven_bytes(&self) -> usize {
        self.proven.bytes
    }

    /// The groups that were proved and not taken out yet, by their offsets.
    pub(crate) fn take_groups(&mut self) -> BTreeMap<u64, Vec<u8>> {
        std::mem::take(&mut self.proven).groups.into_iter().collect()
    }

    /// Takes out what was proved, to be written.
    pub(crate) fn take_proven(&mut self) -> Proven {
        std::mem::take(&mut self.proven)
    }
}

impl Partial {
    /// Opens or creates the files of `blob`, and finds which chunks are there already, proved afresh.
    pub(super) fn open(store: &BlobStore, blob: BlobRef) -> Result<Arc<Self>, StoreError> {
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
        let room = store.room_for(blob.bytes, Some(&blob.digest))?;
        let layout = store.layout();
        let tree = tree::tree(blob.bytes);
        let data_path = layout.partial(&blob.digest);
        let data = open(data_path.clone(), blob.bytes)?;
        let outboard = open(layout.partial_outboard(&blob.digest), tree.outboard_size())?;
        let mut have = ChunkRanges::empty();
        if data.metadata().at("looking at", data_path.clone())?.len() > 0 {
            let board = PreOrderOutboard { root: tree::root(&blob.digest), tree, data: &outboard };
            for range in sync::valid_ranges(board, &data, &ChunkRanges::all()) {
                have |= ChunkRanges::from(range.at("proving", data_path.clone())?);
            }
        }
        let partial = Arc::new(Self {
            store: store.clone(),
            blob,
            data,
            outboard,
            have: Mutex::new(have),
            _room: room,
        });
        let mut all = store.0.partials.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, partial| partial.strong_count() > 0);
        all.insert(blob.digest, Arc::downgrade(&partial));
        drop(all);
        store.0.changes.tell(&blob.digest);
        Ok(partial)
    }

    /// Which blob it is to be.
    pub(crate) const fn blob(&self) -> BlobRef {
        self.blob
    }

    fn here(&self) -> MutexGuard<'_, ChunkRanges> {
        self.have.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which chunks are here.
    pub(crate) fn have(&self) -> ChunkRanges {
        self.here().clone()
    }

    /// Whether all of these chunks are here.
    pub(crate) fn holds(&self, ranges: &ChunkRanges) -> bool {
        (&missing(self.blob.bytes, &self.here()) & ranges).is_empty()
    }

    /// Writes what was proved.
    pub(crate) fn write(&self, proven: Proven) -> Result<(), StoreError> {
        let layout = self.store.layout();
        let tree = tree::tree(self.blob.bytes);
        let path = layout.partial(&self.blob.digest);
        // through handles of one's own: writing at a place wants a mutable one
        let mut data = self.data.try_clone().at("opening", path.clone())?;
        let mut outboard = self.outboard.try_clone().at("opening", path.clone())?;
        for (node, pair) in proven.pairs {
            if let Some(place) = tree.pre_order_offset(node) {
                outboard
                    .write_all_at(place * 64, &pair)
                    .at("writing", layout.partial_outboard(&self.blob.digest))?;
            }
        }
        let mut written = ChunkRanges::empty();
        for (offset, group) in proven.groups {
            data.write_all_at(offset, &group).at("writing", path.clone())?;
            written |= tree::groups(offset, offset + group.len() as u64);
        }
        *self.here() |= written;
        self.store.0.changes.tell(&self.blob.digest);
        Ok(())
    }

    /// Reads a slice of what is here, for somebody else.
    pub(crate) fn slice(&self, ranges: &ChunkRanges) -> Result<SliceReader, StoreError> {
        let layout = self.store.layout();
        let path = layout.partial(&self.blob.digest);
        let data = File::open(&path).at("opening", path.clone())?;
        let board = layout.partial_outboard(&self.blob.digest);
        let board = File::open(&board).at("opening", board)?;
        Ok(SliceReader::new(self.blob, path, data, Some(board), ranges))
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
        inner.quota().stored(self.blob);
        inner.changes.tell(digest);
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // nobody is served from a download that has stopped
        self.store.0.changes.tell(&self.blob.digest);
    }
}

/// All chunks of a blob that `have` lacks.
pub(crate) fn missing(size: u64, have: &ChunkRanges) -> ChunkRanges {
    &ChunkRanges::from(ChunkNum(0)..ChunkNum::chunks(size)) - have
}
