//! The rules and their limits: one TOML, of which every line may be left out.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use whatlang::Lang;

/// The defaults with an explanation of each, as TOML.
pub const DEFAULT_TOML: &str = include_str!("default.toml");

/// Longest configuration, in bytes.
pub const MAX_CONFIG_BYTES: usize = 1 << 20;
/// Most entries of a list, and most characters of one.
const MAX_ENTRIES: usize = 256;

/// What is left out, and how the rest is scored. [`DEFAULT_TOML`] explains every key.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Of each picture.
    pub picture: PictureRules,
    /// Of each answer.
    pub answer: AnswerRules,
    /// Answers that are none.
    pub refusal: RefusalRules,
    /// Marks of other layouts.
    pub mark: MarkRules,
    /// Of all answers together.
    pub language: LanguageRules,
    /// Of the scores.
    pub score: ScoreRules,
    /// Of pairs of samples.
    pub duplicate: DuplicateRules,
}

/// What a picture must be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PictureRules {
    /// Shortest side, in pixels.
    pub min_side: u32,
    /// Longest side over shortest side.
    pub max_aspect: f64,
    /// Least standard deviation of the channel that deviates most, of 255.
    pub min_deviation: f64,
}

/// What an answer must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AnswerRules {
    /// Fewest characters.
    pub min_characters: u32,
    /// Most characters.
    pub max_characters: u32,
    /// So many equal words in a row are too many; 0 when any are allowed.
    pub repeated_words: u32,
}

/// What a refusal is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RefusalRules {
    /// How refusals begin.
    pub openings: Vec<String>,
    /// Whether these words make a refusal of an answer wherever they stand.
    pub anywhere: bool,
}

/// What should have been converted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MarkRules {
    /// Marks of other layouts.
    pub foreign: Vec<String>,
}

/// Which languages are wanted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LanguageRules {
    /// ISO 639-3 codes; all when empty.
    pub allowed: Vec<String>,
    /// Fewest characters that are judged.
    pub min_characters: u32,
    /// Least confidence in another language, 0 to 1.
    pub min_confidence: f64,
}

/// How scores are set and used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScoreRules {
    /// Whether scores that a list brings are kept.
    pub keep_given: bool,
    /// Least quality, 0 to 1.
    pub min_quality: f64,
}

/// What duplicates are, and which one is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DuplicateRules {
    /// When nearly equal pictures make duplicates.
    pub pictures: PictureRelation,
    /// When similar texts make duplicates.
    pub texts: TextRelation,
    /// Most bits of 64 in which the brightness of nearly equal pictures differs.
    pub brightness_bits: u32,
    /// Most bits of 64 in which their colours differ.
    pub colour_bits: u32,
    /// Least Jaccard index of similar texts, 0.5 to 1.
    pub text_similarity: f64,
    /// Characters of the runs that texts are compared by.
    pub run_characters: u32,
    /// Weight of quality against difficulty, 0 to 1.
    pub quality_weight: f64,
    /// Sets the hash functions.
    pub seed: u64,
}

/// When samples with nearly equal pictures are duplicates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PictureRelation {
    /// When the same is asked about them.
    SameQuestion,
    /// When their whole text is similar.
    SimilarText,
    /// Whatever their text is.
    Always,
    /// Not for their pictures.
    Never,
}

/// When samples with similar texts are duplicates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextRelation {
    /// When neither has a picture.
    WithoutPictures,
    /// Whatever their pictures are.
    Always,
    /// Not for their texts.
    Never,
}

impl Default for PictureRules {
    fn default() -> Self {
        Self { min_side: 28, max_aspect: 200.0, min_deviation: 2.0 }
    }
}

impl Default for AnswerRules {
    fn default() -> Self {
        Self { min_characters: 1, max_characters: 10_000, repeated_words: 8 }
    }
}

impl Default for RefusalRules {
    fn default() -> Self {
        let openings = ["i'm sorry", "i am sorry", "i cannot", "i can't"];
        Self { openings: openings.map(str::to_owned).to_vec(), anywhere: false }
    }
}

impl Default for MarkRules {
    fn default() -> Self {
        let foreign = ["<img>", "<image_1>", "<image1>", "<|image_1|>", "[IMG]", "<video>", "<audio>"];
        Self { foreign: foreign.map(str::to_owned).to_vec() }
    }
}

impl Default for LanguageRules {
    fn default() -> Self {
        Self { allowed: Vec::new(), min_characters: 60, min_confidence: 0.8 }
    }
}

impl Default for ScoreRules {
    fn default() -> Self {
        Self { keep_given: true, min_quality: 0.0 }
    }
}

