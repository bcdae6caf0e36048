//! The folder of unfinished work, and the job that it belongs to.
//!
//! ```text
//! <out>/<name>.work/job.json         the fingerprint of options and data
//!                  /samples.jsonl    the list of samples, when the input is records
//!                  /measure/…        chunks of the table of lengths, rejects, a mark for each measured part
//!                  /plan/…           which sample goes where
//!                  /shards/…         one file for each shard that is written
//! ```
//!
//! Every file is written under another name, made durable and renamed: it is whole, or not there. Whoever begins again
//! goes on from the files that are there.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use talkoot_protocol::digest::Digest;

use super::{Input, PackError, PackOptions, read_error, write_error};
use crate::{
    ingest,
    progress::Progress,
    sample::{ListReader, ListWriter, RejectWriter, Roots},
    tokenizer::Tokenizer,
};

/// A list of samples that is packed.
pub(super) struct List {
    pub(super) path: PathBuf,
    pub(super) roots: Roots,
    pub(super) bytes: u64,
}

/// What every step needs.
pub(super) struct Job<'a> {
    pub(super) options: &'a PackOptions,
    pub(super) progress: &'a dyn Progress,
    pub(super) tokenizer: Tokenizer,
    pub(super) lists: Vec<List>,
    /// Digest of everything that decides what is written.
    pub(super) fingerprint: Digest,
    pub(super) folder: PathBuf,
}

#[derive(Serialize, Deserialize, PartialEq, Eq)]
struct JobFile {
    fingerprint: Digest,
}

fn folder_of(options: &PackOptions) -> PathBuf {
    options.out.join(format!("{}.work", options.name))
}

/// Removes what an earlier try left.
pub(super) fn discard(options: &PackOptions) -> Result<(), PackError> {
    let folder = folder_of(options);
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(write_error(&folder)(error)),
        _ => Ok(()),
    }
}

impl<'a> Job<'a> {
    /// Opens the work that was begun, or begins it.
    pub(super) fn open(options: &'a PackOptions, progress: &'a dyn Progress) -> Result<Self, PackError> {
        let tokenizer = Tokenizer::from_bytes(&options.tokenizer)?;
        let folder = folder_of(options);
        for part in ["measure", "plan", "shards"] {
            let folder = folder.join(part);
            fs::create_dir_all(&folder).map_err(write_error(&folder))?;
        }
        let paths = match &options.input {
            Input::Lists(lists) => lists.clone(),
            Input::Records { files, pictures } => vec![list_records(files, pictures, &folder)?],
        };
        let lists = paths.into_iter().map(open_list).collect::<Result<Vec<_>, _>>()?;
        let fingerprint = fingerprint(options, &tokenizer, &lists)?;
        let path = folder.join("job.json");
        if path.exists() {
            if read_json::<JobFile>(&path)?.fingerprint != fingerprint {
                return Err(PackError::OtherWork { work: folder });
            }
        } else {
            put_json(&path, &JobFile { fingerprint })?;
        }
        Ok(Self { options, progress, tokenizer, lists, fingerprint, folder })
    }

    /// The file `name` of the unfinished work.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Where the line for each reject goes.
    pub(super) fn rejects_path(&self) -> PathBuf {
        self.options.out.join(format!("{}.rejects.jsonl", self.options.name))
    }

    /// Writes a finished file, by way of the folder of unfinished work: a kill leaves nothing half done among what is
    /// finished.
    pub(super) fn publish(&self, path: &Path, bytes: &[u8]) -> Result<(), PackError> {
        let part = self.file(&format!("publish.{}", std::process::id()));
        put_bytes(&part, bytes)?;
        fs::rename(&part, path).map_err(write_error(path))
    }

    pub(super) fn not_yet(&self, missing: String) -> PackError {
        PackError::NotYet { missing, work: self.folder.clone() }
    }
}

/// Makes the list of samples of records, unless an earlier try has.
fn list_records(files: &[PathBuf], pictures: &Path, folder: &Path) -> Result<PathBuf, PackError> {
    let path = folder.join("samples.jsonl");
    if path.exists() {
        return Ok(path);
    }
    let roots = ingest::picture_roots(pictures)?;
    let rejects_path = folder.join(INGEST_REJECTS);
    let mut rejects = RejectWriter::create(&rejects_path).map_err(write_error(&rejects_path))?;
    let mut list = ListWriter::create(&path, &roots).map_err(write_error(&path))?;
    for file in files {
        for outcome in ingest::read_llava(file, &roots)? {
            match outcome? {
                Ok(sample) => list.write(&sample).map_err(write_error(&path))?,
                Err(reject) => rejects.write(&reject).map_err(write_error(&rejects_path))?,
            }
        }
    }
    rejects.finish().map_err(write_error(&rejects_path))?;
    list.finish().map_err(write_error(&path))?;
    Ok(path)
}

/// Records that could not be made samples.
pub(super) const INGEST_REJECTS: &str = "ingest.rejects.jsonl";

fn open_list(path: PathBuf) -> Result<List, PackError> {
    let reader = ListReader::open(&path)?;
    let bytes = fs::metadata(&path).map_err(read_error(&path))?.len();
    Ok(List { roots: reader.roots().clone(), bytes, path })
}

/// Bytes at the beginning and at the end of a list that are hashed. A list that was changed in between shows when its
/// samples are not as they were measured.
const LIST_SAMPLE_BYTES: u64 = 1 << 20;

fn fingerprint(options: &PackOptions, tokenizer: &Tokenizer, lists: &[List]) -> Result<Digest, PackError> {
    let mut hasher = blake3::Hasher::new_derive_key("talkoot pack job v1");
    let settings = serde_json::json!({
        "name": options.name,
        "tokenizer": tokenizer.blob().digest,
        "fit": options.fit,
        "shard_bytes": options.shard_bytes,
        "preprocess": options.preprocess,
        "pixels": options.pixels,
        "seed": options.seed,
        "sections": options.sections,
        "publisher": options.publisher.as_ref().map(talkoot_protocol::identity::Keypair::id),
    });
    hasher.update(&serde_json::to_vec(&settings)?);
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
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<(), PackError> {
    let put = || {
        // Two processes may do the same at the same time; they write the same.
        let mut part = path.as_os_str().to_owned();
        part.push(format!(".{}.part", std::process::id()));
        let mut file = File::create(&part)?;
        write(&mut file)?;
        file.sync_all()?;
        fs::rename(&part, path)
    };
    put().map_err(write_error(path))
}

pub(super) fn put_bytes(path: &Path, bytes: &[u8]) -> Result<(), PackError> {
    put_file(path, |file| file.write_all(bytes))
}

pub(super) fn put_json(path: &Path, value: &impl Serialize) -> Result<(), PackError> {
    put_bytes(path, &serde_json::to_vec(value)?)
}

pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, PackError> {
    let bytes = fs::read(path).map_err(read_error(path))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| PackError::Damaged { path: path.to_path_buf(), reason: error.to_string() })
}
