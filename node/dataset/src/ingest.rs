//! LLaVA records (JSON or JSONL) and a folder of pictures to samples; whatever is wrong with a record is said in
//! one line.
//!
//! Records in = samples + rejects, always: nothing is dropped silently, and one bad record never takes another with it.

mod path;
mod record;

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use self::path::picture_path;
use crate::{
    chat::{self, Message},
    synth::QuestionKind,
};

/// Longest JSON file, in bytes. Longer sets come as JSONL or in several files.
pub const MAX_JSON_BYTES: u64 = 2 << 30;
/// Longest line of a JSONL file, in bytes.
pub const MAX_LINE_BYTES: u64 = 16 << 20;

/// Where a record stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Name of the file of records.
    pub file: String,
    /// Place in the file, from 0.
    pub record: u64,
    /// The record's own id, where it has one.
    pub id: Option<String>,
}

/// A record that can be learnt from, its pictures not decoded yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Where it comes from.
    pub origin: Origin,
    /// The turns.
    pub messages: Vec<Message>,
    /// Picture files, in the order of their placeholders.
    pub pictures: Vec<PathBuf>,
    /// What is asked for, where the record says so.
    pub kind: Option<QuestionKind>,
}

/// What is wrong with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RejectKind {
    /// Not JSON, or not of the known layout.
    Malformed,
    /// Turns, placeholders or answers are wrong.
    Conversation,
    /// A picture's path leaves the picture folder.
    UnsafePath,
    /// A picture isn't there.
    MissingPicture,
    /// A picture cannot be decoded or resized.
    BadPicture,
    /// The sample has more tokens than a sequence may have.
    TooLong,
}

impl RejectKind {
    /// What the owner of the data can do.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Malformed => {
                "write {\"id\", \"image\", \"conversations\": [{\"from\", \"value\"}]} as LLaVA does"
            }
            Self::Conversation => {
                "let human and gpt alternate, end with an answer, write <image> once for each picture"
            }
            Self::UnsafePath => {
                "name pictures relative to the picture folder, without '..' or links out of it"
            }
            Self::MissingPicture => "put the file into the picture folder or correct its name",
            Self::BadPicture => "save the picture anew as PNG, JPEG or WebP, within the limits of size",
            Self::TooLong => {
                "shorten the text, lower the most pixels of a picture, or raise the sequence length"
            }
        }
    }
}

/// A record that was left out: one line of the rejects file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reject {
    /// Where it stands.
    #[serde(flatten)]
    pub origin: Origin,
    /// What sort of thing is wrong.
    pub kind: RejectKind,
    /// What is wrong.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
}

impl Reject {
    pub(crate) fn new(origin: Origin, kind: RejectKind, reason: impl ToString) -> Self {
        Self { origin, kind, reason: reason.to_string(), remedy: kind.remedy().to_owned() }
    }
}

/// What came of the records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ingested {
    /// Records seen: samples and rejects together.
    pub records: u64,
    /// What can be learnt from, in the order of the files.
    pub samples: Vec<Sample>,
    /// What cannot, likewise.
    pub rejects: Vec<Reject>,
}

/// Why a whole file could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IngestError {
    /// A file or folder cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is too long to be read at once.
    #[error("{} has {bytes} bytes, a JSON file may have {MAX_JSON_BYTES}; split it or write JSONL", path.display())]
    TooLong {
        /// Which.
        path: PathBuf,
        /// Its length.
        bytes: u64,
    },
    /// The file is not a JSON array.
    #[error("{} is not a JSON array of records: {reason}", path.display())]
    NotAnArray {
        /// Which.
        path: PathBuf,
        /// The parser's words.
        reason: String,
    },
}

/// Reads `files` of records; pictures are looked for under `pictures`.
///
/// A file whose name ends in `.jsonl` has a record on each line, any other is a JSON array. Pictures are not decoded
/// here, only found.
///
/// # Errors
///
/// [`IngestError`] when a whole file is unusable; what is wrong with single records is in [`Ingested::rejects`].
pub fn ingest(files: &[PathBuf], pictures: &Path) -> Result<Ingested, IngestError> {
    let root = pictures
        .canonicalize()
        .map_err(|source| IngestError::Read { path: pictures.to_path_buf(), source })?;
    let mut out = Ingested::default();
    for path in files {
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("jsonl")) {
            lines(path, &name, &root, &mut out)?;
        } else {
            array(path, &name, &root, &mut out)?;
        }
    }
    Ok(out)
}

impl Ingested {
    fn take(&mut self, file: &str, record: u64, value: serde_json::Result<serde_json::Value>, root: &Path) {
        self.records += 1;
        let id = value.as_ref().ok().and_then(record::id_of);
        let origin = Origin { file: file.to_owned(), record, id };
        match value.map_err(|e| (RejectKind::Malformed, e.to_string())).and_then(|v| sample(&origin, v, root))
        {
            Ok(sample) => self.samples.push(sample),
            Err((kind, reason)) => self.rejects.push(Reject::new(origin, kind, reason)),
        }
    }
}

fn sample(origin: &Origin, value: serde_json::Value, root: &Path) -> Result<Sample, (RejectKind, String)> {
    let record = record::parse(value).map_err(|reason| (RejectKind::Malformed, reason))?;
    chat::check(&record.messages, record.pictures.len())
        .map_err(|error| (RejectKind::Conversation, error.to_string()))?;
    let pictures = record.pictures.iter().map(|name| picture_path(root, name)).collect::<Result<_, _>>()?;
    Ok(Sample { origin: origin.clone(), messages: record.messages, pictures, kind: record.kind })
}

fn array(path: &Path, name: &str, root: &Path, out: &mut Ingested) -> Result<(), IngestError> {
    let read = |source| IngestError::Read { path: path.to_path_buf(), source };
    let bytes = path.metadata().map_err(read)?.len();
    if bytes > MAX_JSON_BYTES {
        return Err(IngestError::TooLong { path: path.to_path_buf(), bytes });
    }
    let content = std::fs::read(path).map_err(read)?;
    let values: Vec<serde_json::Value> = serde_json::from_slice(&content)
        .map_err(|error| IngestError::NotAnArray { path: path.to_path_buf(), reason: error.to_string() })?;
    for (record, value) in (0..).zip(values) {
        out.take(name, record, Ok(value), root);
    }
    Ok(())
}

fn lines(path: &Path, name: &str, root: &Path, out: &mut Ingested) -> Result<(), IngestError> {
    let read = |source| IngestError::Read { path: path.to_path_buf(), source };
    let mut file = BufReader::new(File::open(path).map_err(read)?);
    let mut line = Vec::new();
    let mut record = 0;
    loop {
        line.clear();
        let got = file.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line).map_err(read)?;
        if got == 0 {
            return Ok(());
        }
        if got as u64 == MAX_LINE_BYTES && !line.ends_with(b"\n") {
            // Only the head of the line is in memory, which is no JSON: the record is refused; skip what is left.
            skip_line(&mut file).map_err(read)?;
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        out.take(name, record, serde_json::from_slice(&line), root);
        record += 1;
    }
}

fn skip_line(file: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = file.fill_buf()?;
        let (used, done) = match buffer.iter().position(|&byte| byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (buffer.len(), buffer.is_empty()),
        };
        file.consume(used);
        if done {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests;
