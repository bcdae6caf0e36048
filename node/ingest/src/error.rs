//! Why the work stops. What is wrong with single records, or with a file of them, is a reject and stops nothing.

use std::{
    io,
    path::{Path, PathBuf},
};

use talkoot_dataset::{
    sample::ListError,
    work::{self, WorkError},
};

use crate::FetchError;

/// Why no list was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IngestError {
    /// An option is out of its bounds.
    #[error("{option} is {got}: it must be {must}")]
    Option {
        /// Which.
        option: &'static str,
        /// Its value.
        got: String,
        /// What it must be.
        must: String,
    },
    /// An input is neither a folder nor a file of records.
    #[error("{input} is no input: {reason}")]
    NoInput {
        /// The input as it was given.
        input: String,
        /// Why not, and what to give instead.
        reason: String,
    },
    /// An address could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A record has a video, and the programs that read videos are not there.
    #[error(
        "record {record} of {file} has a video, and {program} cannot be run ({reason}): install ffmpeg, which brings ffmpeg and ffprobe, and go on with --resume, or take the records with videos out"
    )]
    NoFfmpeg {
        /// The file of records.
        file: String,
        /// The record's place in it.
        record: u64,
        /// What was to be run.
        program: String,
        /// What the system said.
        reason: String,
    },
    /// There are more files than one list may be made of.
    #[error("there are more than {limit} files of records; make several lists")]
    TooManyFiles {
        /// How many there may be.
        limit: usize,
    },
    /// No record is usable.
    #[error("none of {records} records is usable; the reasons are in {}", rejects.display())]
    NothingLeft {
        /// How many there were.
        records: u64,
        /// The rejects file.
        rejects: PathBuf,
    },
    /// A file is not as it was when the work began.
    #[error("{} had {expected} bytes when the work began and has {got}; begin anew without --resume", path.display())]
    Changed {
        /// Which.
        path: PathBuf,
        /// Its length then.
        expected: u64,
        /// Its length now.
        got: u64,
    },
    /// Samples and rejects are not as many as there were records: a mistake in the program, which must not pass.
    #[error("{records} records came in, and {samples} samples and {rejects} rejects out; please report this")]
    Miscounted {
        /// Records in.
        records: u64,
        /// Samples out.
        samples: u64,
        /// Rejects out.
        rejects: u64,
    },
    /// A file or the folder of unfinished work is no good.
    #[error(transparent)]
    Work(#[from] WorkError),
    /// A list of samples of unfinished work cannot be read.
    #[error(transparent)]
    List(#[from] ListError),
    /// Something cannot be written as JSON.
    #[error("cannot write JSON")]
    Json(#[from] serde_json::Error),
}

/// That `path` cannot be read.
pub(crate) fn read_error(path: &Path) -> impl FnOnce(io::Error) -> IngestError {
    move |source| work::read_error(path)(source).into()
}

/// That `path` cannot be written.
pub(crate) fn write_error(path: &Path) -> impl FnOnce(io::Error) -> IngestError {
    move |source| work::write_error(path)(source).into()
}
