//! The blob store: plain files named by their BLAKE3 hash, each with the hash tree that lets it be served in verified slices.
//!
//! ```text
//! <folder>/lock             held for as long as the store is open
//!          blobs/<hex>      a blob; there or not there, never half there
//!          blobs/<hex>.obao its hash tree, for blobs above 16 KiB
//!          partial/<hex>    a download that goes on where it stopped
//!          hidden/<hex>     marker: never served until revealed
//!          damaged/<hex>    a blob whose bytes changed on the disk
//!          temp/            swept at start
//!          index/           sled, a cache of names and sizes; deleted and rebuilt when in doubt
//! ```
//!
//! The files decide. A file is written under a temporary name, synced, renamed, and its folder synced; the tree and the
//! marker go before the blob, so that a blob that is there has both.

mod changes;
mod error;
mod files;
mod index;
mod partial;
mod quota;
mod slice;
#[cfg(test)]
mod tests;
pub(crate) mod tree;
mod walk;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bao_tree::ChunkRanges;
use fs4::FileExt;
use talkoot_protocol::digest::{BlobRef, Digest};
use tokio::sync::broadcast;

pub use self::error::StoreError;
use self::{
    changes::Changes,
    error::At,
    files::{Layout, TempFile},
    index::Index,
    partial::Partials,
    quota::Quota,
};
pub(crate) use self::{
    partial::{Incoming, Partial, missing},
    slice::{SliceError, SliceReader},
};

/// A folder of blobs that one process works in. Clones are the same store.
#[derive(Debug, Clone)]
pub struct BlobStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    layout: Layout,
    /// Held by whoever changes names in `blobs/` and `hidden/`, so that the order of the steps is nobody else's worry.
    index: Mutex<Index>,
    /// Taken after `index` where both are.
    quota: Mutex<Quota>,
    partials: Partials,
    changes: Changes,
    /// Goes with the last clone.
    _lock: Lock,
}

/// The lock on the folder, given back by name: a child process that is just being started holds a copy of the file for a
/// moment, and closing ours would leave the lock with it.
#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // what cannot be unlocked is unlocked when the file closes
        let _ = FileExt::unlock(&self.0);
    }
}

impl Inner {
    fn index(&self) -> MutexGuard<'_, Index> {
        // the index fences its own panics, and the files hold the truth anyway
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Copies whatever is read to a file.
struct Tee<R, W>(R, W);

impl<R: Read, W: Write> Read for Tee<R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.0.read(buffer)?;
        self.1.write_all(&buffer[..got])?;
        Ok(got)
    }
}

