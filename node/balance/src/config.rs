//! What is drawn: one TOML, of which every line may be left out.

mod error;

use std::path::Path;

use serde::{Deserialize, Serialize};
use talkoot_dataset::sample::MAX_NAME_BYTES;

pub use self::error::ConfigError;
use crate::{search::MAX_TAGS, weight::Power};

/// The defaults with an explanation of each, as TOML.
pub const DEFAULT_TOML: &str = include_str!("default.toml");

/// Longest configuration, in bytes.
pub const MAX_CONFIG_BYTES: usize = 1 << 20;
/// Most times that a sample may be drawn.
pub const MAX_REPEATS: u32 = 64;
/// Most sources with a number of their own.
pub const MAX_SOURCES: usize = 255;
/// The share that is drawn when nothing is said.
pub const DEFAULT_SHARE: f64 = 0.5;

/// What is drawn. [`DEFAULT_TOML`] explains every key.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How samples get their concepts.
    pub concepts: ConceptRules,
    /// How concepts make weights.
    pub weight: WeightRules,
    /// How weights make a draw.
    pub draw: DrawRules,
    /// Sources with a number of their own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub source: Vec<SourceRule>,
}

/// How samples get their concepts. Changing these means looking at all samples again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConceptRules {
    /// Most concepts of a sample.
    pub per_sample: u32,
    /// Least similarity.
    pub least_similarity: f32,
    /// Whether means are taken off.
    pub center: bool,
    /// What a sample without a row is.
    pub without_embedding: WithoutEmbedding,
}

/// What happens to a sample that has no row in the embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WithoutEmbedding {
    /// The work stops and says which sample it is.
    Refuse,
    /// It is taken as one that is like no concept.
    NoConcept,
}

/// How concepts make weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WeightRules {
    /// Power of the frequency that a concept's weight is the inverse of.
    pub power: f64,
    /// Rarer concepts weigh as if so many samples had them.
    pub least_frequency: u64,
    /// What a sample weighs.
    pub combine: Combine,
}

/// How the weights of a sample's concepts make its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Combine {
    /// Their mean.
    Mean,
    /// Their sum.
    Sum,
    /// The largest.
    Rarest,
}

/// How weights make a draw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DrawRules {
    /// How many to draw.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// How many to draw, as a share of all samples.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// Most times that a sample may be drawn.
    pub repeats: u32,
    /// What happens to samples that are like no concept.
    pub without_concept: WithoutConcept,
    /// Draws others.
    pub seed: u64,
}

/// What happens to samples that are like no concept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WithoutConcept {
    /// Having none counts as one more concept.
    OneConcept,
    /// They are left out.
    Drop,
    /// Each is drawn once, before all others.
    Keep,
}

/// A source that gets a number of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceRule {
    /// Its name in the samples.
    pub name: String,
    /// How many to draw of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// How many to draw, as a share of its samples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
}

/// How many to draw.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Amount {
    /// So many.
    Count(u64),
    /// A share of the samples that there are.
    Share(f64),
}

impl Amount {
    /// How many these are of `samples`.
    pub fn of(self, samples: u64) -> u64 {
        match self {
            Self::Count(count) => count,
            Self::Share(share) => (share * samples as f64 + 0.5).floor() as u64,
        }
    }
}

impl Default for ConceptRules {
    fn default() -> Self {
        Self {
            per_sample: 10,
            least_similarity: -1.0,
            center: false,
            without_embedding: WithoutEmbedding::Refuse,
        }
    }
}

impl Default for WeightRules {
    fn default() -> Self {
        Self { power: 1.0, least_frequency: 1, combine: Combine::Mean }
    }
}

impl Default for DrawRules {
    fn default() -> Self {
        Self { count: None, share: None, repeats: 1, without_concept: WithoutConcept::OneConcept, seed: 0 }
    }
}

