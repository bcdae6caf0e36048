//! The rows of all parts in the order of the lists, whatever the parts were.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fs::{self, File},
    io::{BufRead, BufReader, Read},
    path::PathBuf,
};

use talkoot_dataset::{pack::Part, sample::list::MAX_LINE_BYTES};

use super::{
    FilterError,
    examining::{dropped_name, mark_name, rows_name},
    read_error,
    table::{Chunk, Place, Row},
    work::{Job, read_json},
};

/// Longest line for a dropped sample: its evidence is short, its names are bounded.
const MAX_DROPPED_BYTES: u64 = MAX_LINE_BYTES;

/// The parts of the coarsest split that is examined as a whole.
pub(super) fn examined_parts(job: &Job<'_>) -> Result<Vec<Part>, FilterError> {
    let folder = job.file("examine");
    let mut parts: Vec<Part> = Vec::new();
    for entry in fs::read_dir(&folder).map_err(read_error(&folder))? {
        let name = entry.map_err(read_error(&folder))?.file_name();
        let part = name.to_str().and_then(|name| {
            let (index, of) = name.strip_suffix(".done")?.split_once("-of-")?;
            Part::new(index.parse().ok()?, of.parse().ok()?)
        });
        parts.extend(part);
    }
    parts.sort_unstable_by_key(|part| (part.of(), part.index()));
    let split = parts.chunk_by(|a, b| a.of() == b.of()).find(|some| some.len() == some[0].of() as usize);
    let none = || FilterError::NotYet { done: parts.len(), work: job.folder.clone() };
    split.map(<[Part]>::to_vec).ok_or_else(none)
}

/// A line of the rejects file, with its end.
type Line = Vec<u8>;

/// All rows, by place; with each that is dropped the line that says why.
pub(super) struct Rows<'a> {
    job: &'a Job<'a>,
    parts: Vec<PartRows>,
    next: BinaryHeap<Reverse<(Place, usize)>>,
}

struct PartRows {
    part: Part,
    chunks: u32,
    /// Number of the chunk after the open one.
    chunk: u32,
    open: Option<(Chunk, PathBuf, BufReader<File>)>,
    row: Option<Row>,
}

impl<'a> Rows<'a> {
    pub(super) fn open(job: &'a Job<'a>, parts: &[Part]) -> Result<Self, FilterError> {
        let mut rows = Self { job, parts: Vec::with_capacity(parts.len()), next: BinaryHeap::new() };
        for &part in parts {
            let chunks = read_json(&job.file(&mark_name(part)))?;
            rows.parts.push(PartRows { part, chunks, chunk: 0, open: None, row: None });
        }
        for at in 0..rows.parts.len() {
            rows.refill(at)?;
        }
        Ok(rows)
    }

    /// Puts the next row of a part in line.
    fn refill(&mut self, at: usize) -> Result<(), FilterError> {
        let part = &mut self.parts[at];
        part.advance(self.job)?;
        if let Some(row) = &part.row {
            self.next.push(Reverse((row.place, at)));
        }
        Ok(())
    }

    /// The next row, and the line for it when a rule has dropped it.
    pub(super) fn next(&mut self) -> Result<Option<(Row, Option<Line>)>, FilterError> {
        let Some(Reverse((_, at))) = self.next.pop() else { return Ok(None) };
        let part = &mut self.parts[at];
        let Some(row) = part.row.take() else { return Ok(None) };
        let line = if row.broken == 0 { None } else { Some(part.line()?) };
        self.refill(at)?;
        Ok(Some((row, line)))
    }
}

impl PartRows {
    fn advance(&mut self, job: &Job<'_>) -> Result<(), FilterError> {
        loop {
            if let Some((chunk, ..)) = &mut self.open
                && let Some(row) = chunk.next()?
            {
                self.row = Some(row);
                return Ok(());
            }
            self.open = None;
            if self.chunk == self.chunks {
                return Ok(());
            }
            let chunk = Chunk::open(&job.file(&rows_name(self.part, self.chunk)), &job.fingerprint)?;
            let path = job.file(&dropped_name(self.part, self.chunk));
            let dropped = BufReader::new(File::open(&path).map_err(read_error(&path))?);
            self.open = Some((chunk, path, dropped));
            self.chunk += 1;
        }
    }

    fn line(&mut self) -> Result<Vec<u8>, FilterError> {
        let mut line = Vec::new();
        if let Some((_, path, dropped)) = &mut self.open {
            dropped.take(MAX_DROPPED_BYTES).read_until(b'\n', &mut line).map_err(read_error(path))?;
            if !line.ends_with(b"\n") {
                let reason = "a line for a dropped sample is missing".to_owned();
                return Err(FilterError::Damaged { path: path.clone(), reason });
            }
        }
        Ok(line)
    }
}
