//! Exact search: the concepts that a sample is most like.
//!
//! ```text
//! for some samples (a thread each):  for each block of concepts:  dot products (fixed order)  ->  the best K so far
//! ```
//!
//! Nothing is left out by a guess: every sample is compared with every concept. A score is one chain of fused
//! multiply-adds in f32, equal scores are ordered by the concept's number, so the same rows have the same concepts on
//! every machine, with any number of threads, in any company.

mod best;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use talkoot_trainer::cpu::{Cpu, PackedRows};

use self::best::Best;
use crate::embedding::{EmbeddingError, EmbeddingFile, Flaw, add_rows, make_unit, take_off};

/// Most concepts that a sample may have.
pub const MAX_TAGS: usize = 64;
/// Concepts of a block: their scores for a group of samples stay in the second cache.
const BLOCK_CONCEPTS: usize = 1_024;
/// Samples that a thread compares at a time, at most: whole tiles of every kernel.
const GROUP_SAMPLES: usize = 336;
/// The same at least, when there are few samples for many threads.
const LEAST_GROUP_SAMPLES: usize = 84;

/// A concept of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Tag {
    /// Number of the concept.
    pub concept: u32,
    /// How like it the sample is: the cosine of their embeddings, or what matching texts says.
    pub score: f32,
}

impl Tag {
    /// No concept: what fills the places of a sample that has fewer.
    pub const NONE: Self = Self { concept: u32::MAX, score: 0.0 };

    /// Whether there is a concept.
    pub const fn is_some(&self) -> bool {
        self.concept != u32::MAX
    }
}

/// How many concepts a sample gets, and how like it they must be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    /// Most concepts of a sample, 1 to [`MAX_TAGS`].
    pub most: usize,
    /// Least score.
    pub least_score: f32,
}

/// Concepts, ready to be compared with.
#[derive(Debug)]
pub struct Search {
    cpu: Cpu,
    width: usize,
    blocks: Vec<PackedRows>,
}

impl Search {
    /// Reads the concepts' embeddings; with `center` the mean of all is taken off each.
    ///
    /// # Errors
    ///
    /// [`EmbeddingError`], also when a concept's row has no direction.
    pub fn open(cpu: Cpu, file: &mut EmbeddingFile, center: bool) -> Result<Self, EmbeddingError> {
        let mean = if center { Some(mean_of_all(file)?) } else { None };
        let (rows, width) = (file.rows(), file.width());
        let mut blocks = Vec::new();
        for first in (0..rows).step_by(BLOCK_CONCEPTS) {
            let block = unit_rows(file, first, BLOCK_CONCEPTS.min((rows - first) as usize), mean.as_deref())?;
            blocks.push(cpu.pack_rows(&block, width));
        }
        Ok(Self { cpu, width, blocks })
    }

    /// Takes `rows [n, width]`, each of length one, as the concepts.
    pub fn new(cpu: Cpu, rows: &[f32], width: usize) -> Self {
        let blocks = rows.chunks(BLOCK_CONCEPTS * width).map(|block| cpu.pack_rows(block, width)).collect();
        Self { cpu, width, blocks }
    }

    /// Numbers of a row.
    pub const fn width(&self) -> usize {
        self.width
    }

    /// The best concepts of each sample of `rows [n, width]`, each row of length one: `[n, rules.most]`, the best first,
    /// filled up with [`Tag::NONE`].
    ///
    /// # Panics
    ///
    /// When `rows` is no whole number of rows.
    pub fn best(&self, rows: &[f32], rules: Rules) -> Vec<Tag> {
        let samples = rows.len() / self.width;
        assert_eq!(samples * self.width, rows.len(), "whole rows");
        let mut tags = vec![Tag::NONE; samples * rules.most];
        let share = samples.div_ceil(2 * rayon::current_num_threads());
        let group = share.next_multiple_of(LEAST_GROUP_SAMPLES).clamp(LEAST_GROUP_SAMPLES, GROUP_SAMPLES);
        let groups = rows.par_chunks(group * self.width).zip(tags.par_chunks_mut(group * rules.most));
        groups.for_each_init(Vec::new, |scores, (rows, tags)| self.best_of_group(rows, tags, rules, scores));
        tags
    }

    fn best_of_group(&self, rows: &[f32], tags: &mut [Tag], rules: Rules, scores: &mut Vec<f32>) {
        let samples = rows.len() / self.width;
        let mut bests: Vec<Best<'_>> =
            tags.chunks_exact_mut(rules.most).map(|tags| Best::new(tags, rules.least_score)).collect();
        let mut first = 0;
        for block in &self.blocks {
            let concepts = block.rows();
            scores.resize(samples * concepts, 0.0);
            self.cpu.dots(rows, block, scores);
            for (best, scores) in bests.iter_mut().zip(scores.chunks_exact(concepts)) {
                best.offer_all(first, scores);
            }
            first += concepts as u32;
        }
    }
}

