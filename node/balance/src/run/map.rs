//! The map: the concepts of every sample of a part, chunk by chunk.

use std::collections::HashMap;

use rayon::prelude::*;
use talkoot_dataset::{
    progress::Unit,
    sample::Placed,
    work::{Part, Place, each_chunk, put_json},
};
use talkoot_trainer::cpu::Cpu;

use super::{
    BalanceError, Matching,
    align::{RowPlace, RowPlaces, align},
    job::{Job, SOURCES, TAGS},
    tags::TagRow,
};
use crate::{
    embedding::{EmbeddingFile, add_rows},
    search::{Search, Tag, unit_rows},
    words::Phrases,
};

/// Samples of a chunk: what is compared again after a kill, at most.
const CHUNK_SAMPLES: usize = 4_096;
/// Bytes of rows that are in memory at a time, about.
const ROW_BYTES: usize = 64 << 20;
/// Samples that the mean of all is taken of, evenly from all rows.
const MEAN_SAMPLES: u64 = 4_096;

/// Finds the concepts of a part's samples; what an earlier try has found is left as it is.
pub(super) fn map(job: &Job<'_>, part: Part) -> Result<(), BalanceError> {
    let parts = job.parts();
    if parts.is_done(part) {
        return Ok(());
    }
    let (mut number, mut skip) = (0, 0);
    while parts.chunk(part, number, TAGS).exists() {
        skip += job.tags.rows(&parts.chunk(part, number, TAGS))?;
        number += 1;
    }
    let mut tagger = Tagger::open(job, part, skip)?;
    job.progress.begin("mapping", job.list_bytes(), Unit::Bytes);
    each_chunk(&job.lists, part, skip, CHUNK_SAMPLES, job.progress, |some| {
        let tags = tagger.tags(job, some)?;
        let (rows, sources) = rows(job, some, &tags)?;
        // The tags last: they say that both are there.
        put_json(&parts.chunk(part, number, SOURCES), &sources)?;
        job.tags.write(&parts.chunk(part, number, TAGS), rows.iter())?;
        number += 1;
        Ok::<_, BalanceError>(())
    })?;
    Ok(parts.mark_done(part, number)?)
}

/// Rows for samples with their tags, and the names of their sources.
fn rows<'s>(
    job: &Job<'_>,
    some: &'s [(usize, Placed)],
    tags: &[Tag],
) -> Result<(Vec<TagRow>, Vec<&'s str>), BalanceError> {
    let (mut rows, mut sources, mut numbers) = (Vec::with_capacity(some.len()), Vec::new(), HashMap::new());
    for ((list, placed), tags) in some.iter().zip(tags.chunks_exact(job.tags.most)) {
        let long = || BalanceError::LongList { list: job.lists[*list].path.clone() };
        let place = Place::new(*list, placed.offset).ok_or_else(long)?;
        let name = placed.sample.origin.source.as_str();
        let source = *numbers.entry(name).or_insert_with(|| {
            sources.push(name);
            sources.len() as u32 - 1
        });
        rows.push(TagRow { place, id: placed.sample.id, source, tags: tags.to_vec() });
    }
    Ok((rows, sources))
}

/// Whatever tells the concepts of samples.
enum Tagger {
    Words(Phrases),
    Rows(Box<RowTagger>),
}

/// Tells them by embeddings.
struct RowTagger {
    search: Search,
    files: Vec<EmbeddingFile>,
    places: RowPlaces,
    mean: Option<Vec<f64>>,
}

