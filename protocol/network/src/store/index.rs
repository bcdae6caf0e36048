//! The sled index: digest to size, a cache that may be thrown away at any moment.
//!
//! sled 0.34 was seen to answer with an error *or a panic* after an abrupt stop, so each
//! call is fenced; whatever goes wrong, the index is given up and the files answer instead.

use std::{
    collections::BTreeMap,
    fs, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use talkoot_protocol::digest::Digest;

/// What sled may keep in memory, in bytes; its own default of 1 GiB is too much for a donor's laptop.
const CACHE_BYTES: u64 = 8 << 20;

/// The index while it works; `db` is `None` once it has been given up.
#[derive(Debug)]
pub(super) struct Index {
    path: PathBuf,
    db: Option<sled::Db>,
}

/// Runs `work`; a panic becomes an error text.
fn fenced<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err("sled panicked".to_owned()))
}

fn open_and_scan(path: &Path) -> Result<(sled::Db, BTreeMap<Digest, u64>), String> {
    fenced(|| {
        let db = sled::Config::new()
            .path(path)
            .cache_capacity(CACHE_BYTES)
            .open()
            .map_err(|error| error.to_string())?;
        let mut known = BTreeMap::new();
        for entry in db.iter() {
            let (key, value) = entry.map_err(|error| error.to_string())?;
            let digest = <[u8; 32]>::try_from(&*key).map_err(|_| "a key has not 32 bytes".to_owned())?;
            let size = <[u8; 8]>::try_from(&*value).map_err(|_| "a value has not 8 bytes".to_owned())?;
            known.insert(Digest::from_bytes(digest), u64::from_le_bytes(size));
        }
        Ok((db, known))
    })
}

impl Index {
    /// Opens the index and makes it say what the files say (`truth`: digest to size).
    pub(super) fn open(path: &Path, truth: &BTreeMap<Digest, u64>) -> Self {
        let existed = path.exists();
        let opened = open_and_scan(path).or_else(|reason| {
            tracing::warn!(path = %path.display(), reason, "the blob index is unreadable; rebuilding it from the files, nothing is lost");
            match fs::remove_dir_all(path) {
                Err(error) if error.kind() == io::ErrorKind::NotADirectory => fs::remove_file(path),
                other => other,
            }
            .map_err(|error| error.to_string())?;
            open_and_scan(path)
        });
        let mut index = Self { path: path.to_owned(), db: None };
        match opened {
            Ok((db, known)) => {
                index.db = Some(db);
                if &known != truth {
                    if existed || !truth.is_empty() {
                        tracing::warn!(path = %path.display(), indexed = known.len(), files = truth.len(),
                            "the blob index disagreed with the files; corrected it");
                    }
                    for stale in known.keys().filter(|digest| !truth.contains_key(*digest)) {
                        index.remove(stale);
                    }
                    for (digest, size) in truth {
                        index.insert(digest, *size);
                    }
                }
            }
            Err(reason) => {
                tracing::warn!(path = %path.display(), reason, "going on without a blob index; listings read the folder");
            }
        }
        index
    }

    /// Runs `work` on the database, and gives the database up if that fails.
    fn with<T>(&mut self, work: impl FnOnce(&sled::Db) -> sled::Result<T>) -> Option<T> {
        let db = self.db.as_ref()?;
        match fenced(|| work(db).map_err(|error| error.to_string())) {
            Ok(value) => Some(value),
            Err(reason) => {
                tracing::warn!(path = %self.path.display(), reason, "the blob index failed; the files answer until the next start");
                // dropping may flush, and so panic, as well
                let db = self.db.take();
                let _ = fenced(move || {
                    drop(db);
                    Ok(())
                });
                None
            }
        }
    }

    pub(super) fn insert(&mut self, digest: &Digest, size: u64) {
        self.with(|db| db.insert(digest.as_bytes(), &size.to_le_bytes()));
    }

    pub(super) fn remove(&mut self, digest: &Digest) {
        self.with(|db| db.remove(digest.as_bytes()));
    }

    /// All digests in order, or `None` where the folder has to be read instead.
    pub(super) fn digests(&mut self) -> Option<Vec<Digest>> {
        let keys = self.with(|db| db.iter().keys().collect::<sled::Result<Vec<_>>>())?;
        keys.iter().map(|key| <[u8; 32]>::try_from(&**key).ok().map(Digest::from_bytes)).collect()
    }
}
