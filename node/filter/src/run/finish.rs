//! The end: duplicates are found, the list and the rejects are written.

use std::{
    fs,
    io::{self, BufReader, Read, Write},
    path::PathBuf,
};

use talkoot_dataset::{
    ListReader, ListWriter, RejectKind,
    progress::Unit,
    sample::Placed,
    work::{Part, WorkError, WorkFolder, put_file, read_error, write_error},
};

use super::{FilterError, job::Job, rows::Rows, table::Row};
use crate::{
    duplicates::{self, Duplicates},
    print::Print,
    report::{FilterReport, Tally},
    rule::{Broken, Dropped, Rule},
};

/// Finds duplicates among what passed the rules, and writes everything.
pub(super) fn finish(job: &Job<'_>) -> Result<FilterReport, FilterError> {
    let parts = job.examined().whole_split()?;
    let prints = load_prints(job, &parts)?;
    let duplicates = find_duplicates(job, &prints)?;
    let report = write(job, &parts, &prints, &duplicates)?;
    report.check()?;
    let page = report.html()?;
    job.folder.publish_bytes(&report.path_of(&report.page), page.as_bytes())?;
    job.folder.publish(&job.options.file("report.json"), |file| {
        serde_json::to_writer(&mut *file, &report)?;
        file.write_all(b"\n")
    })?;
    job.progress.end();
    WorkFolder::discard(job.folder.path())?;
    Ok(report)
}

/// The prints of the samples that no rule has dropped, in the order of the lists.
fn load_prints(job: &Job<'_>, parts: &[Part]) -> Result<Vec<Print>, FilterError> {
    let mut rows = Rows::open(job, parts)?;
    let mut prints = Vec::new();
    while let Some((row, _)) = rows.next()? {
        if row.broken == 0 {
            prints.push(row.print);
        }
    }
    let limit = duplicates::MAX_PRINTS;
    if prints.len() > limit { Err(FilterError::TooManySamples { limit: limit as u64 }) } else { Ok(prints) }
}

/// Finds the duplicates, unless an earlier try has.
fn find_duplicates(job: &Job<'_>, prints: &[Print]) -> Result<Duplicates, FilterError> {
    let path = job.folder.file("duplicates.table");
    if path.exists() {
        return Ok(read_duplicates(&path, prints.len())?);
    }
    let found = duplicates::find(prints, &job.options.config.duplicate, job.progress);
    put_file(&path, |file| {
        file.write_all(&found.skipped_pairs.to_le_bytes())?;
        found.kept_for.iter().try_for_each(|kept| file.write_all(&kept.to_le_bytes()))
    })?;
    Ok(found)
}

fn read_duplicates(path: &PathBuf, samples: usize) -> Result<Duplicates, WorkError> {
    let damaged = |reason: &str| WorkError::Damaged { path: path.clone(), reason: reason.to_owned() };
    let mut file = BufReader::new(fs::File::open(path).map_err(read_error(path))?);
    let bytes = file.get_ref().metadata().map_err(read_error(path))?.len();
    if bytes != 8 + 4 * samples as u64 {
        return Err(damaged("it has another number of samples"));
    }
    let mut skipped = [0; 8];
    file.read_exact(&mut skipped).map_err(read_error(path))?;
    let mut kept_for = Vec::with_capacity(samples);
    let mut number = [0; 4];
    for _ in 0..samples {
        file.read_exact(&mut number).map_err(read_error(path))?;
        kept_for.push(u32::from_le_bytes(number));
    }
    let kept = |&at: &u32| kept_for.get(at as usize).is_some_and(|&kept| kept == at);
    if !kept_for.iter().all(kept) {
        return Err(damaged("it keeps a sample that is not there"));
    }
    Ok(Duplicates { kept_for, skipped_pairs: u64::from_le_bytes(skipped) })
}

