//! The folder of unfinished work, and the job that it belongs to.
//!
//! ```text
//! <out>/<name>.work/job.json          the fingerprint of rules and lists
//!                  /examine/…         chunks of rows, lines of what was dropped, a mark for each examined part
//!                  /duplicates.table  which sample is kept for which
//! ```
//!
//! Every file is written under another name, made durable and renamed: it is whole, or not there. Whoever begins again
//! goes on from the files that are there.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use talkoot_dataset::{ListReader, Progress, Roots, Sample, sample::list::MAX_ROOTS};
use talkoot_protocol::digest::Digest;

use super::{FilterError, FilterOptions, read_error, write_error};

/// A list of samples that is filtered.
pub(super) struct List {
    pub(super) path: PathBuf,
    pub(super) roots: Roots,
    pub(super) bytes: u64,
    /// What its roots are called in the list that comes of it, where that is another name.
    renamed: BTreeMap<String, String>,
}

/// What every step needs.
pub(super) struct Job<'a> {
    pub(super) options: &'a FilterOptions,
    pub(super) progress: &'a dyn Progress,
    pub(super) lists: Vec<List>,
    /// The roots of all lists.
    pub(super) roots: Roots,
    /// Digest of everything that decides what is written.
    pub(super) fingerprint: Digest,
    pub(super) folder: PathBuf,
}

#[derive(Serialize, Deserialize, PartialEq, Eq)]
struct JobFile {
    fingerprint: Digest,
}

fn folder_of(options: &FilterOptions) -> PathBuf {
    options.file("work")
}

/// Removes what an earlier try left.
pub(super) fn discard(options: &FilterOptions) -> Result<(), FilterError> {
    let folder = folder_of(options);
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(write_error(&folder)(error)),
        _ => Ok(()),
    }
}

impl<'a> Job<'a> {
    /// Opens the work that was begun, or begins it.
    pub(super) fn open(options: &'a FilterOptions, progress: &'a dyn Progress) -> Result<Self, FilterError> {
        let mut roots = Roots::new();
        let lists =
            options.lists.iter().map(|path| open_list(path, &mut roots)).collect::<Result<Vec<_>, _>>()?;
        let fingerprint = fingerprint(options, &lists)?;
        let folder = folder_of(options);
        let examine = folder.join("examine");
        fs::create_dir_all(&examine).map_err(write_error(&examine))?;
        let path = folder.join("job.json");
        if path.exists() {
            if read_json::<JobFile>(&path)?.fingerprint != fingerprint {
                return Err(FilterError::OtherWork { work: folder });
            }
        } else {
            put_json(&path, &JobFile { fingerprint })?;
        }
        Ok(Self { options, progress, lists, roots, fingerprint, folder })
    }

    /// The file `name` of the unfinished work.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Bytes of all lists.
    pub(super) fn list_bytes(&self) -> u64 {
        self.lists.iter().map(|list| list.bytes).sum()
    }
}

impl List {
    /// Names the sample's roots as the list that comes of it does.
    pub(super) fn rename_roots(&self, sample: &mut Sample) {
        for picture in &mut sample.pictures {
            if let Some(name) = self.renamed.get(&picture.root) {
                picture.root.clone_from(name);
            }
        }
    }
}

/// Opens a list and adds its roots to `all`. Two lists may call different folders by one name.
fn open_list(path: &Path, all: &mut Roots) -> Result<List, FilterError> {
    let reader = ListReader::open(path)?;
    let mut renamed = BTreeMap::new();
    for (name, folder) in reader.roots().iter() {
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
        return Err(FilterError::TooManyRoots { limit: MAX_ROOTS });
    }
    let bytes = fs::metadata(path).map_err(read_error(path))?.len();
    Ok(List { path: path.to_path_buf(), roots: reader.roots().clone(), bytes, renamed })
}

/// Bytes at the beginning and at the end of a list that are hashed. A list that was changed in between shows when its
/// samples are not where they were.
const LIST_SAMPLE_BYTES: u64 = 1 << 20;

fn fingerprint(options: &FilterOptions, lists: &[List]) -> Result<Digest, FilterError> {
    let mut hasher = blake3::Hasher::new_derive_key("talkoot filter job v1");
    let rules = serde_json::to_vec(&(&options.name, &options.config));
    hasher.update(&rules.map_err(|error| write_error(&options.out)(error.into()))?);
    for list in lists {
        hasher.update(&list.bytes.to_le_bytes());
        let mut file = File::open(&list.path).map_err(read_error(&list.path))?;
        let mut hash = |from: u64| -> io::Result<()> {
            file.seek(SeekFrom::Start(from))?;
            hasher.update_reader((&mut file).take(LIST_SAMPLE_BYTES)).map(drop)
        };
        hash(0).map_err(read_error(&list.path))?;
        hash(list.bytes.saturating_sub(LIST_SAMPLE_BYTES)).map_err(read_error(&list.path))?;
    }
    Ok(Digest::from_bytes(*hasher.finalize().as_bytes()))
}

/// Writes a file under another name, makes it durable and gives it its own.
pub(super) fn put_file(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<(), FilterError> {
    let put = || {
        // Two processes may do the same at the same time; they write the same.
        let mut part = path.as_os_str().to_owned();
        part.push(format!(".{}.part", std::process::id()));
        let mut file = BufWriter::with_capacity(1 << 18, File::create(&part)?);
        write(&mut file)?;
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&part, path)
    };
    put().map_err(write_error(path))
}

pub(super) fn put_json(path: &Path, value: &impl Serialize) -> Result<(), FilterError> {
    put_file(path, |file| {
        serde_json::to_writer(&mut *file, value)?;
        file.write_all(b"\n")
    })
}

pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, FilterError> {
    let bytes = fs::read(path).map_err(read_error(path))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| FilterError::Damaged { path: path.to_path_buf(), reason: error.to_string() })
}
