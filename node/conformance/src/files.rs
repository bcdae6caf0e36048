//! Reading the folder.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use safetensors::{Dtype, SafeTensors};
use serde::de::DeserializeOwned;
use talkoot_trainer::{
    config::ModelConfig, huggingface::read_folder, model::Sample, patches::Picture, state::State,
};

use crate::CheckError;

/// The model whose numbers the folder holds.
pub(crate) struct Checkpoint {
    pub(crate) config: ModelConfig,
    pub(crate) state: State,
}

impl Checkpoint {
    pub(crate) fn read(folder: &Path) -> Result<Self, CheckError> {
        let (config, state) = read_folder(&folder.join("checkpoint"))?;
        Ok(Self { config, state })
    }
}

pub(crate) fn malformed(path: &Path, reason: impl ToString) -> CheckError {
    CheckError::Malformed { path: path.to_owned(), reason: reason.to_string() }
}

pub(crate) fn bytes(path: &Path) -> Result<Vec<u8>, CheckError> {
    fs::read(path).map_err(|source| CheckError::Read { path: path.to_owned(), source })
}

pub(crate) fn json<T: DeserializeOwned>(path: &Path) -> Result<T, CheckError> {
    serde_json::from_slice(&bytes(path)?).map_err(|error| malformed(path, error))
}

/// Names of the files in a folder, sorted.
pub(crate) fn names(folder: &Path) -> Result<Vec<String>, CheckError> {
    let failed = |source| CheckError::Read { path: folder.to_owned(), source };
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        names.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    Ok(names)
}

/// Tensors of one file: floats, and integers apart.
#[derive(Debug)]
pub(crate) struct Tensors {
    path: PathBuf,
    pub(crate) floats: BTreeMap<String, Vec<f32>>,
    integers: BTreeMap<String, Vec<i64>>,
}

impl Tensors {
    pub(crate) fn read(path: &Path) -> Result<Self, CheckError> {
        let bytes = bytes(path)?;
        let mut tensors = Self { path: path.to_owned(), floats: BTreeMap::new(), integers: BTreeMap::new() };
        let file = SafeTensors::deserialize(&bytes).map_err(|error| malformed(path, error))?;
        for (name, view) in file.iter() {
            let name = name.to_owned();
            match view.dtype() {
                Dtype::F32 => {
                    let words = view.data().as_chunks().0;
                    tensors.floats.insert(name, words.iter().map(|&word| f32::from_le_bytes(word)).collect());
                }
                Dtype::I64 => {
                    let words = view.data().as_chunks().0;
                    tensors
                        .integers
                        .insert(name, words.iter().map(|&word| i64::from_le_bytes(word)).collect());
                }
                other => return Err(malformed(path, format!("{name} is {other:?}, not f32 or i64"))),
            }
        }
        Ok(tensors)
    }

    fn integers(&self, name: &str) -> Result<&[i64], CheckError> {
        let found = self.integers.get(name).map(Vec::as_slice);
        found.ok_or_else(|| malformed(&self.path, format!("there is no {name}")))
    }

    /// Tensors whose name begins with `prefix`, by the rest of the name.
    pub(crate) fn under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a [f32])> {
        let rest = move |(name, values): (&'a String, &'a Vec<f32>)| {
            Some((name.strip_prefix(prefix)?, values.as_slice()))
        };
        self.floats.iter().filter_map(rest)
    }

    /// Whether the case is a video, whose rows have another token.
    pub(crate) fn is_video(&self) -> bool {
        self.floats.contains_key("in.pixel_values_videos")
    }

    /// The samples of a case.
    pub(crate) fn samples(&self, config: &ModelConfig) -> Result<Vec<Sample>, CheckError> {
        let wrong = |reason: &str| malformed(&self.path, reason);
        let (ids, labels) = (self.integers("in.input_ids")?, self.integers("in.labels")?);
        let whole = [0, ids.len() as i64];
        let ends = self.integers.get("in.cu_seqlens").map_or(&whole[..], Vec::as_slice);
        let mut pictures = self.pictures(config)?.into_iter();
        let mut samples = Vec::new();
        for pair in ends.windows(2) {
            let place = usize::try_from(pair[0]).ok().zip(usize::try_from(pair[1]).ok());
            let (start, end) = place.ok_or_else(|| wrong("in.cu_seqlens is negative"))?;
            let (Some(ids), Some(labels)) = (ids.get(start..end), labels.get(start..end)) else {
                return Err(wrong("in.cu_seqlens leaves in.input_ids or in.labels"));
            };
            let token = |&id: &i64| u32::try_from(id).map_err(|_| wrong("a token id is out of range"));
            let tokens = ids.iter().map(token).collect::<Result<Vec<u32>, _>>()?;
            if tokens.iter().any(|&token| token as usize >= config.text.vocab_size) {
                return Err(wrong("a token id is not below the vocabulary size"));
            }
            let mut open = tokens.iter().filter(|&&token| token == config.image_token_id).count();
            let mut own = Vec::new();
            while open > 0 {
                let picture = pictures.next().ok_or_else(|| wrong("more image tokens than pictures"))?;
                let seen = picture.len() / config.vision.patches_per_token();
                open = open.checked_sub(seen).ok_or_else(|| wrong("a picture has more rows than tokens"))?;
                own.push(picture);
            }
            samples.push(Sample { tokens, labels: labels.to_vec(), pictures: own });
        }
        Ok(samples)
    }

    /// Pictures, and frames of videos, each a segment of its own.
    fn pictures(&self, config: &ModelConfig) -> Result<Vec<Picture>, CheckError> {
        let wrong = |reason: &str| malformed(&self.path, reason);
        let mut pictures = Vec::new();
        for (pixels, grid) in
            [("in.pixel_values", "in.image_grid_thw"), ("in.pixel_values_videos", "in.video_grid_thw")]
        {
            let Some(pixels) = self.floats.get(pixels) else { continue };
            let mut rest = pixels.as_slice();
            for grid in self.integers(grid)?.chunks_exact(3) {
                let side = |n: i64| {
                    let side = usize::try_from(n).ok().filter(|n| (1..=4096).contains(n));
                    side.ok_or_else(|| wrong("a grid has a side out of range"))
                };
                let (frames, rows, columns) = (side(grid[0])?, side(grid[1])?, side(grid[2])?);
                for _ in 0..frames {
                    let len = rows * columns * config.vision.patch_values();
                    let (patches, more) =
                        rest.split_at_checked(len).ok_or_else(|| wrong("grids ask for more patches"))?;
                    pictures.push(Picture { rows, columns, patches: patches.to_vec() });
                    rest = more;
                }
            }
            if !rest.is_empty() {
                return Err(wrong("there are more patches than grids ask for"));
            }
        }
        Ok(pictures)
    }
}
