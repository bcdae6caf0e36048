//! The count: how many samples of all parts have each concept.

use std::io::{BufReader, Read, Write};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use talkoot_dataset::{
    progress::Unit,
    work::{ChunkFormat, put_file, read_error},
};

use super::{
    BalanceError,
    job::{Chunk, Job},
};
use crate::coverage::Coverage;

/// Numbers of the head: samples, those without a concept, concepts.
const FORMAT: ChunkFormat<3> = ChunkFormat { magic: *b"TKCOUNT\x01", row_bytes: 8 };

/// How often concepts were found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Counts {
    /// Samples of all lists.
    pub(super) samples: u64,
    /// Those that are like no concept.
    pub(super) none: u64,
    /// Samples that have each concept.
    pub(super) of: Vec<u64>,
}

/// What counting has found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Counted {
    /// Samples of all lists.
    pub samples: u64,
    /// Those that are like no concept.
    pub without_concept: u64,
    /// Concepts in the list.
    pub concepts: u64,
    /// How well all samples cover them.
    pub coverage: Coverage,
}

impl Counts {
    fn none_of(concepts: usize) -> Self {
        Self { samples: 0, none: 0, of: vec![0; concepts] }
    }

    fn add(&mut self, other: &Self) {
        self.samples += other.samples;
        self.none += other.none;
        self.of.iter_mut().zip(&other.of).for_each(|(count, other)| *count += other);
    }

    pub(super) fn told(&self, job: &Job<'_>) -> Counted {
        Counted {
            samples: self.samples,
            without_concept: self.none,
            concepts: job.concepts.len() as u64,
            coverage: Coverage::of(&self.of),
        }
    }
}

/// Adds up what all parts have found, unless an earlier try has.
pub(super) fn count(job: &Job<'_>) -> Result<Counts, BalanceError> {
    let path = job.work.file("counts.table");
    if path.exists() {
        let (file, [samples, none, concepts]) = FORMAT.open(&path, &job.tags.fingerprint)?;
        let (mut file, mut number) = (BufReader::new(file), [0; 8]);
        let mut of = Vec::with_capacity(concepts as usize);
        for _ in 0..concepts {
            file.read_exact(&mut number).map_err(read_error(&path))?;
            of.push(u64::from_le_bytes(number));
        }
        return Ok(Counts { samples, none, of });
    }
    let chunks = job.chunks()?;
    job.progress.begin("counting", chunks.len() as u64, Unit::Files);
    let empty = || Counts::none_of(job.concepts.len());
    let counts = chunks
        .par_iter()
        .try_fold(empty, |mut counts, chunk| count_chunk(job, chunk, &mut counts).map(|()| counts))
        .try_reduce(empty, |mut counts, other| {
            counts.add(&other);
            Ok(counts)
        })?;
    put_file(&path, |file| {
        let numbers = [counts.samples, counts.none, counts.of.len() as u64];
        FORMAT.write_head(file, &job.tags.fingerprint, numbers)?;
        counts.of.iter().try_for_each(|count| file.write_all(&count.to_le_bytes()))
    })?;
    Ok(counts)
}

fn count_chunk(job: &Job<'_>, chunk: &Chunk, counts: &mut Counts) -> Result<(), BalanceError> {
    let mut rows = job.tags.read(&chunk.tags, 0)?;
    while let Some(row) = rows.next()? {
        counts.samples += 1;
        counts.none += u64::from(!row.tags[0].is_some());
        for tag in row.tags.iter().take_while(|tag| tag.is_some()) {
            counts.of[tag.concept as usize] += 1;
        }
    }
    job.progress.advance(1);
    Ok(())
}
