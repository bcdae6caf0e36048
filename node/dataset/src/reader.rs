//! Reading packs by number, from shards that are wherever the caller keeps its blobs.

mod ahead;

use std::{
    fmt,
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use talkoot_protocol::digest::{BlobRef, Digest};

pub use self::ahead::{AheadOptions, ReadAhead};
use crate::{
    index::{IndexError, PackIndex, ShardEntry},
    manifest::{DatasetManifest, ManifestError},
    sequence::PackedSequence,
    shard::{self, PackParts, ShardFault},
};

/// Shards kept open at a time. One that is opened again is hashed again.
const OPEN_SHARDS: usize = 32;

/// Why a pack cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The manifest is bad.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The data set has no such pack.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The shard is not here.
    #[error("shard {shard} is not here; fetch it before reading pack {pack}")]
    Missing {
        /// Its digest.
        shard: Digest,
        /// The pack that was asked for.
        pack: u64,
    },
    /// The shard's file cannot be read.
    #[error("cannot read shard {shard} at {}", path.display())]
    Io {
        /// Its digest.
        shard: Digest,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is not the blob that its name says.
    #[error("shard {shard} at {} is damaged: its bytes hash to {got}; delete it and fetch it again", path.display())]
    WrongDigest {
        /// The digest it should have.
        shard: Digest,
        /// The file.
        path: PathBuf,
        /// The digest it has.
        got: Digest,
    },
    /// The file has not the length that the index says.
    #[error("shard {shard} at {} is damaged: {got} bytes instead of {expected}; delete it and fetch it again", path.display())]
    WrongLength {
        /// The digest it should have.
        shard: Digest,
        /// The file.
        path: PathBuf,
        /// Bytes it should have.
        expected: u64,
        /// Bytes it has.
        got: u64,
    },
    /// The shard is what its name says, and still no good: whoever packed it made a mistake or a trap.
    #[error("shard {shard} is badly made: {fault}; the data set must be packed anew")]
    BadShard {
        /// Its digest.
        shard: Digest,
        /// What is wrong.
        fault: ShardFault,
    },
    /// As [`Self::BadShard`], in one pack.
    #[error(
        "pack {pack} (number {in_shard} of shard {shard}) is badly made: {fault}; the data set must be packed anew"
    )]
    BadPack {
        /// The shard's digest.
        shard: Digest,
        /// The pack's number in the data set.
        pack: u64,
        /// Its number in the shard.
        in_shard: u32,
        /// What is wrong.
        fault: ShardFault,
    },
}

/// A shard whose bytes have been checked against its name.
struct OpenShard {
    digest: Digest,
    path: PathBuf,
    file: Mutex<File>,
    starts: Vec<u64>,
}

type Resolve = dyn Fn(&Digest) -> Option<PathBuf> + Send + Sync;

/// Reads the packs of one data set. May be shared between threads.
///
/// A shard is looked for when a pack of it is first read, and hashed once then; afterwards a read is one `seek` and
/// one `read`.
pub struct PackReader {
    index: PackIndex,
    resolve: Box<Resolve>,
    open: Mutex<Vec<Arc<OpenShard>>>,
}

impl fmt::Debug for PackReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PackReader").field("totals", &self.index.totals).finish_non_exhaustive()
    }
}

