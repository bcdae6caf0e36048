//! Embedding the samples of a part, chunk by chunk, so that a kill costs a chunk at most.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, BufReader, Read, Write},
    path::{Path, PathBuf},
};

use rayon::prelude::*;
use talkoot_dataset::{
    Progress, Reject, SampleId,
    progress::Unit,
    sample::Placed,
    work::{ChunkFormat, List, Part, Parts, WorkFolder, each_chunk, fingerprint, put_file, read_error},
};
use talkoot_protocol::digest::Digest;

use super::{EmbedError, EmbedOptions, EmbedReport, senses::Senses};
use crate::embedding::EmbeddingWriter;

/// Samples of a chunk.
const CHUNK_SAMPLES: usize = 512;
/// Rows that are copied at a time.
const ROWS_AT_A_TIME: u64 = 256;

/// Numbers of the head: samples that the chunk covers, rows. A row is an id (16) and its numbers.
type Chunks = ChunkFormat<2>;

struct Job<'a> {
    senses: &'a Senses<'a>,
    lists: Vec<List>,
    fingerprint: Digest,
    work: WorkFolder,
    part: Part,
    out: PathBuf,
}

pub(super) fn embed(
    options: &EmbedOptions,
    lists: &[PathBuf],
    senses: &Senses<'_>,
    resume: bool,
    progress: &dyn Progress,
) -> Result<EmbedReport, EmbedError> {
    let job = Job::open(options, lists, senses, resume)?;
    job.embed_all(progress)?;
    let report = job.gather(progress)?;
    WorkFolder::discard(job.work.path())?;
    Ok(report)
}

/// Everything but the last step.
#[cfg(test)]
pub(super) fn embed_only(
    options: &EmbedOptions,
    lists: &[PathBuf],
    senses: &Senses<'_>,
) -> Result<(), EmbedError> {
    Job::open(options, lists, senses, false)?.embed_all(&())
}

impl<'a> Job<'a> {
    fn open(
        options: &EmbedOptions,
        lists: &[PathBuf],
        senses: &'a Senses<'a>,
        resume: bool,
    ) -> Result<Self, EmbedError> {
        let lists = lists.iter().map(|path| List::open(path.clone())).collect::<Result<Vec<_>, _>>()?;
        let (out, part) = (options.file(), options.part);
        let settings = serde_json::json!([options.max_pixels, part.to_string(), senses.digest()]).to_string();
        let fingerprint = fingerprint("talkoot embed job v1", settings.as_bytes(), &lists)?;
        let folder = beside(&out, ".work");
        if !resume {
            WorkFolder::discard(&folder)?;
        }
        let work = WorkFolder::open(folder, &["rows"])?;
        work.claim(&fingerprint)?;
        Ok(Self { senses, lists, fingerprint, work, part, out })
    }

