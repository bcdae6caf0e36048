//! Why work in a folder stops.

use std::{
    io,
    path::{Path, PathBuf},
};

/// Why work in a folder stops.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkError {
    /// A file or folder cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file or folder cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file of unfinished work is damaged.
    #[error("{} is damaged: {reason}; begin anew without --resume", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Work was begun here with other options or other data.
    #[error(
        "{} was begun with other options or other data; give the same ones, or begin anew without --resume",
        work.display()
    )]
    OtherWork {
        /// The folder with the unfinished work.
        work: PathBuf,
    },
    /// A step is asked for before all parts of the one before are finished.
    #[error(
        "{step} is not done in {} ({done} parts are done, and no split has all of its); do it first",
        work.display()
    )]
    NotYet {
        /// What has to come first.
        step: &'static str,
        /// How many parts of it are finished, of any split.
        done: usize,
        /// The folder with the unfinished work.
        work: PathBuf,
    },
    /// The lists have too many picture folders together.
    #[error("the lists have more than {limit} picture folders together; take them in several groups")]
    TooManyRoots {
        /// How many there may be.
        limit: usize,
    },
}

/// The [`WorkError::Read`] of `path`.
pub fn read_error(path: &Path) -> impl FnOnce(io::Error) -> WorkError {
    move |source| WorkError::Read { path: path.to_path_buf(), source }
}

/// The [`WorkError::Write`] of `path`.
pub fn write_error(path: &Path) -> impl FnOnce(io::Error) -> WorkError {
    move |source| WorkError::Write { path: path.to_path_buf(), source }
}
