//! The rows of all parts in the order of the lists, whatever the parts were.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fs::File,
    io::{BufRead, BufReader, Read},
    path::PathBuf,
};

use talkoot_dataset::{
    sample::list::MAX_LINE_BYTES,
    work::{Part, Place, WorkError, read_error},
};

use super::{
    FilterError,
    examining::{DROPPED, ROWS},
    job::Job,
    table::{Chunk, Row},
};

/// Longest line for a dropped sample: its evidence is short, its names are bounded.
const MAX_DROPPED_BYTES: u64 = MAX_LINE_BYTES;

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
            let chunks = job.examined().chunks(part)?;
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
            let files = job.examined();
            let chunk = Chunk::open(&files.chunk(self.part, self.chunk, ROWS), &job.fingerprint)?;
            let path = files.chunk(self.part, self.chunk, DROPPED);
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
                return Err(WorkError::Damaged { path: path.clone(), reason }.into());
            }
        }
        Ok(line)
    }
}
