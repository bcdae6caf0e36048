//! From samples to a packed data set: measure, plan, write.
//!
//! ```text
//! list of samples --measure--> lengths --plan--> which sample in which pack in which shard --write--> shards
//!                    `--> rejects, one line each      best fit decreasing over the histogram      finish--> manifest
//! ```
//!
//! With [`PackOptions::ordered`] each list is a *period*: its samples are packed among themselves, its packs come after
//! those of the list before, and the manifest says how many packs each has, so that a run learns them in this order.
//!
//! Only lengths are kept in memory, 24 bytes a sample while planning, so that 85 million samples pack on an ordinary
//! machine. Measuring and writing can be split over processes or hosts that share a folder ([`Step`], [`Part`]): the
//! measuring by hash range, the writing by shard. However it is split, on any number of threads, and however often it
//! was killed and begun again, the same samples, pictures, tokenizer and options write the same shards.
//!
//! Pictures go into the shards as the files that they came as. Measuring reads their heads, and decodes them unless it
//! is told that somebody else has ([`PixelCheck`]).

mod arrange;
mod deal;
mod finish;
mod fit;
mod job;
mod measure;
mod options;
mod plan;
mod report;
mod table;
mod write;

use std::path::PathBuf;

pub use self::{
    deal::{Dealt, deal},
    fit::{FitRules, Kind, fit},
    options::{Input, MAX_SHARD_BYTES, PackOptions, PixelCheck, Step},
    report::{PackReport, Spread},
};
pub use crate::work::Part;
use crate::{
    ingest::IngestError,
    manifest::ManifestError,
    progress::Progress,
    sample::ListError,
    tokenizer::TokenizerError,
    work::{WorkError, WorkFolder},
};

/// Why a data set was not packed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
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
    /// A file of records cannot be read.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// A list of samples cannot be read.
    #[error(transparent)]
    List(#[from] ListError),
    /// The tokenizer is no good, or refused a text.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// No record is usable.
    #[error("none of {records} records is usable; the reasons are in {}", rejects.display())]
    NothingLeft {
        /// How many there were.
        records: u64,
        /// The rejects file.
        rejects: PathBuf,
    },
    /// A period has nothing to learn.
    #[error("a list has no usable sample, so its period would be empty: {}; the reasons are in {}", list.display(), rejects.display())]
    EmptyPeriod {
        /// The list.
        list: PathBuf,
        /// The rejects file.
        rejects: PathBuf,
    },
    /// A sample was well when it was measured and isn't any more.
    #[error("the data changed while it was packed: record {record} of {file}: {reason}; pack again")]
    Changed {
        /// The file of records.
        file: String,
        /// The record's place in it.
        record: u64,
        /// What is different.
        reason: String,
    },
    /// One pack alone is longer than a shard may be.
    #[error("a pack takes {bytes} bytes, a shard may have {limit}; raise shard_bytes")]
    ShardTooSmall {
        /// Bytes of a shard with that one pack.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// There are more samples than a plan can hold.
    #[error("{samples} samples are more than one data set may have ({limit}); pack several")]
    TooManySamples {
        /// How many there are.
        samples: u64,
        /// How many there may be.
        limit: u64,
    },
    /// A step is asked for before the one that it builds on is done.
    #[error("{missing} is not done in {}; do it first", work.display())]
    NotYet {
        /// What has to come first.
        missing: String,
        /// The folder with the unfinished work.
        work: PathBuf,
    },
    /// A file or the folder of unfinished work is no good.
    #[error(transparent)]
    Work(#[from] WorkError),
    /// The manifest cannot be written.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Something cannot be written as JSON.
    #[error("cannot write JSON")]
    Json(#[from] serde_json::Error),
}

/// Packs a data set into [`PackOptions::out`]: a file for each shard, for the manifest and for the tokenizer, named by
/// their digests, and for people `<name>.manifest` (the manifest again), `<name>.report.json` and
/// `<name>.rejects.jsonl`.
///
/// # Errors
///
/// [`PackError`] when an option, the tokenizer or a whole file is unusable, nothing is left to pack, or writing
/// fails. Bad records do not stop it; they are counted in the report.
pub fn pack_dataset(options: &PackOptions) -> Result<PackReport, PackError> {
    let done = pack_step(options, Step::All, false, &())?;
    done.ok_or_else(|| PackError::NotYet { missing: "packing".into(), work: options.out.clone() })
}

/// Does one step of the packing, or all; gives the report when everything is done.
///
/// Without `resume`, [`Step::All`] begins anew and single steps go on with the work that they find.
///
/// # Errors
///
/// [`PackError`] as [`pack_dataset`], or when there is no work to go on with.
pub fn pack_step(
    options: &PackOptions,
    step: Step,
    resume: bool,
    progress: &dyn Progress,
) -> Result<Option<PackReport>, PackError> {
    options.check()?;
    if step == Step::All && !resume {
        WorkFolder::discard(&options.work_folder())?;
    }
    let job = job::Job::open(options, progress)?;
    match step {
        Step::Measure(part) => measure::measure(&job, part)?,
        Step::Plan => drop(plan::plan(&job)?),
        Step::Write(part) => write::write(&job, &plan::Plan::open(&job)?, part)?,
        Step::Finish => return finish::finish(&job, &plan::Plan::open(&job)?).map(Some),
        Step::All => {
            measure::measure(&job, Part::WHOLE)?;
            let plan = plan::plan(&job)?;
            write::write(&job, &plan, Part::WHOLE)?;
            return finish::finish(&job, &plan).map(Some);
        }
    }
    progress.end();
    Ok(None)
}

#[cfg(test)]
mod tests;
