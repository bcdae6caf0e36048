//! Blobs as an auditor has them: files named by their hash, believed only when they hash to it.
//!
//! ```text
//!              there?                     hashes to its name?
//!   a folder  ------> the file            ------------------> bytes
//!      |  not there
//!      `----> a source, if there is one: copied into the folder under another name, hashed on the way, renamed
//! ```

use std::{
    fmt::Debug,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use talkoot_protocol::digest::{BlobRef, Digest};

/// Failures of a source in a row after which it is asked no more: a server that is gone must not cost a time-out for each blob
/// of a long run.
const MOST_FAILURES: u32 = 3;

/// Somewhere else to get blobs from. What it gives is not believed.
pub trait BlobSource: Debug + Send + Sync {
    /// Copies a blob to `into`; `false` where there is none. Must not write more bytes than the blob has.
    ///
    /// # Errors
    ///
    /// When the source cannot be asked, or does not give what it should.
    fn copy(&self, blob: &BlobRef, into: &mut dyn io::Write) -> io::Result<bool>;
}

/// Another folder of blobs, which is not written to.
#[derive(Debug)]
pub struct FolderBlobs(PathBuf);

impl FolderBlobs {
    /// The blobs in `dir`.
    pub fn new(dir: &Path) -> Self {
        Self(dir.to_owned())
    }
}

impl BlobSource for FolderBlobs {
    fn copy(&self, blob: &BlobRef, into: &mut dyn io::Write) -> io::Result<bool> {
        match fs::File::open(self.0.join(blob.digest.to_string())) {
            Ok(file) => io::copy(&mut io::Read::take(file, blob.bytes), into).map(|_| true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// A folder of blobs, and where those come from that are not in it.
#[derive(Debug, Clone)]
pub struct Blobs {
    dir: PathBuf,
    sources: Vec<Arc<Remote>>,
    /// Bytes that may still be copied into the folder.
    room: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Remote {
    source: Box<dyn BlobSource>,
    failures: AtomicU32,
}

/// Why a blob cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Absent {
    /// There is no such file, and nobody who could be asked has it.
    Missing,
    /// What is there does not hash to its name, or has another length.
    Damaged,
    /// It may exist; why it is not here.
    OutOfReach(String),
}

impl Blobs {
    /// The blobs in `dir`, as the coordinator and every member keep them.
    pub fn in_folder(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), sources: Vec::new(), room: Arc::new(AtomicU64::new(u64::MAX)) }
    }

    /// The same, with somewhere to ask for what is not there: it is copied into the folder, `most_bytes` in all.
    #[must_use]
    pub fn with_sources(mut self, sources: Vec<Box<dyn BlobSource>>, most_bytes: u64) -> Self {
        let remotes =
            sources.into_iter().map(|source| Arc::new(Remote { source, failures: AtomicU32::new(0) }));
        self.sources = remotes.collect();
        self.room = Arc::new(AtomicU64::new(most_bytes));
        self
    }

    /// Reads a blob; its length is looked at before it is read.
    pub(super) fn read(&self, blob: &BlobRef) -> Result<Vec<u8>, Absent> {
        let path = self.locate(blob)?;
        let length = fs::metadata(&path).map_err(|_| Absent::Missing)?.len();
        if length != blob.bytes {
            return Err(Absent::Damaged);
        }
        let bytes = fs::read(&path).map_err(|_| Absent::Missing)?;
        if Digest::of(&bytes) == blob.digest { Ok(bytes) } else { Err(Absent::Damaged) }
    }

    /// Where the blob lies, once it is there. Who reads the file has to hash it.
    pub(super) fn locate(&self, blob: &BlobRef) -> Result<PathBuf, Absent> {
        let path = self.dir.join(blob.digest.to_string());
        if path.exists() {
            return Ok(path);
        }
        let mut absent = Absent::Missing;
        for remote in &self.sources {
            match self.copy(remote, blob, &path) {
                Ok(()) => return Ok(path),
                Err(Absent::Missing) => {}
                Err(other) => absent = other,
            }
        }
        Err(absent)
    }

    fn copy(&self, remote: &Remote, blob: &BlobRef, path: &Path) -> Result<(), Absent> {
        let out_of_reach = |error: io::Error| Absent::OutOfReach(error.to_string());
        if remote.failures.load(Ordering::Relaxed) >= MOST_FAILURES {
            return Err(Absent::OutOfReach(format!(
                "its source failed {MOST_FAILURES} times in a row and is asked no more"
            )));
        }
        let room = self.room.load(Ordering::Relaxed);
        let Some(left) = room.checked_sub(blob.bytes) else {
            return Err(Absent::OutOfReach(format!(
                "it has {} bytes, and only {room} more may be fetched",
                blob.bytes
            )));
        };
        let temporary = path.with_extension("part");
        let mut file = Hashing::create(&temporary).map_err(out_of_reach)?;
        let copied = remote.source.copy(blob, &mut file);
        let digest = file.digest();
        let kept = match copied {
            Ok(true) if digest == blob.digest => fs::rename(&temporary, path).map_err(out_of_reach),
            Ok(true) => Err(Absent::Damaged),
            Ok(false) => Err(Absent::Missing),
            Err(error) => {
                remote.failures.fetch_add(1, Ordering::Relaxed);
                let _ = fs::remove_file(&temporary);
                return Err(out_of_reach(error));
            }
        };
        remote.failures.store(0, Ordering::Relaxed);
        if kept.is_ok() {
            self.room.store(left, Ordering::Relaxed);
        } else {
            let _ = fs::remove_file(&temporary);
        }
        kept
    }
}

/// A file that is hashed while it is written.
struct Hashing {
    file: fs::File,
    hasher: blake3::Hasher,
}

impl Hashing {
    fn create(path: &Path) -> io::Result<Self> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        Ok(Self { file: fs::File::create(path)?, hasher: blake3::Hasher::new() })
    }

    fn digest(&self) -> Digest {
        Digest::from_bytes(*self.hasher.finalize().as_bytes())
    }
}

impl io::Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Mutex};

    use super::*;

    /// Gives what it is told to give for each digest; without a word for it, it fails.
    #[derive(Debug, Default)]
    struct Scripted {
        answers: BTreeMap<Digest, Option<Vec<u8>>>,
        asked: Arc<Mutex<u32>>,
    }

    impl BlobSource for Scripted {
        fn copy(&self, blob: &BlobRef, into: &mut dyn io::Write) -> io::Result<bool> {
            *self.asked.lock().unwrap() += 1;
            match self.answers.get(&blob.digest) {
                Some(Some(bytes)) => into.write_all(bytes).map(|()| true),
                Some(None) => Ok(false),
                None => Err(io::Error::other("nobody answers")),
            }
        }
    }

    fn blobs(dir: &Path, sources: Vec<Scripted>, most_bytes: u64) -> Blobs {
        let sources = sources.into_iter().map(|source| Box::new(source) as Box<dyn BlobSource>);
        Blobs::in_folder(dir).with_sources(sources.collect(), most_bytes)
    }

    #[test]
    fn what_a_source_gives_is_kept_only_when_it_hashes_to_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let (good, bad, none) = (BlobRef::of(b"good"), BlobRef::of(b"other"), BlobRef::of(b"none"));
        let answers = BTreeMap::from([
            (good.digest, Some(b"good".to_vec())),
            (bad.digest, Some(b"liar!".to_vec())),
            (none.digest, None),
        ]);
        let blobs = blobs(dir.path(), vec![Scripted { answers, ..Scripted::default() }], 1_000);
        assert_eq!(blobs.read(&good), Ok(b"good".to_vec()));
        assert_eq!(blobs.read(&bad), Err(Absent::Damaged));
        assert_eq!(blobs.read(&none), Err(Absent::Missing));
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|item| item.unwrap().file_name()).collect();
        assert_eq!(left, [std::ffi::OsString::from(good.digest.to_string())], "nothing half-fetched stays");
    }

    #[test]
    fn the_next_source_is_asked_and_a_dead_one_soon_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let asked = Arc::new(Mutex::new(0));
        let dead = Scripted { asked: Arc::clone(&asked), ..Scripted::default() };
        let all: Vec<Vec<u8>> = (0..10u8).map(|n| vec![n; 3]).collect();
        let answers = all.iter().map(|bytes| (Digest::of(bytes), Some(bytes.clone()))).collect();
        let blobs = blobs(dir.path(), vec![dead, Scripted { answers, ..Scripted::default() }], 1_000);
        for bytes in &all {
            assert_eq!(blobs.read(&BlobRef::of(bytes)).as_ref(), Ok(bytes));
        }
        assert_eq!(*asked.lock().unwrap(), MOST_FAILURES);
    }

    #[test]
    fn no_more_is_fetched_than_may_be() {
        let dir = tempfile::tempdir().unwrap();
        let all = [vec![1; 60], vec![2; 60]];
        let answers = all.iter().map(|bytes| (Digest::of(bytes), Some(bytes.clone()))).collect();
        let blobs = blobs(dir.path(), vec![Scripted { answers, ..Scripted::default() }], 100);
        assert!(blobs.read(&BlobRef::of(&all[0])).is_ok());
        let refused = blobs.read(&BlobRef::of(&all[1]));
        let reason = "it has 60 bytes, and only 40 more may be fetched".to_owned();
        assert_eq!(refused, Err(Absent::OutOfReach(reason)));
    }
}