impl BlobStore {
    /// Opens the store in `dir`, makes it where there is none, and puts in order what a killed process left behind.
    ///
    /// # Errors
    ///
    /// [`StoreError::InUse`] while another process (or another store of this one) has the folder; file trouble otherwise.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(dir).at("making the folder", dir)?;
        let path = dir.join("lock");
        let lock = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .at("opening the lock", path.clone())?;
        match FileExt::try_lock(&lock) {
            Ok(()) => {}
            Err(fs4::TryLockError::WouldBlock) => return Err(StoreError::InUse { path: dir.to_owned() }),
            Err(fs4::TryLockError::Error(source)) => return Err(StoreError::io("locking", path, source)),
        }
        let layout = Layout::create(dir)?;
        layout.sweep_temp()?;
        let truth = take_stock(&layout)?;
        let index = Mutex::new(Index::open(&layout.folder("index"), &truth));
        let quota = Mutex::new(Quota::new(Self::by_age(&layout, &truth)));
        let partials = Partials::default();
        let changes = Changes::default();
        Ok(Self(Arc::new(Inner { layout, index, quota, partials, changes, _lock: Lock(lock) })))
    }

    fn layout(&self) -> &Layout {
        &self.0.layout
    }

    /// Stores `content`, for everybody to fetch. Does nothing when the blob is there.
    ///
    /// # Errors
    ///
    /// File trouble, a full disk.
    pub fn put(&self, content: &[u8]) -> Result<BlobRef, StoreError> {
        self.put_bytes(content, false)
    }

    /// Stores `content` so that nobody is served it until [`reveal`](Self::reveal). A blob that is there stays as visible as it is.
    ///
    /// # Errors
    ///
    /// File trouble, a full disk.
    pub fn put_hidden(&self, content: &[u8]) -> Result<BlobRef, StoreError> {
        self.put_bytes(content, true)
    }

    fn put_bytes(&self, content: &[u8], hidden: bool) -> Result<BlobRef, StoreError> {
        let blob = BlobRef::of(content);
        if self.size(&blob.digest) == Some(blob.bytes) {
            return Ok(blob);
        }
        let _room = self.room(blob.bytes)?;
        let (temp, mut file) = TempFile::create(self.layout())?;
        file.write_all(content).and_then(|()| file.sync_all()).at("writing", temp.path())?;
        let (_, outboard) = tree::build(content, blob.bytes).at("hashing", temp.path())?;
        self.place(blob, temp, &outboard, hidden)?;
        Ok(blob)
    }

    /// Copies the file at `path` into the store in one pass; memory is 0.4 % of its length.
    ///
    /// # Errors
    ///
    /// [`StoreError::Changed`] when the file's length changes meanwhile; file trouble, a full disk.
    pub fn put_file(&self, path: &Path) -> Result<BlobRef, StoreError> {
        let mut source = File::open(path).at("opening", path)?;
        let size = source.metadata().at("looking at", path)?.len();
        let _room = self.room(size)?;
        let (temp, mut file) = TempFile::create(self.layout())?;
        let (digest, outboard) =
            tree::build(Tee(&mut source, &mut file), size).map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => StoreError::Changed { path: path.to_owned() },
                _ => StoreError::io("copying into the store", path, error),
            })?;
        if source.read(&mut [0]).at("reading", path)? != 0 {
            return Err(StoreError::Changed { path: path.to_owned() });
        }
        let blob = BlobRef { digest, bytes: size };
        if self.size(&digest) != Some(size) {
            file.sync_all().at("syncing", temp.path())?;
            self.place(blob, temp, &outboard, false)?;
        }
        Ok(blob)
    }

    /// Gives a synced temporary file its name: marker first, then the tree, then the blob.
    fn place(&self, blob: BlobRef, temp: TempFile, outboard: &[u8], hidden: bool) -> Result<(), StoreError> {
        let layout = self.layout();
        let mut index = self.0.index();
        let target = layout.blob(&blob.digest);
        if target.metadata().is_ok_and(|there| there.len() == blob.bytes) {
            return Ok(()); // somebody else was faster
        }
        let marker = layout.hidden(&blob.digest);
        if hidden {
            mark(layout, &marker)?;
        } else {
            files::remove(&marker)?;
        }
        write_outboard(layout, &blob.digest, outboard)?;
        temp.place(&target)?;
        files::sync_folder(&layout.folder("blobs"))?;
        index.insert(&blob.digest, blob.bytes);
        self.0.quota().stored(blob);
        self.0.changes.tell(&blob.digest);
        Ok(())
    }

    /// Reads a whole blob and proves it.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`]; [`StoreError::TooLarge`] before anything is allocated; [`StoreError::Damaged`] when the bytes
    /// changed on the disk, after which the store no longer has the blob.
    pub fn read(&self, digest: &Digest, max_bytes: u64) -> Result<Vec<u8>, StoreError> {
        self.0.quota().used(digest);
        let path = self.layout().blob(digest);
        let mut file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::NotFound { digest: *digest });
            }
            other => other.at("opening", path.clone())?,
        };
        let bytes = file.metadata().at("looking at", path.clone())?.len();
        let length = match usize::try_from(bytes) {
            Ok(length) if bytes <= max_bytes => length,
            _ => return Err(StoreError::TooLarge { digest: *digest, bytes, max_bytes }),
        };
        let mut content = Vec::with_capacity(length);
        (&mut file).take(bytes).read_to_end(&mut content).at("reading", path)?;
        if Digest::of(&content) == *digest { Ok(content) } else { Err(self.set_aside(digest)) }
    }

    /// Begins to read the slice for `ranges`. What is read is proved on the way; when it is false, [`mend`](Self::mend) sees
    /// to it.
    pub(crate) fn slice(&self, blob: BlobRef, ranges: &ChunkRanges) -> Result<SliceReader, StoreError> {
        self.0.quota().used(&blob.digest);
        let path = self.layout().blob(&blob.digest);
        let data = File::open(&path).at("opening", path.clone())?;
        let board = if blob.bytes > tree::GROUP_BYTES {
            let path = self.layout().outboard(&blob.digest);
            Some(File::open(&path).at("opening", path)?)
        } else {
            None
        };
        Ok(SliceReader::new(blob, path, data, board, ranges))
    }

    /// Finds out which of a blob's two files does not fit the other: rebuilds a hash tree that is damaged.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] when it is the blob itself, after which the store no longer has it.
    pub(crate) fn mend(&self, blob: BlobRef) -> Result<(), StoreError> {
        let (layout, digest) = (self.layout(), &blob.digest);
        let path = layout.blob(digest);
        let file = File::open(&path).at("opening", path.clone())?;
        let bytes = file.metadata().at("looking at", path.clone())?.len();
        let (actual, outboard) = tree::build(io::BufReader::new(file), bytes).at("hashing", path)?;
        if actual != *digest || bytes != blob.bytes {
            return Err(self.set_aside(digest));
        }
        tracing::warn!(%digest, "the hash tree of a blob was damaged on the disk; it is rebuilt");
        write_outboard(layout, digest, &outboard)
    }

    /// Opens or goes on with a download.
    pub(crate) fn partial(&self, blob: BlobRef) -> Result<Arc<Partial>, StoreError> {
        Partial::open(self, blob)
    }

    /// The download of a blob that goes on in this process.
    pub(crate) fn open_partial(&self, digest: &Digest) -> Option<Arc<Partial>> {
        self.0.partials.lock().unwrap_or_else(PoisonError::into_inner).get(digest)?.upgrade()
    }

    /// As [`open_partial`](Self::open_partial), where others may be served from it.
    pub(crate) fn visible_partial(&self, digest: &Digest) -> Option<Arc<Partial>> {
        self.open_partial(digest).filter(|_| !self.is_hidden(digest))
    }

    /// Which blobs change from now on.
    pub(crate) fn changes(&self) -> broadcast::Receiver<Digest> {
        self.0.changes.listen()
    }

    /// Takes a blob whose bytes are wrong out of the store.
    fn set_aside(&self, digest: &Digest) -> StoreError {
        let layout = self.layout();
        let mut index = self.0.index();
        let path = layout.damaged(digest);
        let moved =
            fs::rename(layout.blob(digest), &path).at("setting aside the damaged file as", path.clone());
        let cleared =
            files::remove(&layout.outboard(digest)).and_then(|_| files::remove(&layout.hidden(digest)));
        index.remove(digest);
        self.0.quota().removed(digest);
        self.0.changes.tell(digest);
        tracing::warn!(%digest, path = %path.display(), "a blob is damaged on the disk; it is set aside and will be fetched again");
        match moved.and(cleared.map(drop)) {
            Ok(()) => StoreError::Damaged { digest: *digest, path },
            Err(error) => error,
        }
    }

    /// Where the blob lies, for programs that map or stream it; they MUST NOT write to it.
    pub fn path(&self, digest: &Digest) -> Option<PathBuf> {
        self.0.quota().used(digest);
        let path = self.layout().blob(digest);
        path.is_file().then_some(path)
    }

    /// Whether the blob is here, hidden or not.
    pub fn contains(&self, digest: &Digest) -> bool {
        self.layout().blob(digest).is_file()
    }

    /// Length of a blob in bytes.
    pub fn size(&self, digest: &Digest) -> Option<u64> {
        self.layout().blob(digest).metadata().ok().filter(|there| there.is_file()).map(|there| there.len())
    }

    /// Deletes a blob; says whether there was one.
    ///
    /// # Errors
    ///
    /// File trouble.
    pub fn remove(&self, digest: &Digest) -> Result<bool, StoreError> {
        let layout = self.layout();
        let mut index = self.0.index();
        let was_there = files::remove(&layout.blob(digest))?;
        files::remove(&layout.outboard(digest))?;
        files::remove(&layout.hidden(digest))?;
        if was_there {
            files::sync_folder(&layout.folder("blobs"))?;
            index.remove(digest);
        }
        self.0.quota().removed(digest);
        self.0.changes.tell(digest);
        Ok(was_there)
    }

    /// All blobs, hidden ones too, in order of their digests.
    pub fn list(&self) -> Vec<BlobRef> {
        let indexed = self.0.index().digests();
        let digests = indexed.unwrap_or_else(|| {
            let files = files::entries(&self.layout().folder("blobs")).unwrap_or_default();
            files.iter().filter_map(|path| files::digest_of(path)).collect()
        });
        let mut blobs: Vec<_> = digests
            .into_iter()
            .filter_map(|digest| self.size(&digest).map(|bytes| BlobRef { digest, bytes }))
            .collect();
        blobs.sort_unstable();
        blobs
    }

    /// Stops serving a blob until [`reveal`](Self::reveal).
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`]; file trouble.
    pub fn hide(&self, digest: &Digest) -> Result<(), StoreError> {
        let layout = self.layout();
        let _index = self.0.index();
        if !self.contains(digest) {
            return Err(StoreError::NotFound { digest: *digest });
        }
        mark(layout, &layout.hidden(digest))?;
        self.0.changes.tell(digest);
        Ok(())
    }

    /// Lets a hidden blob be served. Does nothing to a visible one.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`]; file trouble.
    pub fn reveal(&self, digest: &Digest) -> Result<(), StoreError> {
        let layout = self.layout();
        let _index = self.0.index();
        if !self.contains(digest) {
            return Err(StoreError::NotFound { digest: *digest });
        }
        if files::remove(&layout.hidden(digest))? {
            files::sync_folder(&layout.folder("hidden"))?;
        }
        self.0.changes.tell(digest);
        Ok(())
    }

    /// Whether the blob is here but not for others.
    pub fn is_hidden(&self, digest: &Digest) -> bool {
        self.layout().hidden(digest).exists()
    }

    /// Length of a blob that may be served, in bytes.
    pub(crate) fn visible_size(&self, digest: &Digest) -> Option<u64> {
        // size first: a blob's marker is older than the blob, so a blob seen here has its marker seen below
        let size = self.size(digest)?;
        (!self.is_hidden(digest)).then_some(size)
    }
}

