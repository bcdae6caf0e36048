//! The folders that pictures are under, by name, and the way from a reference to bytes.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Component, Path, PathBuf},
};

use super::{PictureRef, RejectKind};

/// Folders by name; a list of samples brings its own.
///
/// Whatever a list says, nothing outside of these folders is opened: paths are plain and links out are refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roots(BTreeMap<String, PathBuf>);

impl Roots {
    /// No folders.
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Names a folder.
    ///
    /// # Errors
    ///
    /// When the folder isn't there, or the name already means another one.
    pub fn add(&mut self, name: &str, folder: &Path) -> io::Result<()> {
        let folder = folder.canonicalize()?;
        match self.0.get(name) {
            Some(other) if *other != folder => {
                let reason = format!("{name:?} is already {}; use another name", other.display());
                Err(io::Error::new(io::ErrorKind::AlreadyExists, reason))
            }
            _ => {
                self.0.insert(name.to_owned(), folder);
                Ok(())
            }
        }
    }

    /// Names and folders, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.0.iter().map(|(name, folder)| (name.as_str(), folder.as_path()))
    }

    /// The file of `path` under the root named `root`, certainly inside of it.
    ///
    /// # Errors
    ///
    /// The kind of reject and its reason when the root is unknown, the path leaves it, or there is no file.
    pub fn file(&self, root: &str, path: &str) -> Result<PathBuf, (RejectKind, String)> {
        let folder = self.0.get(root).ok_or_else(|| {
            (RejectKind::MissingPicture, format!("picture {path:?} is under {root:?}, which is not known"))
        })?;
        if !is_plain(path) {
            return Err((RejectKind::UnsafePath, format!("picture {path:?} is not a plain relative path")));
        }
        let file = folder.join(path);
        let real = file.canonicalize().map_err(|error| {
            (RejectKind::MissingPicture, format!("picture {path:?} cannot be found: {error}"))
        })?;
        if !real.starts_with(folder) {
            let reason = format!("picture {path:?} is a link out of the picture folder");
            return Err((RejectKind::UnsafePath, reason));
        }
        if !real.is_file() {
            return Err((RejectKind::MissingPicture, format!("picture {path:?} is not a file")));
        }
        Ok(file)
    }

    /// The encoded bytes of `picture`, at most `limit` of them.
    ///
    /// # Errors
    ///
    /// The kind of reject and its reason when the file cannot be had, or the picture is longer than `limit` or cut off.
    pub fn read(&self, picture: &PictureRef, limit: u64) -> Result<Vec<u8>, (RejectKind, String)> {
        self.read_up_to(picture, limit, picture.bytes)
    }

    /// The first bytes of `picture`, at most `head` of them.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    pub fn read_head(
        &self,
        picture: &PictureRef,
        limit: u64,
        head: u64,
    ) -> Result<Vec<u8>, (RejectKind, String)> {
        self.read_up_to(picture, limit, picture.bytes.min(head))
    }

    fn read_up_to(
        &self,
        picture: &PictureRef,
        limit: u64,
        wanted: u64,
    ) -> Result<Vec<u8>, (RejectKind, String)> {
        let name = picture.name();
        if picture.bytes > limit {
            let reason =
                format!("picture {name} has {} bytes, more than the limit of {limit}", picture.bytes);
            return Err((RejectKind::BadPicture, reason));
        }
        let file = self.file(&picture.root, &picture.path)?;
        let failed = |error: io::Error| {
            (RejectKind::MissingPicture, format!("picture {name} cannot be read: {error}"))
        };
        let mut file = File::open(&file).map_err(failed)?;
        let there = file.metadata().map_err(failed)?.len();
        let end = picture.offset.unwrap_or(0).checked_add(picture.bytes);
        if end.is_none_or(|end| end > there) || (picture.offset.is_none() && picture.bytes != there) {
            let reason = format!(
                "picture {name} should have {} bytes, its file of {there} bytes does not hold them",
                picture.bytes
            );
            return Err((RejectKind::BadPicture, reason));
        }
        file.seek(SeekFrom::Start(picture.offset.unwrap_or(0))).map_err(failed)?;
        let mut bytes = Vec::with_capacity(wanted as usize);
        file.take(wanted).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 != wanted {
            return Err((RejectKind::BadPicture, format!("picture {name} got shorter while it was read")));
        }
        Ok(bytes)
    }
}

/// Whether `path` is relative, goes nowhere but down, and means the same on every system.
pub(super) fn is_plain(path: &str) -> bool {
    let down = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    // A backslash is a separator elsewhere: what is safe here must be safe there.
    !path.is_empty() && !path.contains(['\\', '\0', ':']) && Path::new(path).components().all(down)
}