/// Goes through rows and lists side by side.
fn write(
    job: &Job<'_>,
    parts: &[Part],
    prints: &[Print],
    duplicates: &Duplicates,
) -> Result<FilterReport, FilterError> {
    job.progress.begin("writing", job.list_bytes(), Unit::Bytes);
    let (list_path, rejects_path) = (job.options.file("samples.jsonl"), job.options.file("rejects.jsonl"));
    let failed = || write_error(&list_path);
    let mut list = ListWriter::create(&list_path, &job.roots).map_err(failed())?;
    let mut tally = Tally::default();
    let mut rows = Rows::open(job, parts)?;
    let mut samples = Samples { job, at: 0, reader: None, told: 0 };
    let mut passed = 0;
    let mut failure = None;
    let mut write_rejects = |file: &mut io::BufWriter<fs::File>| -> Result<(), FilterError> {
        while let Some((row, line)) = rows.next()? {
            if let Some(line) = line {
                tally.dropped(&row.bins, row.broken, &line);
                file.write_all(&line).map_err(write_error(&rejects_path))?;
                continue;
            }
            let mut sample = samples.of(&row)?.sample;
            let kept = duplicates.kept_for[passed] as usize;
            if kept == passed {
                job.lists[row.place.list()].rename_roots(&mut sample);
                (sample.quality, sample.difficulty) = (Some(row.scores.quality), Some(row.scores.difficulty));
                list.write(&sample).map_err(failed())?;
                tally.kept(&row.bins);
            } else {
                let broken = vec![nearly_the_same(&prints[passed], &prints[kept])];
                let dropped = Dropped::new(&sample, RejectKind::Duplicate, broken);
                let mut line =
                    serde_json::to_vec(&dropped).map_err(|e| write_error(&rejects_path)(e.into()))?;
                line.push(b'\n');
                tally.dropped(&row.bins, Rule::Duplicate.bit(), &line);
                file.write_all(&line).map_err(write_error(&rejects_path))?;
            }
            passed += 1;
        }
        Ok(())
    };
    let written = job.folder.publish(&rejects_path, |file| {
        write_rejects(file).map_err(|error| {
            failure = Some(error);
            io::Error::other("writing stopped")
        })
    });
    if let Some(error) = failure {
        return Err(error);
    }
    written?;
    let kept = list.finish().map_err(failed())?;
    Ok(tally.report(job.options, duplicates, kept))
}

/// Reads the samples of rows from their lists, which are gone through once.
struct Samples<'a> {
    job: &'a Job<'a>,
    at: usize,
    reader: Option<ListReader>,
    told: u64,
}

impl Samples<'_> {
    fn of(&mut self, row: &Row) -> Result<Placed, FilterError> {
        let list = &self.job.lists[row.place.list()];
        if self.at != row.place.list() || self.reader.is_none() {
            self.reader = Some(ListReader::open(&list.path)?);
            (self.at, self.told) = (row.place.list(), 0);
        }
        let changed =
            |reason: &str| FilterError::Changed { list: list.path.clone(), reason: reason.to_owned() };
        let Some(reader) = &mut self.reader else { return Err(changed("it is closed")) };
        let next = reader.next_where(|id| Print::id_of(&id) == row.print.id);
        let placed = next.ok_or_else(|| changed("a sample is gone"))??;
        if placed.offset != row.place.offset() {
            return Err(changed("a sample is at another place"));
        }
        // Not for every line: whoever watches has to be woken.
        if reader.bytes_read() - self.told > 1 << 20 {
            self.job.progress.advance(reader.bytes_read() - self.told);
            self.told = reader.bytes_read();
        }
        Ok(placed)
    }
}

fn nearly_the_same(dropped: &Print, kept: &Print) -> Broken {
    let bits = |a: u64, b: u64| (a ^ b).count_ones();
    let mut measured = format!("nearly the same as sample {:016x}…, which is kept:", kept.id);
    if dropped.pictures > 0 {
        measured += &format!(
            " pictures differ in {} bits of brightness and {} of colour,",
            bits(dropped.brightness, kept.brightness),
            bits(dropped.colour, kept.colour)
        );
    }
    measured += &format!(
        " texts are {:.0} % similar, rank {:.3} against {:.3}",
        100.0 * dropped.sketch.similarity(&kept.sketch),
        f64::from(dropped.rank) / 65_535.0,
        f64::from(kept.rank) / 65_535.0
    );
    Broken::new(Rule::Duplicate, measured, "one of a cluster is kept")
}
