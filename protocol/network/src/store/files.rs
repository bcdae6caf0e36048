//! The store's folders and the order of writes that lets a kill at any moment leave whole blobs only.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use talkoot_protocol::digest::Digest;

use super::error::{At, StoreError};

/// Ending of an outboard's file name.
const OUTBOARD: &str = ".obao";

/// Where everything lies.
#[derive(Debug)]
pub(super) struct Layout {
    /// The store's own folder.
    pub(super) root: PathBuf,
    /// Number of the next temporary file.
    next_temp: AtomicU64,
}

impl Layout {
    /// Makes the folders that are missing.
    pub(super) fn create(root: &Path) -> Result<Self, StoreError> {
        for folder in ["blobs", "partial", "hidden", "damaged", "temp"] {
            let path = root.join(folder);
            fs::create_dir_all(&path).at("making the folder", path)?;
        }
        Ok(Self { root: root.to_owned(), next_temp: AtomicU64::new(0) })
    }

    pub(super) fn folder(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.to_string())
    }

    pub(super) fn outboard(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(format!("{digest}{OUTBOARD}"))
    }

    pub(super) fn partial(&self, digest: &Digest) -> PathBuf {
        self.root.join("partial").join(digest.to_string())
    }

    pub(super) fn partial_outboard(&self, digest: &Digest) -> PathBuf {
        self.root.join("partial").join(format!("{digest}{OUTBOARD}"))
    }

    pub(super) fn hidden(&self, digest: &Digest) -> PathBuf {
        self.root.join("hidden").join(digest.to_string())
    }

    pub(super) fn damaged(&self, digest: &Digest) -> PathBuf {
        self.root.join("damaged").join(digest.to_string())
    }

    /// A name in `temp/` that nobody uses: the lock makes us the only process, the number does the rest.
    pub(super) fn temp(&self) -> PathBuf {
        let number = self.next_temp.fetch_add(1, Ordering::Relaxed);
        self.root.join("temp").join(number.to_string())
    }

    /// Removes what a killed process was in the middle of writing.
    pub(super) fn sweep_temp(&self) -> Result<(), StoreError> {
        let folder = self.folder("temp");
        for path in entries(&folder)? {
            fs::remove_file(&path).at("removing the leftover", path)?;
        }
        Ok(())
    }
}

/// A blob file's digest, or `None` for an outboard and for files that are none of ours.
pub(super) fn digest_of(path: &Path) -> Option<Digest> {
    path.file_name()?.to_str()?.parse().ok()
}

/// The digest an outboard file belongs to.
pub(super) fn outboard_digest_of(path: &Path) -> Option<Digest> {
    path.file_name()?.to_str()?.strip_suffix(OUTBOARD)?.parse().ok()
}

/// Plain files of a folder.
pub(super) fn entries(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).at("listing", folder)? {
        let entry = entry.at("listing", folder)?;
        if entry.file_type().at("looking at", entry.path())?.is_file() {
            files.push(entry.path());
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// Brings a folder's names to the disk: without it a rename may be forgotten at power loss.
pub(super) fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    #[cfg(unix)]
    File::open(folder).and_then(|file| file.sync_all()).at("syncing the folder", folder)?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

/// Removes a file; says whether there was one.
pub(super) fn remove(path: &Path) -> Result<bool, StoreError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(StoreError::io("removing", path, error)),
    }
}

/// A temporary file that goes away unless it is renamed to its place.
#[derive(Debug)]
pub(super) struct TempFile {
    path: PathBuf,
    placed: bool,
}

impl TempFile {
    /// Creates an empty one, open for reading and writing.
    pub(super) fn create(layout: &Layout) -> Result<(Self, File), StoreError> {
        let path = layout.temp();
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .at("creating", path.clone())?;
        Ok((Self { path, placed: false }, file))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Moves the finished, synced file to its name.
    pub(super) fn place(mut self, target: &Path) -> Result<(), StoreError> {
        fs::rename(&self.path, target).at("renaming a temporary file to", target)?;
        self.placed = true;
        Ok(())
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if !self.placed {
            // a leftover is no harm: the next start sweeps it
            let _ = fs::remove_file(&self.path);
        }
    }
}
