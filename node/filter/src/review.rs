//! People look: samples as a page with buttons, and their verdicts back into a list.
//!
//! ```text
//! list --export--> page.html --a person, a browser--> verdicts.json --import--> list without what was dropped
//! ```

mod draw;
mod import;
mod page;
mod picture;
mod verdicts;

use std::{
    io,
    path::{Path, PathBuf},
};

use talkoot_dataset::sample::ListError;

pub use self::{
    import::{Imported, import},
    page::{ExportOptions, Exported, SourceShare, export},
    verdicts::Verdicts,
};

/// Most samples of a page.
pub const MAX_SAMPLES: usize = 5_000;
/// Most sources that a draw is stratified by.
pub const MAX_SOURCES: usize = 4_096;

/// Why a review cannot be exported or imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReviewError {
    /// An option is out of its bounds.
    #[error("{option} is {got}, it must be {must}")]
    Option {
        /// Which.
        option: &'static str,
        /// Its value.
        got: u64,
        /// What it must be.
        must: String,
    },
    /// The list cannot be read.
    #[error(transparent)]
    List(#[from] ListError),
    /// The list has no sample.
    #[error("{} has no samples to review", list.display())]
    Empty {
        /// Which list.
        list: PathBuf,
    },
    /// The list has too many sources.
    #[error("{} has more than {MAX_SOURCES} sources; review the lists of some sources by themselves", list.display())]
    TooManySources {
        /// Which list.
        list: PathBuf,
    },
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file holds no verdicts.
    #[error("{} holds no verdicts of a review: {reason}; save them from the page again", path.display())]
    Verdicts {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The verdicts are about other samples.
    #[error(
        "none of the {verdicts} verdicts is about a sample of {}, the first is about {first}; take the list that was exported",
        list.display()
    )]
    OtherList {
        /// How many verdicts there are.
        verdicts: usize,
        /// The first sample that one is about.
        first: talkoot_dataset::SampleId,
        /// The list.
        list: PathBuf,
    },
}

fn read_error(path: &Path) -> impl FnOnce(io::Error) -> ReviewError {
    move |source| ReviewError::Read { path: path.to_path_buf(), source }
}

fn write_error(path: &Path) -> impl FnOnce(io::Error) -> ReviewError {
    move |source| ReviewError::Write { path: path.to_path_buf(), source }
}

#[cfg(test)]
mod tests;
