//! Reading packs by number, from shards that are wherever the caller keeps its blobs.

use std::{
    fmt,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use talkoot_protocol::digest::{BlobRef, Digest};

use crate::{
    index::{IndexError, PackIndex},
    sequence::PackedSequence,
    shard::{self, HEAD_BYTES, PackRules, ShardFault},
};

/// Shards kept open at a time. One that is opened again is hashed again.
const OPEN_SHARDS: usize = 32;

/// Why a pack cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The index is bad, or has no such pack.
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
    /// The shard was made for another index.
    #[error("shard {shard} does not belong to this index: {what} differs")]
    Foreign {
        /// Its digest.
        shard: Digest,
        /// What differs.
        what: &'static str,
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
    /// A reader of the data set that `index` describes; `resolve` says where a shard's file is, if it is here.
    ///
    /// # Errors
    ///
    /// [`ReadError::Index`] when the bytes are not an index.
    pub fn open(
        index: &[u8],
        resolve: impl Fn(&Digest) -> Option<PathBuf> + Send + Sync + 'static,
    ) -> Result<Self, ReadError> {
        let index = PackIndex::from_bytes(index)?;
        Ok(Self { index, resolve: Box::new(resolve), open: Mutex::default() })
    }

    /// A reader whose shards lie in one folder, each under its digest, as [`crate::pack::pack_dataset`] leaves them.
    ///
    /// # Errors
    ///
    /// [`ReadError::Index`] when the bytes are not an index.
    pub fn in_folder(index: &[u8], folder: &Path) -> Result<Self, ReadError> {
        let folder = folder.to_path_buf();
        Self::open(index, move |digest| Some(folder.join(digest.to_string())).filter(|path| path.is_file()))
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

    /// Reads one pack, its pictures decoded.
    ///
    /// # Errors
    ///
    /// [`ReadError`] naming the shard and what is wrong: not here, damaged on disk, or badly made.
    pub fn read(&self, pack: u64) -> Result<PackedSequence, ReadError> {
        let (at, in_shard) = self.index.locate(pack)?;
        let shard = self.shard(at, pack)?;
        let (start, end) = (shard.starts[in_shard as usize], shard.starts[in_shard as usize + 1]);
        // The table adds up to the file's length, which was checked, so this is no larger than the file.
        let mut bytes = vec![0; (end - start) as usize];
        {
            let mut file = lock(&shard.file);
            file.seek(SeekFrom::Start(start))
                .and_then(|_| file.read_exact(&mut bytes))
                .map_err(|source| ReadError::Io { shard: shard.digest, path: shard.path.clone(), source })?;
        }
        shard::decode_pack(&bytes, &self.rules()).map_err(|fault| ReadError::BadPack {
            shard: shard.digest,
            pack,
            in_shard,
            fault,
        })
    }

    fn rules(&self) -> PackRules {
        PackRules {
            tokenizer: self.index.tokenizer.digest,
            sequence_tokens: self.index.sequence_tokens,
            vocab_size: self.index.vocab_size,
            image_pad: self.index.image_pad,
        }
    }

    /// The open shard, from the cache or newly checked. The lock is held while hashing, so that it is done once.
    fn shard(&self, at: usize, pack: u64) -> Result<Arc<OpenShard>, ReadError> {
        let entry = self.index.shards[at];
        let digest = entry.blob.digest;
        let mut open = lock(&self.open);
        if let Some(place) = open.iter().position(|shard| shard.digest == digest) {
            let shard = open.remove(place);
            open.push(Arc::clone(&shard));
            return Ok(shard);
        }
        let path = (self.resolve)(&digest).ok_or(ReadError::Missing { shard: digest, pack })?;
        let shard = Arc::new(open_shard(entry.blob, entry.packs, &self.rules(), path)?);
        if open.len() >= OPEN_SHARDS {
            open.remove(0);
        }
        open.push(Arc::clone(&shard));
        Ok(shard)
    }
}

fn open_shard(blob: BlobRef, packs: u32, rules: &PackRules, path: PathBuf) -> Result<OpenShard, ReadError> {
    let shard = blob.digest;
    let io = |source| ReadError::Io { shard, path: path.clone(), source };
    let mut file = File::open(&path).map_err(io)?;
    let got = file.metadata().map_err(io)?.len();
    if got != blob.bytes {
        return Err(ReadError::WrongLength { shard, path, expected: blob.bytes, got });
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(&mut file).map_err(io)?;
    let got = Digest::from_bytes(*hasher.finalize().as_bytes());
    if got != shard {
        return Err(ReadError::WrongDigest { shard, path, got });
    }
    let bad = |fault| ReadError::BadShard { shard, fault };
    file.rewind().map_err(io)?;
    let mut head = Vec::new();
    file.by_ref().take(HEAD_BYTES as u64).read_to_end(&mut head).map_err(io)?;
    let (made_for, held) = shard::decode_head(&head).map_err(bad)?;
    for (what, same) in [
        ("the tokenizer", made_for.tokenizer == rules.tokenizer),
        ("the sequence length", made_for.sequence_tokens == rules.sequence_tokens),
        ("the vocabulary", (made_for.vocab_size, made_for.image_pad) == (rules.vocab_size, rules.image_pad)),
        ("the number of packs", held == packs),
    ] {
        if !same {
            return Err(ReadError::Foreign { shard, what });
        }
    }
    let mut table = Vec::new();
    file.by_ref().take(u64::from(packs) * 4).read_to_end(&mut table).map_err(io)?;
    let starts = shard::decode_table(&table, packs, blob.bytes).map_err(bad)?;
    Ok(OpenShard { digest: shard, path, file: Mutex::new(file), starts })
}

#[cfg(test)]
mod tests;
