//! What decided the draw, as the text that goes into a manifest.

use serde::Serialize;
use talkoot_protocol::digest::Digest;

use super::BalanceReport;
use crate::{concepts::Concepts, config::Config, run::Matching};

#[derive(Serialize)]
struct Settings<'a> {
    program: &'static str,
    matching: &'static str,
    rules: &'a Config,
    outcome: Outcome,
}

#[derive(Serialize)]
struct Outcome {
    concepts: u64,
    concepts_digest: Digest,
    concepts_found_digest: Digest,
    samples: u64,
    samples_digest: Digest,
    drawn: u64,
    distinct: u64,
    drawn_digest: Digest,
    covered_before: u64,
    covered_by_chance: f64,
    covered_after: u64,
    effective_before: f64,
    effective_after: f64,
}

impl BalanceReport {
    /// The rules and what came of them, as TOML. Who has the same samples, concepts and embeddings can draw again and
    /// compare.
    pub(crate) fn settings(&self, rules: &Config, concepts: &Concepts, matching: &Matching) -> String {
        let settings = Settings {
            program: concat!("talkoot ", env!("CARGO_PKG_VERSION")),
            matching: match matching {
                Matching::Text => "text",
                Matching::Embeddings { .. } => "embeddings",
            },
            rules,
            outcome: Outcome {
                concepts: self.concepts,
                concepts_digest: concepts.digest(),
                concepts_found_digest: self.concepts_found_digest,
                samples: self.samples,
                samples_digest: self.samples_digest,
                drawn: self.drawn,
                distinct: self.distinct,
                drawn_digest: self.drawn_digest,
                covered_before: self.before.covered,
                covered_by_chance: self.covered_by_chance,
                covered_after: self.after.covered,
                effective_before: self.before.effective,
                effective_after: self.after.effective,
            },
        };
        toml::to_string(&settings).expect("tables of numbers and names are TOML")
    }
}
