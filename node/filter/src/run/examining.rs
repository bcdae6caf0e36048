//! The first pass: looking at every sample of a part, chunk by chunk.

use rayon::prelude::*;
use talkoot_dataset::{ListReader, pack::Part, progress::Unit, sample::Placed};

use super::{
    FilterError,
    table::{Chunk, Place, Row, write_chunk},
    work::{Job, put_file, put_json},
};
use crate::{
    examine::{Examined, Examiner},
    rule::Rule,
};

/// Samples of a chunk: what is looked at again after a kill, at most.
const CHUNK_SAMPLES: usize = 8_192;

/// Examines the samples of a part; what an earlier try has examined is left as it is.
pub(super) fn examine(job: &Job<'_>, part: Part) -> Result<(), FilterError> {
    let mark = job.file(&mark_name(part));
    if mark.exists() {
        return Ok(());
    }
    let (mut chunk, mut skip) = (0, 0);
    while job.file(&rows_name(part, chunk)).exists() {
        skip += Chunk::open(&job.file(&rows_name(part, chunk)), &job.fingerprint)?.left();
        chunk += 1;
    }
    let examiner = Examiner::new(&job.options.config)?;
    job.progress.begin("examining", job.list_bytes(), Unit::Bytes);
    let mut some: Vec<(usize, Placed)> = Vec::new();
    for (at, list) in job.lists.iter().enumerate() {
        let mut reader = ListReader::open(&list.path)?;
        let mut told = 0;
        loop {
            let next = reader.next_where(|id| {
                let mine = id.part(part.of()) == part.index();
                let examined = mine && skip > 0;
                skip -= u64::from(examined);
                mine && !examined
            });
            let Some(placed) = next.transpose()? else { break };
            some.push((at, placed));
            if some.len() >= CHUNK_SAMPLES {
                examine_chunk(job, &examiner, part, chunk, &std::mem::take(&mut some))?;
                chunk += 1;
                job.progress.advance(reader.bytes_read() - told);
                told = reader.bytes_read();
            }
        }
        job.progress.advance(list.bytes - told);
    }
    if !some.is_empty() {
        examine_chunk(job, &examiner, part, chunk, &some)?;
        chunk += 1;
    }
    put_json(&mark, &chunk)
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
    put_file(&job.file(&dropped_name(part, chunk)), |file| {
        for ((_, placed), examined) in some.iter().zip(&examined) {
            if let Some(dropped) = examined.dropped(&placed.sample) {
                serde_json::to_writer(&mut *file, &dropped)?;
                std::io::Write::write_all(file, b"\n")?;
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
    write_chunk(&job.file(&rows_name(part, chunk)), &job.fingerprint, &rows)
}

pub(super) fn rows_name(part: Part, chunk: u32) -> String {
    format!("examine/{:05}-of-{:05}.{chunk:06}.rows", part.index(), part.of())
}

pub(super) fn dropped_name(part: Part, chunk: u32) -> String {
    format!("examine/{:05}-of-{:05}.{chunk:06}.dropped", part.index(), part.of())
}

pub(super) fn mark_name(part: Part) -> String {
    format!("examine/{:05}-of-{:05}.done", part.index(), part.of())
}
