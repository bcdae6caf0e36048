//! What is wanted: periods with their weights, as TOML.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, Read},
    path::Path,
};

use serde::{Deserialize, Serialize};
use talkoot_dataset::work::{PLAIN_NAME, is_plain_name};
use talkoot_protocol::manifest::MAX_PERIODS;

/// A configuration with three periods and an explanation of each key.
pub const EXAMPLE_TOML: &str = include_str!("example.toml");

/// Longest configuration, in bytes.
pub const MAX_CONFIG_BYTES: u64 = 1 << 20;
/// Most cuts between bands.
pub const MAX_CUTS: usize = 15;
/// Most samples of all periods together: counts are worked out in numbers that are exact up to there and far beyond.
pub const MAX_SAMPLES: u64 = 1 << 48;
/// Greatest weight or share.
pub const MAX_WEIGHT: f64 = 1e6;

/// Periods, and what each of them is mixed of. [`EXAMPLE_TOML`] explains every key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Sets the draw.
    #[serde(default)]
    pub seed: u64,
    /// Samples of all periods together; as many as there are when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<u64>,
    /// Quantiles of the difficulty that bands are cut at: between 0 and 1, ascending.
    #[serde(default)]
    pub cuts: Vec<f64>,
    /// The periods, in order.
    #[serde(rename = "period")]
    pub periods: Vec<Period>,
}

/// A stretch of training with one mixture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Period {
    /// What reports call it.
    pub name: String,
    /// Its part of all samples, in proportion to those of the others.
    pub share: f64,
    /// Weight of each band, easiest first; all 1 when empty.
    pub bands: Vec<f64>,
    /// Weight of samples without difficulty.
    pub unscored: f64,
    /// Weight of each source that is named.
    pub sources: BTreeMap<String, f64>,
    /// Weight of every other source.
    pub other_sources: f64,
}

impl Default for Period {
    fn default() -> Self {
        Self {
            name: String::new(),
            share: 1.0,
            bands: Vec::new(),
            unscored: 1.0,
            sources: BTreeMap::new(),
            other_sources: 1.0,
        }
    }
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read it")]
    Read(#[source] io::Error),
    /// The text is not the TOML of a mixture.
    #[error("{reason}")]
    Toml {
        /// What the parser met, with line and column.
        reason: String,
    },
    /// A key has a value that it cannot have.
    #[error("{key} {got}, it must {must}")]
    Value {
        /// Which key.
        key: String,
        /// What it is or has.
        got: String,
        /// What it must be or have.
        must: String,
    },
}

impl Config {
    /// Reads the configuration in `path`.
    ///
    /// # Errors
    ///
    /// [`ConfigError`].
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let mut text = String::new();
        let file = File::open(path).map_err(ConfigError::Read)?;
        file.take(MAX_CONFIG_BYTES + 1).read_to_string(&mut text).map_err(ConfigError::Read)?;
        Self::parse(&text)
    }

    /// Reads a configuration and checks every value.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] that names the line or the key.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        if text.len() as u64 > MAX_CONFIG_BYTES {
            let reason = format!("it has more than {MAX_CONFIG_BYTES} bytes");
            return Err(ConfigError::Toml { reason });
        }
        let config: Self = toml::from_str(text)
            .map_err(|error| ConfigError::Toml { reason: error.to_string().trim().to_owned() })?;
        config.check()?;
        Ok(config)
    }

    /// How many bands there are, the one of samples without difficulty included.
    pub fn bands(&self) -> usize {
        self.cuts.len() + 2
    }

    /// Checks every value.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Value`] for the first that cannot be.
    pub fn check(&self) -> Result<(), ConfigError> {
        let samples = self.samples.unwrap_or(1);
        demand((1..=MAX_SAMPLES).contains(&samples), || {
            ("samples".into(), format!("is {samples}"), format!("be from 1 to {MAX_SAMPLES}"))
        })?;
        demand(self.cuts.len() <= MAX_CUTS, || {
            ("cuts".into(), format!("has {}", self.cuts.len()), format!("have at most {MAX_CUTS}"))
        })?;
        let inside = self.cuts.iter().all(|&cut| cut > 0.0 && cut < 1.0);
        demand(inside && self.cuts.is_sorted_by(|a, b| a < b), || {
            let must = "have numbers between 0 and 1, each above the one before";
            ("cuts".into(), format!("is {:?}", self.cuts), must.into())
        })?;
        demand((1..=MAX_PERIODS).contains(&self.periods.len()), || {
            let got = format!("is there {} times", self.periods.len());
            ("[[period]]".into(), got, format!("be there 1 to {MAX_PERIODS} times"))
        })?;
        let mut names = BTreeSet::new();
        for (number, period) in self.periods.iter().enumerate() {
            period.check(&format!("period[{number}]"), self.cuts.len() + 1)?;
            demand(names.insert(&period.name), || {
                let got = format!("is {:?} as that of an earlier one", period.name);
                (format!("period[{number}].name"), got, "be another".into())
            })?;
        }
        Ok(())
    }
}

