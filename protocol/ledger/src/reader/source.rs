//! Where the files of a log come from.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Component, Path, PathBuf},
};

/// Something that has the files of a log: a folder, a web server, a peer.
pub trait TileSource {
    /// The first `max_bytes` of the file at `path` (relative to the log, with `/`), or `None` where there
    /// is no such file. A longer file is cut: a reader asks for one byte more than it accepts.
    ///
    /// # Errors
    ///
    /// When the source can't say whether there is such a file, or can't read it.
    fn read(&self, path: &str, max_bytes: u64) -> io::Result<Option<Vec<u8>>>;
}

impl<S: TileSource + ?Sized> TileSource for &S {
    fn read(&self, path: &str, max_bytes: u64) -> io::Result<Option<Vec<u8>>> {
        (**self).read(path, max_bytes)
    }
}

/// A log in a folder of this machine.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
}

impl Folder {
    /// The log in `root`.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Paths of the notes kept under `checkpoints/`, by ascending size. Files whose name is no size are
    /// left out.
    ///
    /// # Errors
    ///
    /// When the folder can't be listed.
    pub fn kept_checkpoints(&self) -> io::Result<Vec<String>> {
        Ok(self.kept_sizes()?.into_iter().map(|size| format!("checkpoints/{size}")).collect())
    }

    pub(crate) fn kept_sizes(&self) -> io::Result<Vec<u64>> {
        let listing = match fs::read_dir(self.root.join("checkpoints")) {
            Ok(listing) => listing,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut sizes = Vec::new();
        for item in listing {
            let name = item?.file_name();
            sizes.extend(name.to_str().and_then(crate::encoding::decimal));
        }
        sizes.sort_unstable();
        Ok(sizes)
    }
}

impl TileSource for Folder {
    fn read(&self, path: &str, max_bytes: u64) -> io::Result<Option<Vec<u8>>> {
        // paths may come from a peer that we serve: nothing outside the folder
        if !Path::new(path).components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path leaves the log's folder"));
        }
        let file = match File::open(self.root.join(path)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(max_bytes).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }
}
