//! `preprocessor_config.json`: how large pictures are made for a model.

use std::{io, path::Path};

use serde::Deserialize;
use talkoot_dataset::{PreprocessOptions, preprocess::TOKEN_SIDE};
use talkoot_trainer::patches::{CLIP_DEVIATION, CLIP_MEAN};

use super::read_bounded;

/// Name of the file in a model's folder.
pub const PREPROCESSOR_CONFIG_FILE: &str = "preprocessor_config.json";

/// Longest file that is read, in bytes; real ones have a few hundred.
const MAX_BYTES: u64 = 1 << 20;

/// Means and deviations are written with five digits or more.
const SAME: f64 = 1e-4;

/// Why a `preprocessor_config.json` cannot be followed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PreprocessorConfigError {
    /// The file system refused.
    #[error("no access to {PREPROCESSOR_CONFIG_FILE}")]
    Io(#[from] io::Error),
    /// It is not what it should be.
    #[error("{PREPROCESSOR_CONFIG_FILE} is not what it should be")]
    Json(#[from] serde_json::Error),
    /// It is far too long.
    #[error("{PREPROCESSOR_CONFIG_FILE} is longer than {MAX_BYTES} bytes")]
    TooLong,
    /// It describes pictures of another kind of model.
    #[error("{PREPROCESSOR_CONFIG_FILE} has {field} {got}, pictures of this kind of model have {expected}")]
    Foreign {
        /// The field.
        field: &'static str,
        /// Its value.
        got: String,
        /// What it has to be.
        expected: String,
    },
    /// No picture can have this many pixels.
    #[error(
        "{PREPROCESSOR_CONFIG_FILE} allows {min} to {max} pixels; the least must be at least 1 and the most at least \
         {TOKEN_SIDE} x {TOKEN_SIDE} and the least"
    )]
    Pixels {
        /// Fewest pixels.
        min: u64,
        /// Most pixels.
        max: u64,
    },
}

/// The fields on disk; many others are left alone.
#[derive(Debug, Deserialize)]
struct OnDisk {
    min_pixels: Option<u64>,
    max_pixels: Option<u64>,
    size: Option<Size>,
    patch_size: Option<u64>,
    merge_size: Option<u64>,
    image_mean: Option<Vec<f64>>,
    image_std: Option<Vec<f64>>,
}

/// Newer files say the limits here; the sides are areas in spite of their names.
#[derive(Debug, Default, Deserialize)]
struct Size {
    shortest_edge: Option<u64>,
    longest_edge: Option<u64>,
}

/// The limits in `folder`; nothing where there is no file.
pub(super) fn read(folder: &Path) -> Result<Option<PreprocessOptions>, PreprocessorConfigError> {
    let text = match read_bounded(&folder.join(PREPROCESSOR_CONFIG_FILE), MAX_BYTES) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text?,
    };
    if text.len() as u64 > MAX_BYTES {
        return Err(PreprocessorConfigError::TooLong);
    }
    options(serde_json::from_slice(&text)?).map(Some)
}

fn options(disk: OnDisk) -> Result<PreprocessOptions, PreprocessorConfigError> {
    same("patch_size", disk.patch_size, 14)?;
    same("merge_size", disk.merge_size, 2)?;
    close("image_mean", disk.image_mean.as_deref(), CLIP_MEAN)?;
    close("image_std", disk.image_std.as_deref(), CLIP_DEVIATION)?;
    let usual = PreprocessOptions::default();
    let size = disk.size.unwrap_or_default();
    let min = disk.min_pixels.or(size.shortest_edge).unwrap_or(usual.min_pixels.into());
    let max = disk.max_pixels.or(size.longest_edge).unwrap_or(usual.max_pixels.into());
    let wrong = || PreprocessorConfigError::Pixels { min, max };
    if min == 0 || max < min || max < u64::from(TOKEN_SIDE * TOKEN_SIDE) {
        return Err(wrong());
    }
    let narrow = |pixels: u64| u32::try_from(pixels).map_err(|_| wrong());
    Ok(PreprocessOptions { min_pixels: narrow(min)?, max_pixels: narrow(max)?, ..usual })
}

fn same(field: &'static str, got: Option<u64>, expected: u64) -> Result<(), PreprocessorConfigError> {
    match got {
        Some(got) if got != expected => Err(PreprocessorConfigError::Foreign {
            field,
            got: got.to_string(),
            expected: expected.to_string(),
        }),
        _ => Ok(()),
    }
}

fn close(
    field: &'static str,
    got: Option<&[f64]>,
    expected: [f32; 3],
) -> Result<(), PreprocessorConfigError> {
    let near = |got: &[f64]| {
        got.len() == 3 && got.iter().zip(expected).all(|(got, wanted)| (got - f64::from(wanted)).abs() < SAME)
    };
    match got {
        Some(got) if !near(got) => Err(PreprocessorConfigError::Foreign {
            field,
            got: format!("{got:?}"),
            expected: format!("{expected:?}"),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<PreprocessOptions>, PreprocessorConfigError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(PREPROCESSOR_CONFIG_FILE), text).unwrap();
        read(folder.path())
    }

    #[test]
    fn both_spellings_of_the_limits_are_read() {
        let limits = |text| parse(text).unwrap().map(|options| (options.min_pixels, options.max_pixels));
        assert_eq!(
            limits(r#"{"min_pixels": 784, "max_pixels": 50176, "patch_size": 14}"#),
            Some((784, 50_176))
        );
        let newer = r#"{"size": {"shortest_edge": 3136, "longest_edge": 12845056}, "merge_size": 2,
            "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}"#;
        assert_eq!(limits(newer), Some((3136, 12_845_056)));
        let usual = PreprocessOptions::default();
        assert_eq!(limits("{}"), Some((usual.min_pixels, usual.max_pixels)));
        assert!(read(tempfile::tempdir().unwrap().path()).unwrap().is_none());
    }

    #[test]
    fn pictures_of_another_model_and_impossible_limits_are_refused() {
        for (text, named) in [
            (r#"{"patch_size": 16}"#, "patch_size"),
            (r#"{"merge_size": 1}"#, "merge_size"),
            (r#"{"image_mean": [0.5, 0.5, 0.5]}"#, "image_mean"),
            (r#"{"image_std": [0.26862954]}"#, "image_std"),
            (r#"{"max_pixels": 100}"#, "allows 3136 to 100"),
            (r#"{"min_pixels": 0}"#, "allows 0"),
            (r#"{"max_pixels": 99999999999}"#, "99999999999"),
            ("[", "not what it should be"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.to_string().contains(named), "{text}: {error}");
        }
    }
}
