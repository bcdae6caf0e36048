//! From lists of samples to one list: examine, find duplicates, write.

mod examining;
mod finish;
mod job;
mod rows;
mod table;

use std::path::PathBuf;

use talkoot_dataset::{
    Progress,
    sample::ListError,
    work::{MAX_LISTS, PLAIN_NAME, Part, WorkError, WorkFolder, is_plain_name},
};

use crate::{
    config::{Config, ConfigError},
    report::FilterReport,
};

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
    /// A file or the folder of unfinished work is no good, or examining is not done.
    #[error(transparent)]
    Work(#[from] WorkError),
    /// The histograms cannot be drawn.
    #[error("cannot draw the histograms: {reason}")]
    Draw {
        /// The drawing library's words.
        reason: String,
    },
}

impl FilterOptions {
    fn check(&self) -> Result<(), FilterError> {
        let wrong = |option, got: String, must: String| Err(FilterError::Option { option, got, must });
        if !is_plain_name(&self.name) {
            return wrong("name", format!("{:?}", self.name), PLAIN_NAME.into());
        }
        if !(1..=MAX_LISTS).contains(&self.lists.len()) {
            return wrong("lists", self.lists.len().to_string(), format!("1 to {MAX_LISTS}"));
        }
        Ok(self.config.check()?)
    }

    fn file(&self, end: &str) -> PathBuf {
        self.out.join(format!("{}.{end}", self.name))
    }

    /// The folder of unfinished work.
    fn work_folder(&self) -> PathBuf {
        self.file("work")
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
    done.ok_or_else(|| WorkError::NotYet { step: "filtering", done: 0, work: options.work_folder() }.into())
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
        WorkFolder::discard(&options.work_folder())?;
    }
    let job = job::Job::open(options, progress)?;
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
