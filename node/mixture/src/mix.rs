//! From lists of samples to a list for each period.

use std::{fs, path::PathBuf};

use talkoot_dataset::{
    ListReader, ListWriter, Progress, Roots,
    progress::Unit,
    sample::ListError,
    work::{
        List, MAX_LISTS, PLAIN_NAME, WorkError, WorkFolder, is_plain_name, join_roots, remove_file,
        write_error,
    },
};
use talkoot_protocol::manifest::MAX_PERIODS;

use crate::{
    Config, MixReport,
    config::ConfigError,
    draw::{Drawn, draw},
    table::{Ids, Table},
};

/// What to mix, and how.
#[derive(Debug, Clone)]
pub struct MixOptions {
    /// What the files that come of it are called: letters, digits, `-` and `_`.
    pub name: String,
    /// Lists of samples. The lists that come of them have their order.
    pub lists: Vec<PathBuf>,
    /// The periods.
    pub config: Config,
    /// Where the files go; made when it isn't there.
    pub out: PathBuf,
}

/// Why lists were not mixed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MixError {
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
    /// A file cannot be read or written, or the lists have too many picture folders.
    #[error(transparent)]
    Work(#[from] WorkError),
    /// The samples are of too many sources.
    #[error(
        "the samples are of more than {limit} sources; mix them in several groups, or give several one name"
    )]
    TooManySources {
        /// How many there may be.
        limit: usize,
    },
    /// A weight is for a source of which there is no sample.
    #[error("period[{period}].sources names {named:?}, of which there is no sample; there are {}", known.join(", "))]
    UnknownSource {
        /// The period's number.
        period: usize,
        /// The source that it names.
        named: String,
        /// The first of those that there are.
        known: Vec<String>,
    },
    /// A period has no sample.
    #[error(
        "nothing can be drawn for period[{period}], {name}: it asks for {asked} samples of those with a weight above 0; change its weights or its share"
    )]
    EmptyPeriod {
        /// The period's number.
        period: usize,
        /// What it is called.
        name: String,
        /// How many samples it asks for.
        asked: u64,
    },
    /// A list is not as it was when it was read first.
    #[error("the lists changed while they were mixed; mix them again")]
    Changed,
    /// A list would be written over itself.
    #[error("{} is read and would be written over; choose another name or folder", list.display())]
    InTheWay {
        /// The list.
        list: PathBuf,
    },
    /// Samples were lost or doubled: a mistake of the program's.
    #[error("{planned} samples were planned for period[{period}] and {written} written; please report this")]
    Miscounted {
        /// The period's number.
        period: usize,
        /// How many were planned.
        planned: u64,
        /// How many were written.
        written: u64,
    },
}

impl MixOptions {
    fn check(&self) -> Result<(), MixError> {
        let wrong = |option, got: String, must: String| Err(MixError::Option { option, got, must });
        if !is_plain_name(&self.name) {
            return wrong("name", format!("{:?}", self.name), PLAIN_NAME.into());
        }
        if !(1..=MAX_LISTS).contains(&self.lists.len()) {
            return wrong("lists", self.lists.len().to_string(), format!("1 to {MAX_LISTS}"));
        }
        Ok(self.config.check()?)
    }

    /// The list of a period, numbered from 1 so that names have the order of the periods.
    pub(crate) fn list_of(&self, period: usize) -> String {
        format!("{}.{:03}.samples.jsonl", self.name, period + 1)
    }

    fn report(&self) -> PathBuf {
        self.out.join(format!("{}.report.json", self.name))
    }

    /// Makes sure that no list is written over itself.
    fn check_room(&self) -> Result<(), MixError> {
        let written: Vec<PathBuf> = (0..MAX_PERIODS)
            .filter_map(|period| self.out.join(self.list_of(period)).canonicalize().ok())
            .collect();
        let in_the_way = |list: &&PathBuf| list.canonicalize().is_ok_and(|list| written.contains(&list));
        match self.lists.iter().find(in_the_way) {
            Some(list) => Err(MixError::InTheWay { list: list.clone() }),
            None => Ok(()),
        }
    }

