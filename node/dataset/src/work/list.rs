//! The lists of samples that work is about.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use talkoot_protocol::digest::Digest;

use super::{WorkError, read_error};
use crate::sample::{ListError, ListReader, Roots, Sample, list::MAX_ROOTS};

/// Most lists of samples: their number takes 16 bits of a sample's [place](super::Place).
pub const MAX_LISTS: usize = 1 << 16;

/// Bytes at the beginning and at the end of a list that are hashed. A list that was changed in between shows when its
/// samples are not as they were.
const HASHED_BYTES: u64 = 1 << 20;

/// A list of samples that is worked on.
#[derive(Debug, Clone)]
pub struct List {
    /// Where it is.
    pub path: PathBuf,
    /// The folders of its pictures, as it calls them.
    pub roots: Roots,
    /// Its length.
    pub bytes: u64,
    /// What its roots are called in a list that is made of several, where that is another name.
    renamed: BTreeMap<String, String>,
}

impl List {
    /// Reads the head of the list in `path`.
    ///
    /// # Errors
    ///
    /// [`ListError`] when it cannot be read or is no list.
    pub fn open(path: PathBuf) -> Result<Self, ListError> {
        let reader = ListReader::open(&path)?;
        let bytes = fs::metadata(&path).map_err(unreadable(&path))?.len();
        Ok(Self { roots: reader.roots().clone(), bytes, renamed: BTreeMap::new(), path })
    }

    /// Names the sample's roots as a list that is made of several does, after [`join_roots`].
    pub fn rename_roots(&self, sample: &mut Sample) {
        for picture in &mut sample.pictures {
            if let Some(name) = self.renamed.get(&picture.root) {
                picture.root.clone_from(name);
            }
        }
    }

    /// Hashes the list's length, its beginning and its end.
    fn hash(&self, hasher: &mut blake3::Hasher) -> io::Result<()> {
        hasher.update(&self.bytes.to_le_bytes());
        let mut file = File::open(&self.path)?;
        for from in [0, self.bytes.saturating_sub(HASHED_BYTES)] {
            file.seek(SeekFrom::Start(from))?;
            hasher.update_reader((&mut file).take(HASHED_BYTES))?;
        }
        Ok(())
    }
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> ListError {
    move |source| ListError::Read { path: path.to_path_buf(), source }
}

/// Digest of everything that decides what comes of work: what sort of work it is, its settings, and the lists.
///
/// # Errors
///
/// [`ListError::Read`].
pub fn fingerprint(context: &str, settings: &[u8], lists: &[List]) -> Result<Digest, ListError> {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    hasher.update(settings);
    for list in lists {
        list.hash(&mut hasher).map_err(unreadable(&list.path))?;
    }
    Ok(Digest::from_bytes(*hasher.finalize().as_bytes()))
}

/// The roots of all lists, for one list that is made of them. Where two call different folders by one name, the later
/// one's is renamed.
///
/// # Errors
///
/// [`WorkError`] when there are too many roots or one cannot be read.
pub fn join_roots(lists: &mut [List]) -> Result<Roots, WorkError> {
    let mut all = Roots::new();
    for List { roots, renamed, .. } in lists {
        renamed.clear();
        for (name, folder) in roots.iter() {
            let taken = |other: &str| all.iter().any(|(name, at)| name == other && at != folder);
            let mut free = name.to_owned();
            let mut number = 1;
            while taken(&free) {
                number += 1;
                free = format!("{name}-{number}");
            }
            all.add(&free, folder).map_err(read_error(folder))?;
            if free != name {
                renamed.insert(name.to_owned(), free);
            }
        }
        if all.iter().count() > MAX_ROOTS {
            return Err(WorkError::TooManyRoots { limit: MAX_ROOTS });
        }
    }
    Ok(all)
}
