//! The first pass: looking at every sample of a part, chunk by chunk.

use std::io::Write;

use rayon::prelude::*;
use talkoot_dataset::{
    progress::Unit,
    sample::Placed,
    work::{Part, Place, each_chunk, put_file},
};

use super::{
    FilterError,
    job::Job,
    table::{Chunk, Row, write_chunk},
};
use crate::{
    examine::{Examined, Examiner},
    rule::Rule,
};

/// Samples of a chunk: what is looked at again after a kill, at most.
const CHUNK_SAMPLES: usize = 8_192;

/// The endings of a chunk's two files.
pub(super) const ROWS: &str = "rows";
pub(super) const DROPPED: &str = "dropped";

/// Examines the samples of a part; what an earlier try has examined is left as it is.
pub(super) fn examine(job: &Job<'_>, part: Part) -> Result<(), FilterError> {
    let files = job.examined();
    if files.is_done(part) {
        return Ok(());
    }
    let (mut chunk, mut skip) = (0, 0);
    while files.chunk(part, chunk, ROWS).exists() {
        skip += Chunk::open(&files.chunk(part, chunk, ROWS), &job.fingerprint)?.left();
        chunk += 1;
    }
    let examiner = Examiner::new(&job.options.config)?;
    job.progress.begin("examining", job.list_bytes(), Unit::Bytes);
    each_chunk(&job.lists, part, skip, CHUNK_SAMPLES, job.progress, |some| {
        examine_chunk(job, &examiner, part, chunk, some)?;
        chunk += 1;
        Ok::<_, FilterError>(())
    })?;
    Ok(files.mark_done(part, chunk)?)
}

/// Lines of what is dropped first: the chunk of rows says that both are there.
fn examine_chunk(
    job: &Job<'_>,
    examiner: &Examiner,
    part: Part,
    chunk: u32,
    some: &[(usize, Placed)],
) -> Result<(), FilterError> {
    let examined: Vec<Examined> = some
        .par_iter()
        .map(|(list, placed)| examiner.examine(&placed.sample, &job.lists[*list].roots))
        .collect();
    put_file(&job.examined().chunk(part, chunk, DROPPED), |file| {
        for ((_, placed), examined) in some.iter().zip(&examined) {
            if let Some(dropped) = examined.dropped(&placed.sample) {
                serde_json::to_writer(&mut *file, &dropped)?;
                file.write_all(b"\n")?;
            }
        }
        Ok(())
    })?;
    let mut rows = Vec::with_capacity(some.len());
    for ((list, placed), examined) in some.iter().zip(&examined) {
        let place = Place::new(*list, placed.offset).ok_or_else(|| FilterError::Option {
            option: "lists",
            got: format!("one of more than {} bytes", placed.offset),
            must: "at most 2^48 bytes each".into(),
        })?;
        let broken = examined.broken.iter().fold(0, |bits, broken| bits | Rule::bit(broken.rule));
        rows.push(Row { place, broken, scores: examined.scores, bins: examined.bins, print: examined.print });
    }
    Ok(write_chunk(&job.examined().chunk(part, chunk, ROWS), &job.fingerprint, &rows)?)
}