impl Period {
    fn check(&self, path: &str, bands: usize) -> Result<(), ConfigError> {
        let at = |name: &str| format!("{path}.{name}");
        demand(is_plain_name(&self.name), || {
            (at("name"), format!("is {:?}", self.name), format!("be {PLAIN_NAME}"))
        })?;
        demand(self.share > 0.0 && self.share <= MAX_WEIGHT, || {
            (at("share"), format!("is {}", self.share), format!("be above 0, at most {MAX_WEIGHT}"))
        })?;
        demand(self.bands.is_empty() || self.bands.len() == bands, || {
            let weights = if self.bands.len() == 1 { "weight" } else { "weights" };
            let got = format!("has {} {weights}", self.bands.len());
            (at("bands"), got, format!("have {bands}, one for each band"))
        })?;
        let bands = self.bands.iter().enumerate().map(|(band, weight)| (format!("bands[{band}]"), *weight));
        let sources = self.sources.iter().map(|(source, weight)| (format!("sources.{source:?}"), *weight));
        let others = [("unscored", self.unscored), ("other_sources", self.other_sources)];
        let others = others.into_iter().map(|(name, weight)| (name.to_owned(), weight));
        for (name, weight) in bands.chain(sources).chain(others) {
            demand((0.0..=MAX_WEIGHT).contains(&weight), || {
                (at(&name), format!("is {weight}"), format!("be from 0 to {MAX_WEIGHT}"))
            })?;
        }
        Ok(())
    }

    /// The weight of samples of `source` in band `band` of `bands`, the last of which is that of samples without
    /// difficulty.
    pub(crate) fn weight(&self, source: &str, band: usize, bands: usize) -> f64 {
        let of_band = if band + 1 == bands {
            self.unscored
        } else {
            // All are 1 when they are left out.
            self.bands.get(band).copied().unwrap_or(1.0)
        };
        of_band * self.sources.get(source).copied().unwrap_or(self.other_sources)
    }
}

/// A key, what it is, and what it must be.
type Wrong = (String, String, String);

fn demand(holds: bool, wrong: impl FnOnce() -> Wrong) -> Result<(), ConfigError> {
    if holds {
        return Ok(());
    }
    let (key, got, must) = wrong();
    Err(ConfigError::Value { key, got, must })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_values_are_named() {
        let period = "[[period]]\nname = \"a\"\n";
        for (text, named) in [
            ("cuts = [0.5, 0.5]\n[[period]]\nname = \"a\"", "cuts is [0.5, 0.5]"),
            ("cuts = [nan]\n[[period]]\nname = \"a\"", "cuts is [NaN]"),
            ("cuts = [1]\n[[period]]\nname = \"a\"", "cuts is [1.0]"),
            ("samples = 0\n[[period]]\nname = \"a\"", "samples is 0"),
            ("period = []", "[[period]] is there 0 times"),
            ("seed = 1", "missing field `period`"),
            ("[[period]]\nname = \"a b\"", "period[0].name is \"a b\""),
            (&format!("{period}share = 0"), "period[0].share is 0"),
            (&format!("{period}share = inf"), "period[0].share is inf"),
            (&format!("{period}unscored = -1"), "period[0].unscored is -1"),
            (&format!("{period}sources = {{ x = nan }}"), "period[0].sources.\"x\" is NaN"),
            (&format!("{period}bands = [1, 2]"), "period[0].bands has 2 weights, it must have 1"),
            (&format!("{period}bandz = 3"), "unknown field `bandz`"),
            (&format!("{period}{period}"), "period[1].name is \"a\" as that of an earlier one"),
        ] {
            let error = Config::parse(text).unwrap_err().to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
    }

    #[test]
    fn weights_multiply() {
        let text = "cuts = [0.5]\n[[period]]\nname = \"a\"\nbands = [2, 3]\nunscored = 5\nother_sources = 7\n\
                    sources = { ocr = 0.5 }";
        let period = &Config::parse(text).unwrap().periods[0];
        assert_eq!([0, 1, 2].map(|band| period.weight("ocr", band, 3)), [1.0, 1.5, 2.5]);
        assert_eq!([0, 1, 2].map(|band| period.weight("else", band, 3)), [14.0, 21.0, 35.0]);
        assert_eq!(Period::default().weight("else", 0, 3), 1.0);
    }
}