/// Creates a marker that outlives power loss.
fn mark(layout: &Layout, marker: &Path) -> Result<(), StoreError> {
    File::create(marker).and_then(|file| file.sync_all()).at("marking as hidden", marker)?;
    files::sync_folder(&layout.folder("hidden"))
}

/// Writes a blob's hash tree beside where the blob goes.
fn write_outboard(layout: &Layout, digest: &Digest, outboard: &[u8]) -> Result<(), StoreError> {
    if outboard.is_empty() {
        return Ok(());
    }
    let (temp, mut file) = TempFile::create(layout)?;
    file.write_all(outboard).and_then(|()| file.sync_all()).at("writing", temp.path())?;
    temp.place(&layout.outboard(digest))
}

/// Reads what is in `blobs/`, rebuilds missing trees, removes orphans, and returns digest to size.
fn take_stock(layout: &Layout) -> Result<BTreeMap<Digest, u64>, StoreError> {
    let mut blobs = BTreeMap::new();
    let paths = files::entries(&layout.folder("blobs"))?;
    for path in &paths {
        let Some(digest) = files::digest_of(path) else { continue };
        let size = path.metadata().at("looking at", path)?.len();
        let expected = tree::tree(size).outboard_size();
        let board = layout.outboard(&digest);
        if expected > 0 && board.metadata().ok().map(|there| there.len()) != Some(expected) {
            let file = File::open(path).at("opening", path)?;
            let (actual, outboard) = tree::build(io::BufReader::new(file), size).at("hashing", path)?;
            if actual != digest {
                let target = layout.damaged(&digest);
                tracing::warn!(%digest, path = %target.display(), "a blob is damaged on the disk; it is set aside and will be fetched again");
                fs::rename(path, &target).at("setting aside the damaged file as", target)?;
                continue;
            }
            write_outboard(layout, &digest, &outboard)?;
        }
        blobs.insert(digest, size);
    }
    for path in paths {
        if files::outboard_digest_of(&path).is_some_and(|digest| !blobs.contains_key(&digest)) {
            files::remove(&path)?;
        }
    }
    for path in files::entries(&layout.folder("hidden"))? {
        if files::digest_of(&path).is_some_and(|digest| !blobs.contains_key(&digest)) {
            files::remove(&path)?;
        }
    }
    Ok(blobs)
}
