//! Files that are either wholly there or not there, whatever happens in between.
//!
//! A file is written under a temporary name, synchronised, and renamed into place; then the folders that changed
//! are synchronised. [`Disk::sync`] does that for all files put since the last one: journalling file systems
//! write much of what the later ones need when the first is synchronised. After any error the state on the disk
//! is unknown (a failed fsync may drop pages silently), so the owner has to open it again.

use std::{
    collections::BTreeSet,
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

#[cfg(test)]
pub(crate) mod faults;
mod place;

/// The writer's own folder within the log's starts with a dot, so that web servers don't list it.
const TEMP_DIR: &str = ".writer/tmp";
const LOCK_FILE: &str = ".writer/lock";
/// Names the lock file as it was born, see [`place`]. The lock file is never written anew.
const PLACE_FILE: &str = ".writer/place";

/// Files that wait, open, to be synchronised together.
const MAX_STAGED: usize = 64;

/// An operation on a file that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {op} {}{}", path.display(), advice(source))]
pub struct DiskError {
    /// What was tried.
    pub op: &'static str,
    /// On which file or folder.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

fn advice(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull => ": the disk is full; make room, then open the log again",
        io::ErrorKind::QuotaExceeded => ": the quota is used up; make room, then open the log again",
        io::ErrorKind::PermissionDenied => ": permission denied; the folder must belong to this user",
        io::ErrorKind::ReadOnlyFilesystem => ": the file system is read-only",
        io::ErrorKind::WouldBlock => ": another process holds it; stop that process or use another folder",
        _ => "",
    }
}

/// A folder with one writer.
#[derive(Debug)]
pub(crate) struct Disk {
    root: PathBuf,
    // held for its lock, which ends with the file
    lock: File,
    known_dirs: BTreeSet<PathBuf>,
    changed_dirs: BTreeSet<PathBuf>,
    temporaries: u64,
    staged: Vec<Staged>,
    #[cfg(test)]
    faults: faults::Faults,
}

/// A file that is written and neither durable nor in place yet.
#[derive(Debug)]
struct Staged {
    file: File,
    temp: PathBuf,
    path: PathBuf,
}

impl Disk {
    /// Locks the folder, which is made if need be, and clears what a killed writer left half written.
    pub(crate) fn lock(root: &Path) -> Result<Self, DiskError> {
        let temp = root.join(TEMP_DIR);
        fs::create_dir_all(&temp).map_err(at("create folder", &temp))?;
        let path = root.join(LOCK_FILE);
        let lock = File::options().create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(at("open the lock file", &path))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => {
                at("lock", &path)(io::Error::new(io::ErrorKind::WouldBlock, "locked by another process"))
            }
            TryLockError::Error(error) => at("lock", &path)(error),
        })?;
        for leftover in fs::read_dir(&temp).map_err(at("list", &temp))? {
            let path = leftover.map_err(at("list", &temp))?.path();
            fs::remove_file(&path).map_err(at("remove the leftover", &path))?;
        }
        Ok(Self {
            root: root.to_owned(),
            lock,
            known_dirs: BTreeSet::new(),
            changed_dirs: BTreeSet::new(),
            temporaries: 0,
            staged: Vec::new(),
            #[cfg(test)]
            faults: faults::Faults::default(),
        })
    }

    #[cfg(test)]
    pub(crate) fn with_faults(mut self, faults: faults::Faults) -> Self {
        self.faults = faults;
        self
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Whether this is the folder that was claimed, not a copy of it.
    pub(crate) fn is_original(&self) -> Result<bool, DiskError> {
        let here = self.place()?;
        Ok(self.get(PLACE_FILE)?.as_deref() == Some(here.as_bytes()))
    }

    /// Makes this folder the original, which only who knows that there is no newer one may do.
    pub(crate) fn claim(&mut self) -> Result<(), DiskError> {
        let here = self.place()?;
        self.put(PLACE_FILE, here.as_bytes())?;
        self.sync()
    }

    fn place(&self) -> Result<String, DiskError> {
        place::of(&self.lock).map_err(at("look at", &self.root.join(LOCK_FILE)))
    }

    /// The bytes of a small file of ours, or `None` where there is none.
    pub(crate) fn get(&self, name: &str) -> Result<Option<Vec<u8>>, DiskError> {
        let path = self.root.join(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(at("read", &path)(error)),
        }
    }

    /// Writes a file. It is in place, whole and for good, after the next [`Self::sync`].
    pub(crate) fn put(&mut self, name: &str, bytes: &[u8]) -> Result<(), DiskError> {
        let path = self.root.join(name);
        let dir = path.parent().unwrap_or(&self.root).to_owned();
        self.make_dir(&dir)?;
        let temp = self.root.join(format!("{TEMP_DIR}/{}", self.temporaries));
        self.temporaries += 1;

        let file = self.step("create", &temp, || File::create_new(&temp))?;
        self.write(&file, &temp, bytes)?;
        self.staged.push(Staged { file, temp, path });
        self.changed_dirs.insert(dir);
        if self.staged.len() >= MAX_STAGED { self.settle() } else { Ok(()) }
    }

    /// Content first, then names: a name never stands for half a file.
    fn settle(&mut self) -> Result<(), DiskError> {
        let staged = std::mem::take(&mut self.staged);
        for Staged { file, temp, .. } in &staged {
            self.step("synchronise", temp, || file.sync_all())?;
        }
        for Staged { file, temp, path } in staged {
            drop(file);
            self.step("rename into place", &path, || fs::rename(&temp, &path))?;
        }
        Ok(())
    }

    /// Puts everything written so far in place, in its order, and makes it survive a power cut.
    pub(crate) fn sync(&mut self) -> Result<(), DiskError> {
        self.settle()?;
        for dir in std::mem::take(&mut self.changed_dirs) {
            self.step("synchronise folder", &dir, || File::open(&dir)?.sync_all())?;
        }
        Ok(())
    }

    /// A folder seen for the first time by this process gets its own name synchronised too: an earlier
    /// process may have made it and died before it did that.
    fn make_dir(&mut self, dir: &Path) -> Result<(), DiskError> {
        if self.known_dirs.contains(dir) {
            return Ok(());
        }
        self.step("create folder", dir, || fs::create_dir_all(dir))?;
        for ancestor in dir.ancestors().take_while(|ancestor| ancestor.starts_with(&self.root)) {
            // the first known one holds the name of the new one; those above it are as they were
            self.changed_dirs.insert(ancestor.to_owned());
            if !self.known_dirs.insert(ancestor.to_owned()) {
                break;
            }
        }
        Ok(())
    }

    fn write(&self, mut file: &File, path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
        #[cfg(test)]
        if self.faults.is_next_torn() {
            // half of it reaches the disk
            let _ = file.write_all(&bytes[..bytes.len() / 2]);
        }
        self.step("write", path, || file.write_all(bytes))
    }

    /// One change to the disk. Tests make any of them fail.
    #[cfg_attr(not(test), expect(clippy::unused_self, reason = "tests find their faults here"))]
    fn step<T>(
        &self,
        op: &'static str,
        path: &Path,
        change: impl FnOnce() -> io::Result<T>,
    ) -> Result<T, DiskError> {
        #[cfg(test)]
        self.faults.before(op, path).map_err(at(op, path))?;
        let done = change().map_err(at(op, path))?;
        #[cfg(test)]
        self.faults.after().map_err(at(op, path))?;
        Ok(done)
    }
}

/// Says which operation on which file an error comes from.
pub(crate) fn at(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DiskError {
    let path = path.to_owned();
    move |source| DiskError { op, path, source }
}

/// A copy of a folder as `cp -a` makes it, for tests.
#[cfg(test)]
pub(crate) fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for item in fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let target = to.join(item.file_name());
        if item.file_type().unwrap().is_dir() {
            copy_tree(&item.path(), &target);
        } else {
            fs::copy(item.path(), target).unwrap();
        }
    }
}
