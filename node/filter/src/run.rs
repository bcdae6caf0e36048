//! From lists of samples to one list: examine, find duplicates, write.

mod examining;
mod finish;
mod rows;
mod table;
mod work;

use std::{
    io,
    path::{Path, PathBuf},
};

use talkoot_dataset::{Progress, pack::Part, sample::ListError};

use crate::{
    config::{Config, ConfigError},
    report::FilterReport,
};

/// Most lists of samples: their number takes 16 bits of a sample's place.
const MAX_LISTS: usize = 1 << 16;

/// What to filter, and how.
#[derive(Debug, Clone)]
pub struct FilterOptions {
    /// What the files that come of it are called: letters, digits, `-` and `_`.
    pub name: String,
    /// Lists of samples. The list that comes of them has their order.
    pub lists: Vec<PathBuf>,
    /// The rules.
    pub config: Config,
    /// Where the files go; made when it isn't there.
    pub out: PathBuf,
}

/// What to do of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Everything, in this process.
    All,
    /// Look at the samples of a hash range.
    Examine(Part),
    /// Find duplicates and write the list, when all ranges are examined.
    Finish,
}

/// Why lists were not filtered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// An option is out of its bounds.
    #[error("{option} is {got}: {must}")]
    Option {
        /// Which.
        option: &'static str,
        /// Its value.
        got: String,
        /// What it must be.
        must: String,
    },
    /// The configuration is no good.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A list of samples cannot be read.
    #[error(transparent)]
    List(#[from] ListError),
    /// There are more samples than can be compared.
    #[error("more than {limit} samples passed the first rules; filter the lists in several groups")]
    TooManySamples {
        /// How many there may be.
        limit: u64,
    },
    /// The lists have too many picture folders together.
    #[error("the lists have more than {limit} picture folders together; filter them in several groups")]
    TooManyRoots {
        /// How many there may be.
        limit: usize,
    },
    /// A list is not as it was examined.
    #[error("{} changed while it was filtered: {reason}; filter anew without --resume", list.display())]
    Changed {
        /// Which list.
        list: PathBuf,
        /// How that shows.
        reason: String,
    },
    /// Samples were lost or doubled: a mistake of the program's.
    #[error("{samples} samples came in, but {kept} were kept and {dropped} dropped; please report this")]
    Miscounted {
        /// Samples in.
        samples: u64,
        /// Samples kept.
        kept: u64,
        /// Samples dropped.
        dropped: u64,
    },
    /// Work was begun here with other options or other lists.
    #[error("{} was begun with other rules or other lists; give the same ones, or filter anew without --resume", work.display())]
    OtherWork {
        /// The folder with the unfinished work.
        work: PathBuf,
    },
    /// The end is asked for before all parts are examined.
    #[error("examining is not done in {} ({done} parts are, and no split has all of its); do it first", work.display())]
    NotYet {
        /// How many parts are examined.
        done: usize,
        /// The folder with the unfinished work.
        work: PathBuf,
    },
    /// A file of unfinished work is damaged.
    #[error("{} is damaged: {reason}; filter anew without --resume", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The histograms cannot be drawn.
    #[error("cannot draw the histograms: {reason}")]
    Draw {
        /// The drawing library's words.
        reason: String,
    },
}

fn read_error(path: &Path) -> impl FnOnce(io::Error) -> FilterError {
    move |source| FilterError::Read { path: path.to_path_buf(), source }
}

fn write_error(path: &Path) -> impl FnOnce(io::Error) -> FilterError {
    move |source| FilterError::Write { path: path.to_path_buf(), source }
}

impl FilterOptions {
    fn check(&self) -> Result<(), FilterError> {
        let wrong = |option, got: String, must: String| Err(FilterError::Option { option, got, must });
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if self.name.is_empty() || self.name.len() > 64 || !self.name.chars().all(plain) {
            return wrong("name", format!("{:?}", self.name), "1 to 64 letters, digits, '-' or '_'".into());
        }
        if !(1..=MAX_LISTS).contains(&self.lists.len()) {
            return wrong("lists", self.lists.len().to_string(), format!("1 to {MAX_LISTS}"));
        }
        Ok(self.config.check()?)
    }

    fn file(&self, end: &str) -> PathBuf {
        self.out.join(format!("{}.{end}", self.name))
    }
}

/// Filters lists of samples into [`FilterOptions::out`]: `<name>.samples.jsonl` with what is kept,
/// `<name>.rejects.jsonl` with a line for each sample that is not, `<name>.report.json` and `<name>.report.html`.
///
/// # Errors
///
/// [`FilterError`] when an option or a whole list is unusable, or writing fails. What is wrong with single samples
/// does not stop it.
pub fn filter(options: &FilterOptions) -> Result<FilterReport, FilterError> {
    let done = filter_step(options, Step::All, false, &())?;
    done.ok_or_else(|| FilterError::NotYet { done: 0, work: options.out.clone() })
}

/// Does one step of the filtering, or all; gives the report when everything is done.
///
/// Without `resume`, [`Step::All`] begins anew and single steps go on with the work that they find.
///
/// # Errors
///
/// [`FilterError`] as [`filter`], or when there is no work to go on with.
pub fn filter_step(
    options: &FilterOptions,
    step: Step,
    resume: bool,
    progress: &dyn Progress,
) -> Result<Option<FilterReport>, FilterError> {
    options.check()?;
    if step == Step::All && !resume {
        work::discard(options)?;
    }
    let job = work::Job::open(options, progress)?;
    match step {
        Step::Examine(part) => {
            examining::examine(&job, part)?;
            progress.end();
            Ok(None)
        }
        Step::Finish => finish::finish(&job).map(Some),
        Step::All => {
            examining::examine(&job, Part::WHOLE)?;
            finish::finish(&job).map(Some)
        }
    }
}

#[cfg(test)]
mod tests;
