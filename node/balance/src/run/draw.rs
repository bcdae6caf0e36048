//! The draw: which samples are taken, and how often.

use std::collections::{BTreeMap, BTreeSet};

use talkoot_dataset::{progress::Unit, work::read_json};

use super::{
    BalanceError,
    count::Counts,
    job::{Chunk, Job},
    tags::TagRow,
};
use crate::{
    config::{Amount, Config, WithoutConcept},
    draw::{Lot, Lots, Share, shares},
    search::Tag,
    weight::Weights,
};

/// Sources that are named in an error.
const NAMED_SOURCES: usize = 20;
/// Times that all chunks are gone through, usually.
const PASSES: u64 = 3;

/// What decides which samples are taken.
pub(super) struct Drawing<'c> {
    config: &'c Config,
    weights: Weights,
    /// Numbers of the sources that have a quota of their own; the last quota is all others'.
    quotas: BTreeMap<&'c str, usize>,
    shares: Vec<Share>,
}

impl<'c> Drawing<'c> {
    /// Finds how far the draw goes.
    pub(super) fn of(job: &Job<'c>, counts: &Counts) -> Result<Self, BalanceError> {
        if counts.samples == 0 {
            return Err(BalanceError::NoSamples);
        }
        let config = &job.options.config;
        let weights = Weights::new(&counts.of, counts.none, &config.weight);
        let quotas =
            config.source.iter().zip(0..).map(|(rule, number)| (rule.name.as_str(), number)).collect();
        let mut drawing = Self { config, weights, quotas, shares: Vec::new() };
        let amounts: Vec<Amount> =
            config.source.iter().map(|rule| rule.amount()).chain([config.amount()]).collect();
        let chunks = job.chunks()?;
        job.progress.begin("drawing", PASSES * chunks.len() as u64, Unit::Files);
        let mapped = Mapped { job, chunks: &chunks, drawing: &drawing };
        let shares = shares(&mapped, &amounts)?;
        drawing.check(job, &chunks, &amounts, &shares)?;
        drawing.shares = shares;
        Ok(drawing)
    }

    /// Refuses a source that no sample has, and counts that cannot be reached.
    fn check(
        &self,
        job: &Job<'_>,
        chunks: &[Chunk],
        amounts: &[Amount],
        shares: &[Share],
    ) -> Result<(), BalanceError> {
        for (at, (amount, share)) in amounts.iter().zip(shares).enumerate() {
            let rule = self.config.source.get(at);
            if let Some(rule) = rule.filter(|_| share.samples == 0) {
                let (name, known) = (rule.name.clone(), known_sources(job, chunks)?);
                return Err(BalanceError::UnknownSource { name, known });
            }
            if let &Amount::Count(wanted) = amount
                && wanted > share.available
            {
                let of = match rule {
                    Some(rule) => format!("the source {:?} with {} samples", rule.name, share.samples),
                    None if at > 0 => format!("the {} samples of all other sources", share.samples),
                    None => format!("{} samples", share.samples),
                };
                return Err(BalanceError::TooFew { of, wanted, available: share.available });
            }
        }
        Ok(())
    }

    /// The quota that samples of `source` belong to.
    pub(super) fn quota(&self, source: &str) -> usize {
        self.quotas.get(source).copied().unwrap_or(self.quotas.len())
    }

    /// A sample's part in the draw, with what it weighs.
    pub(super) fn lot(&self, row: &TagRow) -> (Lot, f64) {
        let (draw, weight) = (&self.config.draw, self.weights.of(&row.tags));
        let (id, place) = (row.id, row.place.bits());
        let lot = match draw.without_concept {
            WithoutConcept::Drop if !has_concept(&row.tags) => Lot::new(id, place, weight, 0, draw.seed),
            WithoutConcept::Keep if !has_concept(&row.tags) => Lot::kept(id, place, draw.seed),
            _ => Lot::new(id, place, weight, draw.repeats, draw.seed),
        };
        (lot, weight)
    }

    /// How often a sample of a quota is drawn.
    pub(super) fn copies(&self, quota: usize, lot: &Lot) -> u32 {
        lot.drawn(&self.shares[quota].limit)
    }
}

pub(super) fn has_concept(tags: &[Tag]) -> bool {
    tags.first().is_some_and(Tag::is_some)
}

fn known_sources(job: &Job<'_>, chunks: &[Chunk]) -> Result<String, BalanceError> {
    let mut known = BTreeSet::new();
    for chunk in chunks {
        known.extend(read_json::<Vec<String>>(&chunk.sources)?);
        if known.len() > NAMED_SOURCES {
            break;
        }
        job.progress.advance(1);
    }
    let named: Vec<String> = known.iter().take(NAMED_SOURCES).map(|name| format!("{name:?}")).collect();
    Ok(named.join(", "))
}

/// All mapped samples.
struct Mapped<'m> {
    job: &'m Job<'m>,
    chunks: &'m [Chunk],
    drawing: &'m Drawing<'m>,
}

impl Lots for Mapped<'_> {
    type Error = BalanceError;

    fn pieces(&self) -> usize {
        self.chunks.len()
    }

    fn each(&self, piece: usize, take: &mut dyn FnMut(usize, &Lot)) -> Result<(), BalanceError> {
        let chunk = &self.chunks[piece];
        let sources: Vec<String> = read_json(&chunk.sources)?;
        let quotas: Vec<usize> = sources.iter().map(|source| self.drawing.quota(source)).collect();
        let mut rows = self.job.tags.read(&chunk.tags, 0)?;
        while let Some(row) = rows.next()? {
            let quota = quotas.get(row.source as usize).copied().unwrap_or(self.drawing.quotas.len());
            take(quota, &self.drawing.lot(&row).0);
        }
        self.job.progress.advance(1);
        Ok(())
    }
}
