//! What filtering did: by rule, by measure, and as a page.

mod chart;
mod page;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{
    duplicates::Duplicates,
    histogram::{Bins, Histogram},
    rule::{Dropped, Rule},
    run::{FilterError, FilterOptions},
};

/// Examples of a rule.
const EXAMPLES: usize = 3;

/// What filtering did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FilterReport {
    /// Samples in the lists.
    pub samples: u64,
    /// Those that are kept.
    pub kept: u64,
    /// Those that are dropped.
    pub dropped: u64,
    /// What each rule did, in the order of the rules.
    pub rules: Vec<RuleEffect>,
    /// Clusters of two or more duplicates.
    pub clusters: u64,
    /// Samples of the largest cluster.
    pub largest_cluster: u64,
    /// Pairs that could not be compared, because too many prints were alike.
    pub skipped_pairs: u64,
    /// What samples are like, before and after.
    pub histograms: Vec<Histogram>,
    /// Name of the list of what is kept.
    pub list: String,
    /// Name of the file with the lines for what is dropped.
    pub rejects: String,
    /// Name of the page with table and histograms.
    pub page: String,
    /// Where these files are.
    #[serde(skip)]
    pub folder: PathBuf,
}

/// What a rule did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RuleEffect {
    /// Which rule.
    pub rule: Rule,
    /// Samples that break it.
    pub dropped: u64,
    /// Share of all samples, 0 to 1.
    pub share: f64,
    /// Samples that break no other rule.
    pub only: u64,
    /// Where the first ones stand, and what was measured.
    pub examples: Vec<String>,
}

/// Counts while samples go by.
#[derive(Debug)]
pub(crate) struct Tally {
    samples: u64,
    dropped: u64,
    rules: Vec<RuleEffect>,
    histograms: Vec<Histogram>,
}

impl Default for Tally {
    fn default() -> Self {
        let effect =
            |&rule: &Rule| RuleEffect { rule, dropped: 0, share: 0.0, only: 0, examples: Vec::new() };
        Self {
            samples: 0,
            dropped: 0,
            rules: Rule::ALL.iter().map(effect).collect(),
            histograms: Histogram::all(),
        }
    }
}

impl Tally {
    pub(crate) fn kept(&mut self, bins: &Bins) {
        self.samples += 1;
        Histogram::count(&mut self.histograms, bins, true);
    }

    /// Counts a sample that breaks the rules of `broken`; `line` is what is written for it.
    pub(crate) fn dropped(&mut self, bins: &Bins, broken: u32, line: &[u8]) {
        self.samples += 1;
        self.dropped += 1;
        Histogram::count(&mut self.histograms, bins, false);
        let mut parsed = None;
        for effect in self.rules.iter_mut().filter(|effect| broken & effect.rule.bit() != 0) {
            effect.dropped += 1;
            effect.only += u64::from(broken == effect.rule.bit());
            if effect.examples.len() < EXAMPLES {
                let dropped = parsed.get_or_insert_with(|| serde_json::from_slice::<Dropped>(line).ok());
                effect.examples.extend(dropped.as_ref().and_then(|dropped| example(dropped, effect.rule)));
            }
        }
    }

    pub(crate) fn report(self, options: &FilterOptions, duplicates: &Duplicates, kept: u64) -> FilterReport {
        let (clusters, largest_cluster) = duplicates.clusters();
        let mut rules = self.rules;
        rules.iter_mut().for_each(|effect| effect.share = effect.dropped as f64 / self.samples.max(1) as f64);
        let file = |end: &str| format!("{}.{end}", options.name);
        FilterReport {
            samples: self.samples,
            kept,
            dropped: self.dropped,
            rules,
            clusters,
            largest_cluster,
            skipped_pairs: duplicates.skipped_pairs,
            histograms: self.histograms,
            list: file("samples.jsonl"),
            rejects: file("rejects.jsonl"),
            page: file("report.html"),
            folder: options.out.clone(),
        }
    }
}

fn example(dropped: &Dropped, rule: Rule) -> Option<String> {
    let broken = dropped.broken.iter().find(|broken| broken.rule == rule)?;
    let origin = &dropped.reject.origin;
    Some(format!("record {} of {}: {}", origin.record, origin.file, broken.measured))
}

impl FilterReport {
    /// Checks that no sample was lost or doubled.
    pub(crate) fn check(&self) -> Result<(), FilterError> {
        let &Self { samples, kept, dropped, .. } = self;
        if samples == kept + dropped {
            Ok(())
        } else {
            Err(FilterError::Miscounted { samples, kept, dropped })
        }
    }

    /// Where the file `name` of the report is.
    pub fn path_of(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The effect of the rules as a table for a terminal; rules that dropped nothing are left out.
    pub fn table(&self) -> String {
        use std::fmt::Write as _;
        let mut out = format!(
            "{:<24} {:>10} {:>8} {:>10}  {}\n",
            "rule", "dropped", "share", "only this", "for example"
        );
        for effect in self.rules.iter().filter(|effect| effect.dropped > 0) {
            // Writing to a String cannot fail.
            let _ = writeln!(
                out,
                "{:<24} {:>10} {:>6.2} % {:>10}  {}",
                effect.rule.name(),
                effect.dropped,
                100.0 * effect.share,
                effect.only,
                effect.examples.first().map_or("", String::as_str)
            );
        }
        out
    }

    /// A page with the table and the histograms, in one file that loads nothing.
    ///
    /// # Errors
    ///
    /// [`FilterError::Draw`] when the histograms cannot be drawn.
    pub fn html(&self) -> Result<String, FilterError> {
        page::page(self)
    }
}