impl Config {
    /// Reads and checks the file `path`.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] naming the line or the key.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let read = |source| ConfigError::Read { path: path.to_path_buf(), source };
        if std::fs::metadata(path).map_err(read)?.len() > MAX_CONFIG_BYTES as u64 {
            return Err(ConfigError::TooLong { limit: MAX_CONFIG_BYTES });
        }
        Self::parse(&std::fs::read_to_string(path).map_err(read)?)
    }

    /// Reads and checks a configuration.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] naming the line or the key.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        if text.len() > MAX_CONFIG_BYTES {
            return Err(ConfigError::TooLong { limit: MAX_CONFIG_BYTES });
        }
        let config: Self =
            toml::from_str(text).map_err(|error| ConfigError::Toml { reason: error.to_string() })?;
        config.check()?;
        Ok(config)
    }

    /// Checks the bounds of every value.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Bounds`] naming the key.
    pub fn check(&self) -> Result<(), ConfigError> {
        let Self { concepts, weight, draw, source } = self;
        within("concepts.per_sample", concepts.per_sample, 1, MAX_TAGS as u32)?;
        within("concepts.least_similarity", concepts.least_similarity, -1.0, 1_000.0)?;
        if Power::new(weight.power).is_none() {
            return bounds("weight.power", weight.power, "0, 0.25, 0.5, 0.75 or 1");
        }
        within("weight.least_frequency", weight.least_frequency, 1, 1 << 48)?;
        within("draw.repeats", draw.repeats, 1, MAX_REPEATS)?;
        // TOML has no larger ones.
        within("draw.seed", draw.seed, 0, i64::MAX as u64)?;
        check_amount("draw", draw.count, draw.share, draw.repeats)?;
        if source.len() > MAX_SOURCES {
            return bounds(
                "source",
                format!("a list of {}", source.len()),
                format!("of at most {MAX_SOURCES}"),
            );
        }
        let mut names = std::collections::BTreeSet::new();
        for rule in source {
            if !(1..=MAX_NAME_BYTES).contains(&rule.name.len()) || !names.insert(&rule.name) {
                let shown: String = rule.name.chars().take(80).collect();
                return bounds("source.name", format!("{shown:?}"), "a name that is there once");
            }
            let key = format!("source {:?}", rule.name);
            check_amount(&key, rule.count, rule.share, draw.repeats)?;
            if rule.count.is_none() && rule.share.is_none() {
                return bounds(&key, "without a count or share", "said how much to draw of");
            }
        }
        Ok(())
    }

    /// How much is drawn of the samples whose source has no number of its own.
    pub fn amount(&self) -> Amount {
        amount(self.draw.count, self.draw.share)
    }
}

impl SourceRule {
    /// How much is drawn of it.
    pub fn amount(&self) -> Amount {
        amount(self.count, self.share)
    }
}

fn amount(count: Option<u64>, share: Option<f64>) -> Amount {
    count.map_or(Amount::Share(share.unwrap_or(DEFAULT_SHARE)), Amount::Count)
}

fn check_amount(key: &str, count: Option<u64>, share: Option<f64>, repeats: u32) -> Result<(), ConfigError> {
    if let (Some(count), Some(share)) = (count, share) {
        return bounds(key, format!("given count = {count} and share = {share}"), "given one of them");
    }
    within(&format!("{key}.count"), count.unwrap_or(1), 1, 1 << 48)?;
    let share = share.unwrap_or(DEFAULT_SHARE);
    if share > 0.0 && share <= f64::from(repeats) {
        return Ok(());
    }
    bounds(&format!("{key}.share"), share, format!("more than 0 and at most draw.repeats, {repeats}"))
}

fn bounds(key: &str, got: impl ToString, must: impl ToString) -> Result<(), ConfigError> {
    Err(ConfigError::Bounds { key: key.to_owned(), got: got.to_string(), must: must.to_string() })
}

/// Also refuses what is no number.
fn within<T: PartialOrd + ToString>(key: &str, got: T, least: T, most: T) -> Result<(), ConfigError> {
    if got >= least && got <= most {
        return Ok(());
    }
    bounds(key, got, format!("from {} to {}", least.to_string(), most.to_string()))
}

#[cfg(test)]
mod tests;
