//! LLaVA records (JSON or JSONL) and a folder of pictures to samples; whatever is wrong with a record is said in
//! one line.
//!
//! Records in = samples + rejects, always: nothing is dropped silently, and one bad record never takes another with it.

mod record;

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

pub use crate::sample::{Origin, PictureRef, Reject, RejectKind, Roots, Sample, list::MAX_LINE_BYTES};
use crate::{chat, sample::SampleError};

/// Longest JSON file, in bytes. Longer sets come as JSONL or in several files.
pub const MAX_JSON_BYTES: u64 = 2 << 30;

/// Name of the root that the picture folder becomes.
const PICTURES: &str = "pictures";

/// What came of the records.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ingested {
    /// Records seen: samples and rejects together.
    pub records: u64,
    /// What can be learnt from, in the order of the files.
    pub samples: Vec<Sample>,
    /// What cannot, likewise.
    pub rejects: Vec<Reject>,
    /// The folders that the samples' pictures are under.
    pub roots: Roots,
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
    let mut out = Ingested::default();
    out.roots
        .add(PICTURES, pictures)
        .map_err(|source| IngestError::Read { path: pictures.to_path_buf(), source })?;
    for path in files {
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("jsonl")) {
            lines(path, &name, &mut out)?;
        } else {
            array(path, &name, &mut out)?;
        }
    }
    Ok(out)
}

impl Ingested {
    fn take(&mut self, file: &str, record: u64, value: serde_json::Result<serde_json::Value>) {
        self.records += 1;
        let id = value.as_ref().ok().and_then(record::id_of);
        let source = file.rsplit_once('.').map_or(file, |(stem, _)| stem).to_owned();
        let origin = Origin { source, file: file.to_owned(), record, id, licence: None };
        let parsed = value.map_err(|error| (RejectKind::Malformed, error.to_string()));
        match parsed.and_then(|value| sample(&origin, value, &self.roots)) {
            Ok(sample) => self.samples.push(sample),
            Err((kind, reason)) => self.rejects.push(Reject::new(origin, kind, reason)),
        }
    }
}

fn sample(origin: &Origin, value: serde_json::Value, roots: &Roots) -> Result<Sample, (RejectKind, String)> {
    let record = record::parse(value).map_err(|reason| (RejectKind::Malformed, reason))?;
    // Before the pictures are looked for: what is wrong with the text needs no folder to be told.
    chat::check(&record.messages, record.pictures.len())
        .map_err(|error| (RejectKind::Conversation, error.to_string()))?;
    let pictures = record.pictures.into_iter().map(|name| picture(roots, name)).collect::<Result<_, _>>()?;
    let mut sample = Sample::new(origin.clone(), record.messages, pictures);
    sample.kind = record.kind;
    sample.check().map_err(|error| (kind_of(&error), error.to_string()))?;
    Ok(sample)
}

fn picture(roots: &Roots, path: String) -> Result<PictureRef, (RejectKind, String)> {
    let file = roots.file(PICTURES, &path)?;
    let bytes = file
        .metadata()
        .map_err(|error| (RejectKind::MissingPicture, format!("picture {path:?} cannot be read: {error}")))?
        .len();
    Ok(PictureRef { root: PICTURES.to_owned(), path, offset: None, bytes, width: None, height: None })
}

const fn kind_of(error: &SampleError) -> RejectKind {
    match error {
        SampleError::Chat(_) => RejectKind::Conversation,
        SampleError::UnsafePath { .. } => RejectKind::UnsafePath,
        SampleError::TooMany { .. } | SampleError::Score { .. } => RejectKind::Malformed,
    }
}

fn array(path: &Path, name: &str, out: &mut Ingested) -> Result<(), IngestError> {
    let read = |source| IngestError::Read { path: path.to_path_buf(), source };
    let bytes = path.metadata().map_err(read)?.len();
    if bytes > MAX_JSON_BYTES {
        return Err(IngestError::TooLong { path: path.to_path_buf(), bytes });
    }
    let content = std::fs::read(path).map_err(read)?;
    let values: Vec<serde_json::Value> = serde_json::from_slice(&content)
        .map_err(|error| IngestError::NotAnArray { path: path.to_path_buf(), reason: error.to_string() })?;
    for (record, value) in (0..).zip(values) {
        out.take(name, record, Ok(value));
    }
    Ok(())
}

fn lines(path: &Path, name: &str, out: &mut Ingested) -> Result<(), IngestError> {
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
        out.take(name, record, serde_json::from_slice(&line));
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
