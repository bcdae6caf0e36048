//! The end: the lists are gone through once more, beside the tags of their samples, and everything is written.

use std::{
    collections::VecDeque,
    io::{self, BufWriter, Write},
};

use talkoot_dataset::{
    ListReader, ListWriter, Reject, RejectKind, SampleId,
    progress::Unit,
    sample::Placed,
    work::{Part, write_error},
};

use super::{
    BalanceError,
    count::Counts,
    draw::{Drawing, has_concept},
    job::{Job, TAGS},
    tags::TagRow,
};
use crate::report::{BalanceReport, Tally};

/// Rows of a part that are in memory at a time. Their file is open only while they are read: there may be more parts than
/// a process may have files.
const ROWS_AT_A_TIME: usize = 512;

/// Writes the list, the rejects, the settings and the report.
pub(super) fn write(
    job: &Job<'_>,
    counts: &Counts,
    drawing: &Drawing<'_>,
) -> Result<BalanceReport, BalanceError> {
    job.progress.begin("writing", job.list_bytes(), Unit::Bytes);
    let list_path = job.options.file("samples.jsonl");
    let failed = || write_error(&list_path);
    let mut list = ListWriter::create(&list_path, &job.roots).map_err(failed())?;
    let mut tally = Tally::new(job.concepts.len());
    let mut failure = None;
    let written = job.work.publish(&job.options.file("rejects.jsonl"), |rejects| {
        choose(job, drawing, &mut list, rejects, &mut tally).map_err(|error| {
            failure = Some(error);
            io::Error::other("writing stopped")
        })
    });
    match failure {
        Some(error) => return Err(error),
        None => written?,
    }
    list.finish().map_err(failed())?;
    let report = tally.report(job.options, &job.concepts, &counts.of, counts.samples)?;
    let page = report.html()?;
    job.work.publish_bytes(&report.path_of(&report.page), page.as_bytes())?;
    let settings = report.settings(&job.options.config, &job.concepts, &job.options.matching);
    job.work.publish_bytes(&report.path_of(&report.settings), settings.as_bytes())?;
    job.work.publish(&job.options.file("report.json"), |file| {
        serde_json::to_writer(&mut *file, &report)?;
        file.write_all(b"\n")
    })?;
    Ok(report)
}

fn choose(
    job: &Job<'_>,
    drawing: &Drawing<'_>,
    list: &mut ListWriter,
    rejects: &mut BufWriter<std::fs::File>,
    tally: &mut Tally,
) -> Result<(), BalanceError> {
    let list_path = job.options.file("samples.jsonl");
    let mut rows = Rows::open(job)?;
    for (number, from) in job.lists.iter().enumerate() {
        let mut reader = ListReader::open(&from.path)?;
        let mut told = 0;
        while let Some(placed) = reader.next().transpose()? {
            let row = rows.next(placed.sample.id)?;
            let Placed { offset, mut sample } = placed;
            if (row.place.list(), row.place.offset()) != (number, offset) {
                let reason = "a sample is at another place".to_owned();
                return Err(BalanceError::Changed { list: from.path.clone(), reason });
            }
            let quota = drawing.quota(&sample.origin.source);
            let (lot, weight) = drawing.lot(&row);
            let copies = drawing.copies(quota, &lot);
            tally.sample(&sample, &row.tags, copies);
            if copies == 0 {
                let reject = reject(&sample, has_concept(&row.tags), lot.most(), weight);
                let mut line =
                    serde_json::to_vec(&reject).map_err(io::Error::from).map_err(write_error(&list_path))?;
                line.push(b'\n');
                rejects.write_all(&line).map_err(write_error(&job.options.file("rejects.jsonl")))?;
                continue;
            }
            from.rename_roots(&mut sample);
            for _ in 0..copies {
                list.write(&sample).map_err(write_error(&list_path))?;
            }
            // Not for every line: whoever watches has to be woken.
            if reader.bytes_read() - told > 1 << 20 {
                job.progress.advance(reader.bytes_read() - told);
                told = reader.bytes_read();
            }
        }
        job.progress.advance(from.bytes.saturating_sub(told));
    }
    Ok(())
}

fn reject(sample: &talkoot_dataset::Sample, has_concept: bool, most: u32, weight: f64) -> Reject {
    let (kind, reason) = if most == 0 && !has_concept {
        (RejectKind::NoConcept, "it is like none of the concepts".to_owned())
    } else {
        (RejectKind::NotDrawn, format!("its weight is {weight:e}, and others were drawn before it"))
    };
    Reject::new(sample.origin.clone(), kind, reason)
}

/// The rows of all parts, in the order of the lists.
struct Rows<'a> {
    job: &'a Job<'a>,
    parts: Vec<PartRows>,
}

/// The rows of a part, in the order of the lists.
struct PartRows {
    part: Part,
    chunks: u32,
    /// The chunk and the row in it that come after `ready`.
    chunk: u32,
    row: u64,
    ready: VecDeque<TagRow>,
}

impl<'a> Rows<'a> {
    fn open(job: &'a Job<'a>) -> Result<Self, BalanceError> {
        let parts = job.parts();
        let open = |part: Part| {
            let chunks = parts.chunks(part)?;
            Ok(PartRows { part, chunks, chunk: 0, row: 0, ready: VecDeque::new() })
        };
        let parts = parts.whole_split()?.into_iter().map(open).collect::<Result<_, BalanceError>>()?;
        Ok(Self { job, parts })
    }

    /// The row of the next sample, whose id is `id`: it is the next one of the part that the id belongs to.
    fn next(&mut self, id: SampleId) -> Result<TagRow, BalanceError> {
        let of = self.parts.len() as u32;
        let part = &mut self.parts[id.part(of) as usize];
        if part.ready.is_empty() {
            part.refill(self.job)?;
        }
        part.ready.pop_front().filter(|row| row.id == id).ok_or_else(|| BalanceError::Changed {
            list: self.job.options.lists[0].clone(),
            reason: format!("sample {id} was not there when it was mapped"),
        })
    }
}

impl PartRows {
    fn refill(&mut self, job: &Job<'_>) -> Result<(), BalanceError> {
        while self.ready.is_empty() && self.chunk < self.chunks {
            let path = job.parts().chunk(self.part, self.chunk, TAGS);
            let mut reader = job.tags.read(&path, self.row)?;
            while self.ready.len() < ROWS_AT_A_TIME
                && let Some(row) = reader.next()?
            {
                self.ready.push_back(row);
                self.row += 1;
            }
            if self.ready.len() < ROWS_AT_A_TIME {
                (self.chunk, self.row) = (self.chunk + 1, 0);
            }
        }
        Ok(())
    }
}