/// What the lock guards is replaced whole, so a panic elsewhere leaves it sound.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PackReader {
    /// A reader of the data set that `manifest` describes; `resolve` says where a shard's file is, if it is here.
    ///
    /// # Errors
    ///
    /// [`ReadError::Manifest`] when the bytes are not a manifest.
    pub fn open(
        manifest: &[u8],
        resolve: impl Fn(&Digest) -> Option<PathBuf> + Send + Sync + 'static,
    ) -> Result<Self, ReadError> {
        let index = DatasetManifest::from_bytes(manifest)?.index;
        Ok(Self { index, resolve: Box::new(resolve), open: Mutex::default() })
    }

    /// A reader whose shards lie in one folder, each under its digest, as [`crate::pack::pack_dataset`] leaves them.
    ///
    /// # Errors
    ///
    /// [`ReadError::Manifest`] when the bytes are not a manifest.
    pub fn in_folder(manifest: &[u8], folder: &Path) -> Result<Self, ReadError> {
        let folder = folder.to_path_buf();
        Self::open(manifest, move |digest| {
            Some(folder.join(digest.to_string())).filter(|path| path.is_file())
        })
    }

    /// What the index says.
    pub fn index(&self) -> &PackIndex {
        &self.index
    }

    /// How many packs there are.
    pub fn packs(&self) -> u64 {
        self.index.totals.packs
    }

    /// The shards that hold these packs: what a member must fetch for its assignment.
    ///
    /// # Errors
    ///
    /// [`ReadError::Index`] when a pack does not exist.
    pub fn shards_of(&self, packs: impl IntoIterator<Item = u64>) -> Result<Vec<BlobRef>, ReadError> {
        Ok(self.index.shards_of(packs)?)
    }

    /// Reads one pack, its pictures decoded and resized.
    ///
    /// # Errors
    ///
    /// [`ReadError`] naming the shard and what is wrong: not here, damaged on disk, or badly made.
    pub fn read(&self, pack: u64) -> Result<PackedSequence, ReadError> {
        self.with_parts(pack, |parts| parts.decode(&self.index.rules()))
    }

    /// Reads one pack and gives its parts, the pictures as encoded files.
    ///
    /// # Errors
    ///
    /// [`ReadError`] as [`Self::read`], but for the pictures' content; and whatever `look` finds.
    pub fn with_parts<T>(
        &self,
        pack: u64,
        look: impl FnOnce(PackParts<'_>) -> Result<T, ShardFault>,
    ) -> Result<T, ReadError> {
        let (at, in_shard) = self.index.locate(pack)?;
        let shard = self.shard(at, pack)?;
        let (start, end) = (shard.starts[in_shard as usize], shard.starts[in_shard as usize + 1]);
        // The walk has bounded a pack's length.
        let mut bytes = vec![0; (end - start) as usize];
        {
            let mut file = lock(&shard.file);
            file.seek(SeekFrom::Start(start))
                .and_then(|_| file.read_exact(&mut bytes))
                .map_err(|source| ReadError::Io { shard: shard.digest, path: shard.path.clone(), source })?;
        }
        let bad = |fault| ReadError::BadPack { shard: shard.digest, pack, in_shard, fault };
        PackParts::parse(&bytes, pack, &self.index.rules()).and_then(look).map_err(bad)
    }

    /// The open shard, from the cache or newly checked. The lock is held while hashing, so that it is done once.
    fn shard(&self, at: usize, pack: u64) -> Result<Arc<OpenShard>, ReadError> {
        let entry = self.index.shards[at];
        let digest = entry.blob.digest;
        let mut open = lock(&self.open);
        // The same bytes may stand in the index twice only with other pack numbers, which they cannot have.
        if let Some(place) = open.iter().position(|shard| shard.digest == digest) {
            let shard = open.remove(place);
            open.push(Arc::clone(&shard));
            return Ok(shard);
        }
        let path = (self.resolve)(&digest).ok_or(ReadError::Missing { shard: digest, pack })?;
        let shard = Arc::new(open_shard(&entry, path)?);
        if open.len() >= OPEN_SHARDS {
            open.remove(0);
        }
        open.push(Arc::clone(&shard));
        Ok(shard)
    }
}

fn open_shard(entry: &ShardEntry, path: PathBuf) -> Result<OpenShard, ReadError> {
    let BlobRef { digest: shard, bytes } = entry.blob;
    let io = |source| ReadError::Io { shard, path: path.clone(), source };
    let mut file = File::open(&path).map_err(io)?;
    let got = file.metadata().map_err(io)?.len();
    if got != bytes {
        return Err(ReadError::WrongLength { shard, path, expected: bytes, got });
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(&mut file).map_err(io)?;
    let got = Digest::from_bytes(*hasher.finalize().as_bytes());
    if got != shard {
        return Err(ReadError::WrongDigest { shard, path, got });
    }
    // Only headers are read; a larger buffer would be read for nothing.
    let mut headers = BufReader::with_capacity(1 << 10, &mut file);
    let starts = shard::walk(&mut headers, bytes, entry.first_pack, entry.packs)
        .map_err(io)?
        .map_err(|fault| ReadError::BadShard { shard, fault })?;
    Ok(OpenShard { digest: shard, path, file: Mutex::new(file), starts })
}

#[cfg(test)]
mod tests;
