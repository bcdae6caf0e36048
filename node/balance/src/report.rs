//! What balancing did: how well concepts are covered before and after, source by source, and as a page.

mod chart;
mod page;
mod settings;

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};
use talkoot_dataset::{Sample, SampleId};
use talkoot_protocol::digest::Digest;

use crate::{
    concepts::Concepts,
    coverage::{Coverage, by_frequency, by_rank, covered_by_chance},
    run::{BalanceError, BalanceOptions},
    search::Tag,
};

/// Concepts that are named in a table.
const NAMED: usize = 20;
/// Sources that are told apart; what comes after them is counted together.
const MAX_SOURCES: usize = 1 << 16;
/// What these are called.
const OTHERS: &str = "(others)";

/// What balancing did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BalanceReport {
    /// Samples in the lists.
    pub samples: u64,
    /// Samples in the list that came of them; one that was drawn twice counts twice.
    pub drawn: u64,
    /// Different samples in it.
    pub distinct: u64,
    /// Samples that were left out.
    pub left_out: u64,
    /// Samples that are like no concept.
    pub without_concept: u64,
    /// Those of them that were left out.
    pub without_concept_left_out: u64,
    /// Concepts in the list.
    pub concepts: u64,
    /// How well all samples cover them.
    pub before: Coverage,
    /// How well what was drawn covers them.
    pub after: Coverage,
    /// Concepts that as many samples, drawn by chance alone, are expected to cover.
    pub covered_by_chance: f64,
    /// Concepts by how many samples have them: none, 1, 2 to 3, 4 to 7 and so on.
    pub frequencies: BeforeAfter,
    /// Samples of the most frequent concept, of the 2nd, the 4th, the 8th and so on.
    pub ranks: BeforeAfter,
    /// The most frequent concepts.
    pub most_frequent: Vec<ConceptCount>,
    /// What was drawn of each source, by name.
    pub sources: Vec<SourceCount>,
    /// Digest of the ids of all samples, in the order of the lists.
    pub samples_digest: Digest,
    /// Digest of the ids of what was drawn, in order.
    pub drawn_digest: Digest,
    /// Digest of all samples' concepts with their scores.
    pub concepts_found_digest: Digest,
    /// Name of the list of what was drawn.
    pub list: String,
    /// Name of the file with the lines for what was left out.
    pub rejects: String,
    /// Name of the file that goes into a manifest.
    pub settings: String,
    /// Name of the page with tables and plots.
    pub page: String,
    /// Where these files are.
    #[serde(skip)]
    pub folder: PathBuf,
}

/// The same numbers of all samples and of what was drawn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeforeAfter {
    /// Of all samples.
    pub before: Vec<u64>,
    /// Of what was drawn.
    pub after: Vec<u64>,
}

/// How many samples have a concept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConceptCount {
    /// The concept.
    pub concept: String,
    /// Of all samples.
    pub before: u64,
    /// Of what was drawn.
    pub after: u64,
}

/// What was drawn of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceCount {
    /// Its name.
    pub source: String,
    /// Its samples in the lists.
    pub samples: u64,
    /// Its samples in what was drawn.
    pub drawn: u64,
}

/// Counts while samples go by.
#[derive(Debug)]
pub(crate) struct Tally {
    samples: u64,
    drawn: u64,
    distinct: u64,
    without_concept: u64,
    without_concept_left_out: u64,
    after: Vec<u64>,
    sources: BTreeMap<String, (u64, u64)>,
    all_ids: blake3::Hasher,
    drawn_ids: blake3::Hasher,
    found: blake3::Hasher,
}

impl Tally {
    pub(crate) fn new(concepts: usize) -> Self {
        let hasher = || blake3::Hasher::new_derive_key("talkoot balance ids v1");
        Self {
            samples: 0,
            drawn: 0,
            distinct: 0,
            without_concept: 0,
            without_concept_left_out: 0,
            after: vec![0; concepts],
            sources: BTreeMap::new(),
            all_ids: hasher(),
            drawn_ids: hasher(),
            found: blake3::Hasher::new_derive_key("talkoot balance concepts found v1"),
        }
    }