    fn parts(&self) -> Parts<'_> {
        Parts::new(&self.work, "rows", "embedding")
    }

    fn format(&self) -> Chunks {
        ChunkFormat { magic: *b"TKEMBED\x01", row_bytes: 16 + 4 * self.senses.width() as u64 }
    }

    fn embed_all(&self, progress: &dyn Progress) -> Result<(), EmbedError> {
        let (parts, part) = (self.parts(), self.part);
        if parts.is_done(part) {
            return Ok(());
        }
        let (mut number, mut skip) = (0, 0);
        while parts.chunk(part, number, "rows").exists() {
            let (_, [seen, _]) = self.format().open(&parts.chunk(part, number, "rows"), &self.fingerprint)?;
            skip += seen;
            number += 1;
        }
        progress.begin("embedding", self.lists.iter().map(|list| list.bytes).sum(), Unit::Bytes);
        each_chunk(&self.lists, part, skip, CHUNK_SAMPLES, progress, |some| {
            self.embed_chunk(number, some)?;
            number += 1;
            Ok::<_, EmbedError>(())
        })?;
        Ok(parts.mark_done(part, number)?)
    }

    /// Lines of what has no row first: the rows say that both are there.
    fn embed_chunk(&self, number: u32, some: &[(usize, Placed)]) -> Result<(), EmbedError> {
        let seen: Vec<_> = some
            .par_iter()
            .map(|(list, placed)| self.senses.sample(&placed.sample, &self.lists[*list].roots))
            .collect();
        let (mut ids, mut prepared, mut rejects) = (Vec::new(), Vec::new(), Vec::new());
        for ((_, placed), seen) in some.iter().zip(seen) {
            match seen {
                Ok(sample) => {
                    ids.push(placed.sample.id);
                    prepared.push(sample);
                }
                Err((kind, reason)) => rejects.push(Reject::new(placed.sample.origin.clone(), kind, reason)),
            }
        }
        let rows = self.senses.rows(&prepared)?;
        let (parts, width) = (self.parts(), self.senses.width());
        put_file(&parts.chunk(self.part, number, "rejects"), |file| {
            for reject in &rejects {
                serde_json::to_writer(&mut *file, reject)?;
                file.write_all(b"\n")?;
            }
            Ok(())
        })?;
        put_file(&parts.chunk(self.part, number, "rows"), |file| {
            self.format().write_head(file, &self.fingerprint, [some.len() as u64, ids.len() as u64])?;
            for (id, row) in ids.iter().zip(rows.chunks_exact(width)) {
                file.write_all(id.as_bytes())?;
                row.iter().try_for_each(|value| file.write_all(&value.to_le_bytes()))?;
            }
            Ok(())
        })?;
        Ok(())
    }

    /// One file of all chunks.
    fn gather(&self, progress: &dyn Progress) -> Result<EmbedReport, EmbedError> {
        let parts = self.parts();
        let numbers = 0..parts.chunks(self.part)?;
        let paths: Vec<PathBuf> =
            numbers.clone().map(|number| parts.chunk(self.part, number, "rows")).collect();
        let (mut entries, mut rows) = (0, 0);
        for path in &paths {
            let (_, [seen, there]) = self.format().open(path, &self.fingerprint)?;
            (entries, rows) = (entries + seen, rows + there);
        }
        progress.begin("gathering", rows, Unit::Entries);
        let rejected = entries - rows;
        let rejects = (rejected > 0).then(|| beside(&self.out, ".rejects.jsonl"));
        if let Some(path) = &rejects {
            self.work.publish(path, |file| {
                for number in numbers {
                    let mut chunk = File::open(parts.chunk(self.part, number, "rejects"))?;
                    io::copy(&mut chunk, file)?;
                }
                Ok(())
            })?;
        }
        let mut writer = EmbeddingWriter::create(&self.out, rows, self.senses.width(), true)?;
        for path in &paths {
            self.copy(path, &mut writer, progress)?;
        }
        writer.finish()?;
        let (out, width) = (self.out.clone(), self.senses.width());
        Ok(EmbedReport { entries, rows, width, rejected, out, rejects })
    }

    fn copy(
        &self,
        path: &Path,
        writer: &mut EmbeddingWriter,
        progress: &dyn Progress,
    ) -> Result<(), EmbedError> {
        let (file, [_, rows]) = self.format().open(path, &self.fingerprint)?;
        let mut file = BufReader::with_capacity(1 << 18, file);
        let mut row = vec![0; 16 + 4 * self.senses.width()];
        for first in (0..rows).step_by(ROWS_AT_A_TIME as usize) {
            let (mut ids, mut numbers) = (Vec::new(), Vec::new());
            for _ in first..rows.min(first + ROWS_AT_A_TIME) {
                file.read_exact(&mut row).map_err(read_error(path))?;
                let (id, values) = row.split_at(16);
                ids.push(SampleId::from_bytes(std::array::from_fn(|byte| id[byte])));
                numbers.extend(values.as_chunks().0.iter().map(|&word| f32::from_le_bytes(word)));
            }
            writer.write(&numbers, &ids)?;
            progress.advance(ids.len() as u64);
        }
        Ok(())
    }
}

/// The path with something behind its name.
fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(end);
    PathBuf::from(name)
}
