//! LLaVA records (JSON or JSONL) and a folder of pictures to samples; whatever is wrong with a record is said in
//! one line.
//!
//! Records in = samples + rejects, always: nothing is dropped silently, and one bad record never takes another with it.
//! Records stream: [`Records`] reads them one by one, [`read_llava`] makes samples of them, and [`ingest`] keeps those
//! of a small set in memory. Archives, tables, videos and addresses are the crate `talkoot-ingest`'s, which reads its
//! records with [`Record`] too.

mod elements;
mod record;
mod records;

use std::{
    io,
    path::{Path, PathBuf},
};

pub use self::{
    record::{Fault, Record, VIDEO_PLACEHOLDER, id_of},
    records::{Raw, Records},
};
pub use crate::sample::{Origin, PictureRef, Reject, RejectKind, Roots, Sample, list::MAX_LINE_BYTES};

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
    /// The file is not a JSON array.
    #[error("{} is not a JSON array of records: {reason}", path.display())]
    NotAnArray {
        /// Which.
        path: PathBuf,
        /// How that shows.
        reason: String,
    },
}

/// Reads `files` of records into memory; pictures are looked for under `pictures`.
///
/// A file whose name ends in `.jsonl` has a record on each line, any other is a JSON array. Pictures are not decoded
/// here, only found.
///
/// # Errors
///
/// [`IngestError`] when a whole file is unusable; what is wrong with single records is in [`Ingested::rejects`].
pub fn ingest(files: &[PathBuf], pictures: &Path) -> Result<Ingested, IngestError> {
    let mut out = Ingested { roots: picture_roots(pictures)?, ..Ingested::default() };
    for path in files {
        for outcome in read_llava(path, &out.roots)? {
            out.records += 1;
            match outcome? {
                Ok(sample) => out.samples.push(sample),
                Err(reject) => out.rejects.push(*reject),
            }
        }
    }
    Ok(out)
}

/// The roots of samples that [`read_llava`] makes: the one folder of pictures.
///
/// # Errors
///
/// [`IngestError::Read`] when the folder isn't there.
pub fn picture_roots(pictures: &Path) -> Result<Roots, IngestError> {
    let mut roots = Roots::new();
    roots
        .add(PICTURES, pictures)
        .map_err(|source| IngestError::Read { path: pictures.to_path_buf(), source })?;
    Ok(roots)
}

/// What comes of each record of a file in turn; `roots` are those of [`picture_roots`].
///
/// # Errors
///
/// [`IngestError`] when the file cannot be opened, or, as an item, when it cannot be read to its end.
pub fn read_llava(
    path: &Path,
    roots: &Roots,
) -> Result<impl Iterator<Item = Result<Result<Sample, Box<Reject>>, IngestError>>, IngestError> {
    let file = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let source = file.rsplit_once('.').map_or(file.as_str(), |(stem, _)| stem).to_owned();
    let one = move |Raw { record, value }: Raw| {
        let id = value.as_ref().ok().and_then(id_of);
        let origin = Origin { source: source.clone(), file: file.clone(), record, id, licence: None };
        sample(&origin, value, roots).map_err(|(kind, reason)| Box::new(Reject::new(origin, kind, reason)))
    };
    Ok(Records::open(path)?.map(move |raw| raw.map(&one)))
}

fn sample(origin: &Origin, value: Result<serde_json::Value, String>, roots: &Roots) -> Result<Sample, Fault> {
    let malformed = |reason| (RejectKind::Malformed, reason);
    let mut record = Record::parse(value.map_err(malformed)?).map_err(malformed)?;
    record.place(record.pictures.len());
    // Before the pictures are looked for: what is wrong with the text needs no folder to be told.
    record.check(record.pictures.len())?;
    if let Some(video) = record.videos.first() {
        let reason = format!("{video:?} is a video; make a list of samples with `talkoot dataset ingest`");
        return Err((RejectKind::BadVideo, reason));
    }
    let pictures = std::mem::take(&mut record.pictures);
    let pictures =
        pictures.into_iter().map(|name| picture_file(roots, PICTURES, name)).collect::<Result<_, _>>()?;
    record.into_sample(origin.clone(), pictures)
}

/// The whole file `path` under a root as a picture.
///
/// # Errors
///
/// Why there is no such file.
pub fn picture_file(roots: &Roots, root: &str, path: String) -> Result<PictureRef, Fault> {
    let file = roots.file(root, &path)?;
    let bytes = file
        .metadata()
        .map_err(|error| (RejectKind::MissingPicture, format!("picture {path:?} cannot be read: {error}")))?
        .len();
    Ok(PictureRef { root: root.to_owned(), path, offset: None, bytes, width: None, height: None })
}

#[cfg(test)]
mod tests;