    /// Counts a sample with its concepts, which is drawn so many times.
    pub(crate) fn sample(&mut self, sample: &Sample, tags: &[Tag], copies: u32) {
        let id: SampleId = sample.id;
        self.samples += 1;
        self.drawn += u64::from(copies);
        self.distinct += u64::from(copies > 0);
        self.all_ids.update(id.as_bytes());
        for _ in 0..copies {
            self.drawn_ids.update(id.as_bytes());
        }
        let without = !tags.first().is_some_and(Tag::is_some);
        self.without_concept += u64::from(without);
        self.without_concept_left_out += u64::from(without && copies == 0);
        for tag in tags {
            self.found.update(&tag.concept.to_le_bytes());
            self.found.update(&tag.score.to_le_bytes());
            if tag.is_some() {
                self.after[tag.concept as usize] += u64::from(copies);
            }
        }
        let source = sample.origin.source.as_str();
        let full = self.sources.len() >= MAX_SOURCES && !self.sources.contains_key(source);
        let counts = match self.sources.get_mut(source) {
            Some(counts) => counts,
            None => self.sources.entry(if full { OTHERS } else { source }.to_owned()).or_default(),
        };
        *counts = (counts.0 + 1, counts.1 + u64::from(copies));
    }

    /// The report, when all samples that were mapped have gone by.
    pub(crate) fn report(
        self,
        options: &BalanceOptions,
        concepts: &Concepts,
        before: &[u64],
        mapped: u64,
    ) -> Result<BalanceReport, BalanceError> {
        let Self { samples, drawn, distinct, .. } = self;
        let left_out = samples - distinct;
        if samples != mapped {
            return Err(BalanceError::Miscounted { samples: mapped, drawn: distinct, left_out });
        }
        let digest = |hasher: blake3::Hasher| Digest::from_bytes(*hasher.finalize().as_bytes());
        let source = |(source, (samples, drawn))| SourceCount { source, samples, drawn };
        let file = |end: &str| format!("{}.{end}", options.name);
        Ok(BalanceReport {
            samples,
            drawn,
            distinct,
            left_out,
            without_concept: self.without_concept,
            without_concept_left_out: self.without_concept_left_out,
            concepts: concepts.len() as u64,
            before: Coverage::of(before),
            after: Coverage::of(&self.after),
            covered_by_chance: covered_by_chance(before, drawn as f64 / samples.max(1) as f64),
            frequencies: BeforeAfter { before: by_frequency(before), after: by_frequency(&self.after) },
            ranks: BeforeAfter { before: by_rank(before), after: by_rank(&self.after) },
            most_frequent: most_frequent(concepts, before, &self.after),
            sources: self.sources.into_iter().map(source).collect(),
            samples_digest: digest(self.all_ids),
            drawn_digest: digest(self.drawn_ids),
            concepts_found_digest: digest(self.found),
            list: file("samples.jsonl"),
            rejects: file("rejects.jsonl"),
            settings: file("settings.toml"),
            page: file("report.html"),
            folder: options.out.clone(),
        })
    }
}

fn most_frequent(concepts: &Concepts, before: &[u64], after: &[u64]) -> Vec<ConceptCount> {
    let mut numbers: Vec<usize> = (0..before.len()).filter(|&number| before[number] > 0).collect();
    numbers.sort_unstable_by_key(|&number| (std::cmp::Reverse(before[number]), number));
    let count = |number: usize| ConceptCount {
        concept: concepts.names()[number].clone(),
        before: before[number],
        after: after[number],
    };
    numbers.into_iter().take(NAMED).map(count).collect()
}

impl BalanceReport {
    /// Where the file `name` of the report is.
    pub fn path_of(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A page with tables and plots, in one file that loads nothing.
    ///
    /// # Errors
    ///
    /// [`BalanceError::Plot`] when the plots cannot be drawn.
    pub fn html(&self) -> Result<String, BalanceError> {
        page::page(self)
    }
}