impl Default for DuplicateRules {
    fn default() -> Self {
        Self {
            pictures: PictureRelation::SameQuestion,
            texts: TextRelation::WithoutPictures,
            brightness_bits: 4,
            colour_bits: 2,
            text_similarity: 0.8,
            run_characters: 5,
            quality_weight: 0.7,
            seed: 0,
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is too long.
    #[error("the configuration has more than {limit} bytes")]
    TooLong {
        /// What it may have.
        limit: usize,
    },
    /// It is not the TOML that is expected.
    #[error(
        "the configuration is wrong: {reason}; `talkoot dataset filter --print-config` shows a right one"
    )]
    Toml {
        /// The parser's words, with line and column.
        reason: String,
    },
    /// A value is out of its bounds.
    #[error("{key} is {got}, it must be {must}")]
    Bounds {
        /// The key, with its table.
        key: &'static str,
        /// Its value.
        got: String,
        /// What it must be.
        must: &'static str,
    },
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
        let Self { picture, answer, language, score, duplicate, .. } = self;
        within("picture.min_side", picture.min_side, 1, 16_384, "from 1 to 16384")?;
        within("picture.max_aspect", picture.max_aspect, 1.0, 200.0, "from 1 to 200")?;
        within("picture.min_deviation", picture.min_deviation, 0.0, 127.5, "from 0 to 127.5")?;
        within(
            "answer.min_characters",
            answer.min_characters,
            0,
            answer.max_characters,
            "at most max_characters",
        )?;
        within("answer.repeated_words", answer.repeated_words, 0, 1_000_000, "0, or from 2 to 1000000")?;
        if answer.repeated_words == 1 {
            return bounds("answer.repeated_words", 1, "0, or from 2 to 1000000");
        }
        within("language.min_confidence", language.min_confidence, 0.0, 1.0, "from 0 to 1")?;
        within("score.min_quality", score.min_quality, 0.0, 1.0, "from 0 to 1")?;
        within("duplicate.brightness_bits", duplicate.brightness_bits, 0, 6, "from 0 to 6")?;
        within("duplicate.colour_bits", duplicate.colour_bits, 0, 64, "from 0 to 64")?;
        within("duplicate.text_similarity", duplicate.text_similarity, 0.5, 1.0, "from 0.5 to 1")?;
        within("duplicate.run_characters", duplicate.run_characters, 1, 64, "from 1 to 64")?;
        within("duplicate.quality_weight", duplicate.quality_weight, 0.0, 1.0, "from 0 to 1")?;
        self.check_lists()
    }

    fn check_lists(&self) -> Result<(), ConfigError> {
        let lists = [
            ("refusal.openings", &self.refusal.openings),
            ("mark.foreign", &self.mark.foreign),
            ("language.allowed", &self.language.allowed),
        ];
        for (key, list) in lists {
            if list.len() > MAX_ENTRIES {
                return bounds(key, format!("a list of {}", list.len()), "of at most 256 entries");
            }
            let fits = |entry: &&String| !entry.trim().is_empty() && entry.chars().count() <= MAX_ENTRIES;
            if let Some(bad) = list.iter().find(|entry| !fits(entry)) {
                let shown: String = bad.chars().take(40).collect();
                return bounds(key, format!("{shown:?}"), "of entries with 1 to 256 characters");
            }
        }
        if let Some(code) = self.language.allowed.iter().find(|code| Lang::from_code(code.as_str()).is_none())
        {
            return bounds(
                "language.allowed",
                format!("{code:?}"),
                "of ISO 639-3 codes that are known, as \"eng\"",
            );
        }
        Ok(())
    }
}

fn bounds(key: &'static str, got: impl ToString, must: &'static str) -> Result<(), ConfigError> {
    Err(ConfigError::Bounds { key, got: got.to_string(), must })
}

/// Also refuses what is no number.
fn within<T: PartialOrd + ToString>(
    key: &'static str,
    got: T,
    least: T,
    most: T,
    must: &'static str,
) -> Result<(), ConfigError> {
    if got >= least && got <= most { Ok(()) } else { bounds(key, got, must) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_as_defaults_are_the_defaults() {
        assert_eq!(Config::parse(DEFAULT_TOML).unwrap(), Config::default());
        assert_eq!(Config::parse("").unwrap(), Config::default());
        let one = Config::parse("[answer]\nmin_characters = 50").unwrap();
        assert_eq!(one.answer.max_characters, Config::default().answer.max_characters);
    }

    #[test]
    fn every_default_is_explained() {
        let explained = |text: &str| {
            let table: toml::Table = text.parse().unwrap();
            let keys = |(name, table): (&String, &toml::Value)| {
                table.as_table().unwrap().keys().map(|key| format!("{name}.{key}")).collect::<Vec<_>>()
            };
            table.iter().flat_map(keys).collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(explained(DEFAULT_TOML), explained(&toml::to_string(&Config::default()).unwrap()));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_bounds() {
        for (text, named) in [
            ("[picture]\nmin_side = 0", "picture.min_side is 0, it must be from 1 to 16384"),
            ("[picture]\nmax_aspect = 201", "picture.max_aspect"),
            ("[picture]\nmax_aspect = nan", "picture.max_aspect is NaN"),
            ("[picture]\nmin_deviation = -1", "picture.min_deviation"),
            (
                "[answer]\nmin_characters = 20000",
                "answer.min_characters is 20000, it must be at most max_characters",
            ),
            ("[answer]\nrepeated_words = 1", "answer.repeated_words is 1"),
            ("[refusal]\nopenings = [\" \"]", "refusal.openings"),
            ("[language]\nallowed = [\"english\"]", "language.allowed is \"english\""),
            ("[language]\nmin_confidence = 1.5", "language.min_confidence"),
            ("[score]\nmin_quality = 2", "score.min_quality"),
            ("[duplicate]\nbrightness_bits = 7", "duplicate.brightness_bits is 7, it must be from 0 to 6"),
            ("[duplicate]\ntext_similarity = 0.4", "duplicate.text_similarity"),
            ("[duplicate]\nrun_characters = 0", "duplicate.run_characters"),
            ("[duplicate]\npictures = \"sometimes\"", "same_question"),
            ("[answer]\nmin_chars = 3", "unknown field `min_chars`"),
            ("[answers]", "unknown field `answers`"),
            ("answer = 3", "line 1"),
            ("[answer", "line 1"),
        ] {
            let error = Config::parse(text).unwrap_err().to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
        let long = format!("# {}", "x".repeat(MAX_CONFIG_BYTES));
        assert!(matches!(Config::parse(&long), Err(ConfigError::TooLong { .. })));
    }
}