    /// Makes room: an earlier mixture may have had more periods, and its lists would be taken for this one's.
    fn make_room(&self) -> Result<(), WorkError> {
        fs::create_dir_all(&self.out).map_err(write_error(&self.out))?;
        remove_file(&self.report())?;
        for period in 0..MAX_PERIODS {
            let list = self.out.join(self.list_of(period));
            remove_file(&list)?;
            remove_file(&list.with_extension("jsonl.part"))?;
        }
        Ok(())
    }
}

/// Mixes lists of samples into [`MixOptions::out`]: `<name>.001.samples.jsonl` and so on with the samples of each period,
/// and `<name>.report.json`, which is written last. What an earlier mixture of this name left there is removed.
///
/// # Errors
///
/// [`MixError`] when an option, the configuration or a list is unusable, a period would be empty, or writing fails.
pub fn mix(options: &MixOptions, progress: &dyn Progress) -> Result<MixReport, MixError> {
    options.check()?;
    let mut lists = options.lists.iter().cloned().map(List::open).collect::<Result<Vec<_>, _>>()?;
    let roots = join_roots(&mut lists)?;
    options.check_room()?;
    let bytes = lists.iter().map(|list| list.bytes).sum();
    progress.begin("reading", bytes, Unit::Bytes);
    let table = Table::read(&lists, &options.config, progress)?;
    let drawn = draw(&table, &options.config);
    let report = MixReport::of(options, &table, &drawn);
    for (number, period) in report.periods.iter().enumerate() {
        if period.drawn == 0 {
            let (name, asked) = (period.name.clone(), period.asked);
            return Err(MixError::EmptyPeriod { period: number, name, asked });
        }
    }
    options.make_room()?;
    progress.begin("writing", bytes, Unit::Bytes);
    write(options, &lists, &roots, &table, &drawn, progress)?;
    let work = WorkFolder::open(options.out.join(format!("{}.work", options.name)), &[])?;
    let json =
        serde_json::to_vec_pretty(&report).map_err(|error| write_error(&options.report())(error.into()))?;
    work.publish_bytes(&options.report(), &json)?;
    WorkFolder::discard(work.path())?;
    progress.end();
    Ok(report)
}

/// Goes through the lists once more and writes each sample to the periods that have it.
fn write(
    options: &MixOptions,
    lists: &[List],
    roots: &Roots,
    table: &Table,
    drawn: &Drawn,
    progress: &dyn Progress,
) -> Result<(), MixError> {
    let paths: Vec<PathBuf> =
        (0..drawn.counts.len()).map(|period| options.out.join(options.list_of(period))).collect();
    let create = |path: &PathBuf| ListWriter::create(path, roots).map_err(write_error(path));
    let mut writers = paths.iter().map(create).collect::<Result<Vec<_>, _>>()?;
    let mut entries = drawn.entries.iter().copied().peekable();
    let (mut lines, mut ids) = (0u64, Ids::default());
    for list in lists {
        let mut reader = ListReader::open(&list.path)?;
        let mut told = 0;
        loop {
            let next = reader.next_where(|id| {
                ids.add(&id);
                lines += 1;
                entries.peek().is_some_and(|entry| entry.line() + 1 == lines)
            });
            let Some(placed) = next.transpose()? else { break };
            let mut sample = placed.sample;
            list.rename_roots(&mut sample);
            while let Some(entry) = entries.next_if(|entry| entry.line() + 1 == lines) {
                let period = entry.period();
                writers[period].write(&sample).map_err(write_error(&paths[period]))?;
            }
            if reader.bytes_read() - told > 1 << 20 {
                progress.advance(reader.bytes_read() - told);
                told = reader.bytes_read();
            }
        }
        progress.advance(list.bytes.saturating_sub(told));
    }
    // Before any list gets its name.
    if ids.digest() != table.ids {
        return Err(MixError::Changed);
    }
    for (period, (writer, path)) in writers.into_iter().zip(&paths).enumerate() {
        let planned = drawn.counts[period].iter().map(|count| count.drawn).sum();
        let written = writer.finish().map_err(write_error(path))?;
        if written != planned {
            return Err(MixError::Miscounted { period, planned, written });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