impl Tagger {
    fn open(job: &Job<'_>, part: Part, skip: u64) -> Result<Self, BalanceError> {
        let Matching::Embeddings { samples, concepts } = &job.options.matching else {
            return Ok(Self::Words(Phrases::new(&job.concepts)));
        };
        let mut files =
            samples.iter().map(|path| EmbeddingFile::open(path)).collect::<Result<Vec<_>, _>>()?;
        let mut concepts = EmbeddingFile::open(concepts)?;
        if concepts.rows() != job.concepts.len() as u64 {
            let (path, rows) = (concepts.path().to_path_buf(), concepts.rows());
            return Err(BalanceError::ConceptRows { path, rows, concepts: job.concepts.len() });
        }
        if let Some(file) = files.iter().find(|file| file.width() != concepts.width()) {
            return Err(BalanceError::Width {
                path: file.path().to_path_buf(),
                got: file.width(),
                other: concepts.path().to_path_buf(),
                expected: concepts.width(),
            });
        }
        let path = job.parts().chunk(part, 0, "rows");
        align(job, &mut files, part, &path)?;
        let places = RowPlaces::open(job, &path, skip)?;
        let center = job.options.config.concepts.center;
        let mean = if center { Some(mean_of(&mut files)?) } else { None };
        let search = Search::open(Cpu::default(), &mut concepts, center)?;
        Ok(Self::Rows(Box::new(RowTagger { search, files, places, mean })))
    }

    /// The tags of some samples, as many places for each as there may be concepts.
    fn tags(&mut self, job: &Job<'_>, some: &[(usize, Placed)]) -> Result<Vec<Tag>, BalanceError> {
        match self {
            Self::Words(phrases) => {
                let mut tags = vec![Tag::NONE; some.len() * job.tags.most];
                let rules = job.rules();
                tags.par_chunks_exact_mut(job.tags.most)
                    .zip(some)
                    .for_each(|(tags, (_, placed))| phrases.find(&placed.sample, rules, tags));
                Ok(tags)
            }
            Self::Rows(rows) => rows.tags(job, some.len()),
        }
    }
}

impl RowTagger {
    fn tags(&mut self, job: &Job<'_>, samples: usize) -> Result<Vec<Tag>, BalanceError> {
        let (width, most) = (self.search.width(), job.tags.most);
        let at_a_time = (ROW_BYTES / (4 * width)).max(1);
        let mut tags = Vec::with_capacity(samples * most);
        for places in self.places.next(samples)?.chunks(at_a_time) {
            let mut rows = Vec::with_capacity(places.len() * width);
            for run in places.chunk_by(|a, b| follows(*a, *b)) {
                if let Some((file, first)) = run[0].get() {
                    let file = &mut self.files[file];
                    rows.extend(unit_rows(file, first, run.len(), self.mean.as_deref())?);
                }
            }
            let best = self.search.best(&rows, job.rules());
            let mut found = best.chunks_exact(most);
            for place in places {
                match place.get().and_then(|_| found.next()) {
                    Some(some) => tags.extend_from_slice(some),
                    None => tags.extend(std::iter::repeat_n(Tag::NONE, most)),
                }
            }
        }
        Ok(tags)
    }
}

/// Whether two rows lie beside each other.
fn follows(a: RowPlace, b: RowPlace) -> bool {
    a.get().zip(b.get()).is_some_and(|((file, row), next)| next == (file, row + 1))
}

/// The mean of some samples' rows, each of length one: an even share of all rows of all files. It is the same for every
/// part.
fn mean_of(files: &mut [EmbeddingFile]) -> Result<Vec<f64>, BalanceError> {
    let all: u64 = files.iter().map(EmbeddingFile::rows).sum();
    let count = all.min(MEAN_SAMPLES);
    let mut sums = vec![0.0; files.first().map_or(1, EmbeddingFile::width)];
    for number in 0..count {
        let mut row = (u128::from(number) * u128::from(all) / u128::from(count)) as u64;
        for file in &mut *files {
            if row < file.rows() {
                add_rows(&unit_rows(file, row, 1, None)?, &mut sums);
                break;
            }
            row -= file.rows();
        }
    }
    sums.iter_mut().for_each(|sum| *sum /= count.max(1) as f64);
    Ok(sums)
}
