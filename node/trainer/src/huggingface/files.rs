//! Files that appear whole or not at all.
//!
//! A file is written under a temporary name in its folder, synchronised, and renamed. A kill leaves a name that starts
//! with a dot and is read by nobody.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use super::{
    FolderError,
    error::io_error,
    names::{CONFIG_FILE, INDEX_FILE, check_plain},
};

/// Reads a file whole, unless it is longer than `limit` bytes.
pub(super) fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, FolderError> {
    let file = File::open(path).map_err(io_error(path))?;
    let got = file.metadata().map_err(io_error(path))?.len();
    let too_long = |got| FolderError::TooLong { path: path.to_owned(), got, limit };
    if got > limit {
        return Err(too_long(got));
    }
    let mut bytes = Vec::new();
    // what says that it is empty may still have no end, like a pipe
    file.take(limit + 1).read_to_end(&mut bytes).map_err(io_error(path))?;
    match bytes.len() as u64 {
        got if got > limit => Err(too_long(got)),
        _ => Ok(bytes),
    }
}

/// A file on its way into a folder; dropped unfinished, it goes away.
#[derive(Debug)]
pub(super) struct Draft {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
    finished: bool,
}

impl Draft {
    pub(super) fn create(folder: &Path, name: &str) -> Result<Self, FolderError> {
        check_plain(name)?;
        let temporary = folder.join(format!(".{name}.partial"));
        let file = File::create(&temporary).map_err(io_error(&temporary))?;
        Ok(Self { file, temporary, path: folder.join(name), finished: false })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), FolderError> {
        self.file.write_all(bytes).map_err(io_error(&self.temporary))
    }

    /// Copies a file of any length.
    pub(super) fn copy(&mut self, from: &Path) -> Result<(), FolderError> {
        let mut source = File::open(from).map_err(io_error(from))?;
        io::copy(&mut source, &mut self.file).map_err(io_error(from))?;
        Ok(())
    }

    /// Gives the file its name; its bytes are on the disk then. The name is once the folder is synchronised.
    pub(super) fn finish(mut self) -> Result<(), FolderError> {
        self.file.sync_all().map_err(io_error(&self.temporary))?;
        fs::rename(&self.temporary, &self.path).map_err(io_error(&self.path))?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.finished {
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Writes a small file.
pub(super) fn write_file(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), FolderError> {
    let mut draft = Draft::create(folder, name)?;
    draft.write(bytes)?;
    draft.finish()
}

/// Makes the names in a folder last.
pub(super) fn sync_folder(folder: &Path) -> Result<(), FolderError> {
    if cfg!(unix) {
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(io_error(folder))?;
    }
    Ok(())
}

/// A folder that becomes a checkpoint when `config.json`, its last file, stands in it.
///
/// Dropped before that, it takes away the files that it made; a kill leaves them, but no `config.json`, without which
/// nothing is read as a model.
#[derive(Debug)]
pub(super) struct NewFolder {
    folder: PathBuf,
    made: Vec<PathBuf>,
}

impl NewFolder {
    /// Makes the folder where it is missing, and refuses one with a model or weights in it: a file that stands there
    /// beside the new ones could be read in their place.
    pub(super) fn claim(folder: &Path) -> Result<Self, FolderError> {
        fs::create_dir_all(folder).map_err(io_error(folder))?;
        for entry in folder.read_dir().map_err(io_error(folder))? {
            let name = entry.map_err(io_error(folder))?.file_name();
            let hidden = name.as_encoded_bytes().starts_with(b".");
            let weights = Path::new(&name).extension().is_some_and(|end| end == "safetensors");
            if name == CONFIG_FILE || name == INDEX_FILE || (weights && !hidden) {
                return Err(FolderError::Occupied { path: folder.join(name) });
            }
        }
        Ok(Self { folder: folder.to_owned(), made: Vec::new() })
    }

    /// Adds a file, which must not be there yet, with what `fill` writes.
    pub(super) fn add(
        &mut self,
        name: &str,
        fill: impl FnOnce(&mut Draft) -> Result<(), FolderError>,
    ) -> Result<(), FolderError> {
        let path = self.folder.join(name);
        if path.exists() {
            return Err(FolderError::Occupied { path });
        }
        let mut draft = Draft::create(&self.folder, name)?;
        fill(&mut draft)?;
        draft.finish()?;
        self.made.push(path);
        Ok(())
    }

    /// Adds `config.json` when everything else is on the disk.
    pub(super) fn finish(mut self, config: &[u8]) -> Result<(), FolderError> {
        sync_folder(&self.folder)?;
        self.add(CONFIG_FILE, |draft| draft.write(config))?;
        sync_folder(&self.folder)?;
        self.made.clear();
        Ok(())
    }
}

impl Drop for NewFolder {
    fn drop(&mut self) {
        for path in &self.made {
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_shows_when_it_is_finished_and_leaves_nothing_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let mut draft = Draft::create(folder.path(), "a").unwrap();
        draft.write(b"1").unwrap();
        assert!(!folder.path().join("a").exists());
        drop(draft);
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
        write_file(folder.path(), "a", b"2").unwrap();
        write_file(folder.path(), "a", b"3").unwrap();
        assert_eq!(fs::read(folder.path().join("a")).unwrap(), b"3");
        assert_eq!(folder.path().read_dir().unwrap().count(), 1);
    }

    #[test]
    fn a_long_file_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        let refused = read_bounded(&path, 5);
        assert!(matches!(refused, Err(FolderError::TooLong { got, limit: 5, .. }) if got == 1 << 40));
        fs::write(&path, b"12345").unwrap();
        assert_eq!(read_bounded(&path, 5).unwrap(), b"12345");
    }

    #[test]
    fn a_folder_with_weights_in_it_is_not_written_to() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(".model.safetensors.partial"), b"").unwrap();
        fs::write(folder.path().join("notes.txt"), b"mine").unwrap();
        let mut new = NewFolder::claim(folder.path()).unwrap();
        let refused = new.add("notes.txt", |draft| draft.write(b"yours"));
        assert!(matches!(refused, Err(FolderError::Occupied { path }) if path.ends_with("notes.txt")));
        assert_eq!(fs::read(folder.path().join("notes.txt")).unwrap(), b"mine");
        for name in ["config.json", "model-00001-of-00002.safetensors", "model.safetensors.index.json"] {
            let path = folder.path().join(name);
            fs::write(&path, b"").unwrap();
            let refused = NewFolder::claim(folder.path());
            assert!(matches!(refused, Err(FolderError::Occupied { path: named }) if named == path));
            fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn a_folder_is_whole_or_empty() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("new");
        let mut new = NewFolder::claim(&folder).unwrap();
        new.add("a", |draft| draft.write(b"1")).unwrap();
        assert!(folder.join("a").exists() && !folder.join(CONFIG_FILE).exists());
        drop(new);
        assert_eq!(folder.read_dir().unwrap().count(), 0);
        let mut new = NewFolder::claim(&folder).unwrap();
        new.add("a", |draft| draft.write(b"1")).unwrap();
        new.finish(b"{}").unwrap();
        assert_eq!(folder.read_dir().unwrap().count(), 2);
    }
}