/// `count` rows from `first` on, each of length one, after `mean` was taken off.
pub(crate) fn unit_rows(
    file: &mut EmbeddingFile,
    first: u64,
    count: usize,
    mean: Option<&[f64]>,
) -> Result<Vec<f32>, EmbeddingError> {
    let width = file.width();
    let mut rows = Vec::with_capacity(count * width);
    file.read(first, count, &mut rows)?;
    directions(&mut rows, width, mean).map_err(|(row, flaw)| file.flawed(first + row as u64, flaw))?;
    Ok(rows)
}

/// Makes rows what is compared: of length one, after `mean` was taken off.
pub(crate) fn directions(rows: &mut [f32], width: usize, mean: Option<&[f64]>) -> Result<(), (usize, Flaw)> {
    make_unit(rows, width)?;
    mean.map_or(Ok(()), |mean| take_off(mean, rows))
}

/// The mean of all rows, each of length one.
fn mean_of_all(file: &mut EmbeddingFile) -> Result<Vec<f64>, EmbeddingError> {
    let mut sums = vec![0.0; file.width()];
    for first in (0..file.rows()).step_by(BLOCK_CONCEPTS) {
        let count = BLOCK_CONCEPTS.min((file.rows() - first) as usize);
        add_rows(&unit_rows(file, first, count, None)?, &mut sums);
    }
    let count = file.rows() as f64;
    sums.iter_mut().for_each(|sum| *sum /= count);
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use talkoot_trainer::cpu::{Isa, Level, Products};

    use super::*;

    /// Unit rows; some of them equal, so that there are ties.
    fn rows(count: usize, width: usize, seed: u64) -> Vec<f32> {
        let mut state = seed | 1;
        let mut rows = Vec::with_capacity(count * width);
        for row in 0..count {
            if row % 7 == 6 {
                rows.extend_from_within((row - 5) * width..(row - 4) * width);
                continue;
            }
            for _ in 0..width {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                rows.push((state >> 40) as f32 / (1 << 23) as f32 - 1.0);
            }
        }
        make_unit(&mut rows, width).unwrap();
        rows
    }

    fn dot(a: &[f32], b: &[f32]) -> f64 {
        a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn the_best_are_those_of_a_plain_ranking_up_to_ties(
            samples in 1usize..20,
            concepts in 1usize..60,
            width in 1usize..70,
            most in 1usize..20,
            seed: u64,
        ) {
            let (x, table) = (rows(samples, width, seed), rows(concepts, width, !seed));
            let found = Search::new(Cpu::default(), &table, width).best(&x, Rules { most, least_score: -2.0 });
            for (sample, tags) in x.chunks(width).zip(found.chunks(most)) {
                let exact: Vec<f64> = table.chunks(width).map(|concept| dot(sample, concept)).collect();
                let mut ranked = exact.clone();
                ranked.sort_by(|a, b| b.total_cmp(a));
                for (place, tag) in tags.iter().enumerate() {
                    let Some(&wanted) = ranked.get(place) else {
                        prop_assert!(!tag.is_some());
                        continue;
                    };
                    prop_assert!((exact[tag.concept as usize] - wanted).abs() < 1e-5);
                    prop_assert!((f64::from(tag.score) - wanted).abs() < 1e-5);
                }
                let ordered = |pair: &[Tag]| {
                    !pair[1].is_some()
                        || pair[0].score > pair[1].score
                        || pair[0].score == pair[1].score && pair[0].concept < pair[1].concept
                };
                prop_assert!(tags.windows(2).all(ordered), "{tags:?}");
            }
        }
    }

    #[test]
    fn bits_are_the_same_with_any_instructions_and_any_company() {
        let (width, most) = (96, 5);
        let (x, table) = (rows(700, width, 3), rows(2_500, width, 4));
        let rules = Rules { most, least_score: 0.05 };
        let wanted = Search::new(Cpu::default(), &table, width).best(&x, rules);
        for isa in Level::ALL.into_iter().filter_map(Isa::new) {
            let search = Search::new(Cpu::new(isa, Products::FixedOrder), &table, width);
            assert_eq!(search.best(&x, rules), wanted, "{isa:?}");
            let (head, tail) = x.split_at(301 * width);
            assert_eq!([search.best(head, rules), search.best(tail, rules)].concat(), wanted);
            for threads in [1, 3] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                assert_eq!(pool.install(|| search.best(&x, rules)), wanted, "{threads} threads");
            }
        }
        assert!(wanted.iter().all(|tag| !tag.is_some() || tag.score >= 0.05));
    }
}
