//! From lists of samples to a balanced list: map, count, draw.

mod align;
mod count;
mod draw;
mod error;
mod job;
mod map;
mod tags;
mod write;

use std::path::PathBuf;

use talkoot_dataset::{
    Progress,
    work::{MAX_LISTS, PLAIN_NAME, Part, WorkFolder, is_plain_name},
};

pub use self::{count::Counted, error::BalanceError};
use crate::{config::Config, report::BalanceReport};

/// What to balance, and how.
#[derive(Debug, Clone)]
pub struct BalanceOptions {
    /// What the files that come of it are called: letters, digits, `-` and `_`.
    pub name: String,
    /// Lists of samples. The list that comes of them has their order.
    pub lists: Vec<PathBuf>,
    /// The list of concepts.
    pub concepts: PathBuf,
    /// How samples are compared with concepts.
    pub matching: Matching,
    /// The rules.
    pub config: Config,
    /// Whether what was found out about the samples is kept, so that they can be drawn from again by other rules.
    pub keep: bool,
    /// Where the files go; made when it isn't there.
    pub out: PathBuf,
}

/// How samples are compared with concepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Matching {
    /// By the words of their texts.
    Text,
    /// By embeddings.
    Embeddings {
        /// Rows of the samples: with ids each file in the order of the lists, without ids all files one after another.
        samples: Vec<PathBuf>,
        /// Rows of the concepts, in the order of their list.
        concepts: PathBuf,
    },
}

/// What to do of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Everything, in this process.
    All,
    /// Find the concepts of the samples of a hash range.
    Map(Part),
    /// Add up how often each concept was found, when all ranges are mapped.
    Count,
    /// Draw, and write the list.
    Draw,
}

/// What was done.
#[derive(Debug, Clone, PartialEq)]
pub enum Done {
    /// A hash range is mapped.
    Mapped,
    /// The concepts are counted.
    Counted(Counted),
    /// The list is written.
    Drawn(Box<BalanceReport>),
}

impl BalanceOptions {
    fn check(&self) -> Result<(), BalanceError> {
        let wrong = |option, got: String, must: String| Err(BalanceError::Option { option, got, must });
        if !is_plain_name(&self.name) {
            return wrong("name", format!("{:?}", self.name), PLAIN_NAME.into());
        }
        if !(1..=MAX_LISTS).contains(&self.lists.len()) {
            return wrong("lists", self.lists.len().to_string(), format!("1 to {MAX_LISTS}"));
        }
        if let Matching::Embeddings { samples, .. } = &self.matching
            && !(1..=MAX_LISTS).contains(&samples.len())
        {
            return wrong("embeddings", samples.len().to_string(), format!("1 to {MAX_LISTS}"));
        }
        Ok(self.config.check()?)
    }

    fn file(&self, end: &str) -> PathBuf {
        self.out.join(format!("{}.{end}", self.name))
    }
}

/// Balances lists of samples into [`BalanceOptions::out`]: `<name>.samples.jsonl` with what is drawn,
/// `<name>.rejects.jsonl` with a line for each sample that is not, `<name>.settings.toml` with what decided it,
/// `<name>.report.json` and `<name>.report.html`.
///
/// # Errors
///
/// [`BalanceError`] when an option, a list or the embeddings are unusable, or writing fails.
pub fn balance(options: &BalanceOptions) -> Result<BalanceReport, BalanceError> {
    match balance_step(options, Step::All, false, &())? {
        Done::Drawn(report) => Ok(*report),
        Done::Mapped | Done::Counted(_) => unreachable!("all steps end with the draw"),
    }
}

/// Does one step of the balancing, or all.
///
/// Without `resume`, [`Step::All`] begins anew and single steps go on with the work that they find.
///
/// # Errors
///
/// [`BalanceError`] as [`balance`], or when the step before is not done.
pub fn balance_step(
    options: &BalanceOptions,
    step: Step,
    resume: bool,
    progress: &dyn Progress,
) -> Result<Done, BalanceError> {
    options.check()?;
    if step == Step::All && !resume {
        WorkFolder::discard(&options.file("work"))?;
    }
    let job = job::Job::open(options, progress)?;
    let done = match step {
        Step::Map(part) => map::map(&job, part).map(|()| Done::Mapped),
        Step::Count => count::count(&job).map(|counts| Done::Counted(counts.told(&job))),
        Step::Draw => draw_and_write(&job),
        Step::All => {
            map::map(&job, Part::WHOLE)?;
            draw_and_write(&job)
        }
    };
    progress.end();
    done
}

fn draw_and_write(job: &job::Job<'_>) -> Result<Done, BalanceError> {
    let counts = count::count(job)?;
    let drawing = draw::Drawing::of(job, &counts)?;
    let report = write::write(job, &counts, &drawing)?;
    if !job.options.keep {
        WorkFolder::discard(job.work.path())?;
    }
    Ok(Done::Drawn(Box::new(report)))
}

#[cfg(test)]
mod tests;
