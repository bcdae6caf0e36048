//! `generation_config.json`: how a model's makers meant it to speak.

use std::{fs::File, io::Read, path::Path};

use serde::Deserialize;

use super::sampler::{SampleError, Sampling};
use crate::huggingface::FolderError;

/// Name of the file in a model's folder.
pub const GENERATION_CONFIG_FILE: &str = "generation_config.json";

/// Longest file that is read, in bytes; real ones have a few hundred.
const MAX_BYTES: u64 = 1 << 20;

/// What stands in a `generation_config.json` and matters here.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GenerationConfig {
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Tokens that end an answer.
    pub ends: Vec<u32>,
    /// Longest answer in tokens, where the file says it.
    pub max_new_tokens: Option<usize>,
}

/// Why a `generation_config.json` cannot be followed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GenerationConfigError {
    /// The file cannot be read or parsed.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A setting is outside of its range.
    #[error("{GENERATION_CONFIG_FILE} asks for what cannot be")]
    Setting(#[from] SampleError),
    /// The file is far too long.
    #[error("{GENERATION_CONFIG_FILE} is longer than {MAX_BYTES} bytes")]
    TooLong,
}

/// The fields on disk; many others are left alone.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OnDisk {
    eos_token_id: Option<OneOrMany>,
    do_sample: Option<bool>,
    temperature: Option<f64>,
    top_k: Option<usize>,
    top_p: Option<f64>,
    min_p: Option<f64>,
    repetition_penalty: Option<f64>,
    max_new_tokens: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(u32),
    Many(Vec<u32>),
}

impl GenerationConfig {
    /// Reads the file in `folder`; nothing where there is none.
    ///
    /// # Errors
    ///
    /// [`GenerationConfigError`] when it cannot be read, or holds what cannot be.
    pub fn read(folder: &Path) -> Result<Option<Self>, GenerationConfigError> {
        let path = folder.join(GENERATION_CONFIG_FILE);
        let io = |source| FolderError::Io { path: path.clone(), source };
        let file = match File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(io)?,
        };
        let mut text = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut text).map_err(io)?;
        if text.len() as u64 > MAX_BYTES {
            return Err(GenerationConfigError::TooLong);
        }
        let found = serde_json::from_slice(&text)
            .map_err(|source| FolderError::Json { path: path.clone(), source })?;
        let config = Self::from_disk(found);
        config.sampling.validate()?;
        Ok(Some(config))
    }

    /// As `transformers` reads it: without `do_sample` the likeliest token is taken, whatever the temperature; with it
    /// the fifty likeliest are drawn from, unless the file says another number.
    fn from_disk(disk: OnDisk) -> Self {
        let usual = Sampling::default();
        let drawn = disk.do_sample == Some(true);
        let temperature = if drawn { disk.temperature.unwrap_or(1.0) } else { 0.0 };
        let ends = match disk.eos_token_id {
            None => Vec::new(),
            Some(OneOrMany::One(id)) => vec![id],
            Some(OneOrMany::Many(ids)) => ids,
        };
        let sampling = Sampling {
            temperature,
            top_k: disk.top_k.unwrap_or(if drawn { 50 } else { usual.top_k }),
            top_p: disk.top_p.unwrap_or(usual.top_p),
            min_p: disk.min_p.unwrap_or(usual.min_p),
            repetition_penalty: disk.repetition_penalty.unwrap_or(usual.repetition_penalty),
            seed: usual.seed,
        };
        Self { sampling, ends, max_new_tokens: disk.max_new_tokens }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<GenerationConfig>, GenerationConfigError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(GENERATION_CONFIG_FILE), text).unwrap();
        GenerationConfig::read(folder.path())
    }

    #[test]
    fn a_published_file_is_understood() {
        let text = r#"{"bos_token_id": 151643, "pad_token_id": 151643, "do_sample": true,
            "eos_token_id": [151645, 151643], "repetition_penalty": 1.05, "temperature": 0.000001,
            "top_k": 20, "transformers_version": "4.49.0"}"#;
        let config = read(text).unwrap().unwrap();
        assert_eq!(config.ends, [151_645, 151_643]);
        let expected =
            Sampling { temperature: 1e-6, top_k: 20, repetition_penalty: 1.05, ..Sampling::default() };
        assert_eq!(config.sampling, expected);
        assert_eq!(config.max_new_tokens, None);
    }

    #[test]
    fn without_do_sample_the_temperature_means_nothing() {
        let config =
            read(r#"{"temperature": 0.7, "eos_token_id": 5, "max_new_tokens": 9}"#).unwrap().unwrap();
        assert_eq!((config.sampling.temperature, config.ends.as_slice()), (0.0, &[5][..]));
        assert_eq!(config.max_new_tokens, Some(9));
        let drawn = read(r#"{"do_sample": true}"#).unwrap().unwrap().sampling;
        assert_eq!((drawn.temperature, drawn.top_k), (1.0, 50));
    }

    #[test]
    fn no_file_is_no_config_and_nonsense_is_named() {
        assert_eq!(GenerationConfig::read(tempfile::tempdir().unwrap().path()).unwrap(), None);
        assert!(matches!(read("nonsense"), Err(GenerationConfigError::Folder(FolderError::Json { .. }))));
        let error = read(r#"{"do_sample": true, "temperature": -1}"#).unwrap_err();
        assert!(matches!(error, GenerationConfigError::Setting(SampleError::Setting { .. })), "{error}");
        let error = read(&" ".repeat(MAX_BYTES as usize + 1)).unwrap_err();
        assert!(matches!(error, GenerationConfigError::TooLong), "{error}");
    }
}
