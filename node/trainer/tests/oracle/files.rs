//! Reading the oracle's files, and the yardsticks of its README.

use std::{collections::BTreeMap, fs, path::PathBuf};

use safetensors::{Dtype, SafeTensors};
use talkoot_trainer::{
    config::ModelConfig, huggingface::read_folder, model::Sample, patches::Picture, state::State,
};

/// The oracle's folder, or `None` with a loud word when it isn't there.
pub(crate) fn folder() -> Option<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/oracle");
    if !folder.is_dir() {
        eprintln!("SKIPPED: there is no ../shared/oracle beside the repository, nothing was compared");
        return None;
    }
    Some(folder)
}

pub(crate) fn checkpoint() -> Option<(PathBuf, ModelConfig, State)> {
    let folder = folder()?;
    let (config, state) = read_folder(&folder.join("checkpoint")).unwrap();
    Some((folder, config, state))
}

/// Tensors of one file: floats, and integers apart.
#[derive(Default)]
pub(crate) struct File {
    pub(crate) floats: BTreeMap<String, Vec<f32>>,
    pub(crate) integers: BTreeMap<String, Vec<i64>>,
}

pub(crate) fn read(path: PathBuf) -> File {
    let bytes = fs::read(&path).unwrap();
    let mut file = File::default();
    for (name, view) in SafeTensors::deserialize(&bytes).unwrap().iter() {
        match view.dtype() {
            Dtype::F32 => {
                let values = view.data().as_chunks().0.iter().map(|&word| f32::from_le_bytes(word)).collect();
                file.floats.insert(name.to_owned(), values);
            }
            Dtype::I64 => {
                let values = view.data().as_chunks().0.iter().map(|&word| i64::from_le_bytes(word)).collect();
                file.integers.insert(name.to_owned(), values);
            }
            other => panic!("{name} is {other:?}"),
        }
    }
    file
}

/// The samples of a case. `image_token` is the id whose rows the pixels fill.
pub(crate) fn samples(file: &File, image_token: u32) -> Vec<Sample> {
    let mut pictures = pictures(file).into_iter();
    let (tokens, labels) = (&file.integers["in.input_ids"], &file.integers["in.labels"]);
    let whole = vec![0, tokens.len() as i64];
    let ends = file.integers.get("in.cu_seqlens").unwrap_or(&whole);
    let cut = |ends: &[i64]| {
        let place = ends[0] as usize..ends[1] as usize;
        let tokens: Vec<u32> = tokens[place.clone()].iter().map(|&id| id as u32).collect();
        let mut open = tokens.iter().filter(|&&token| token == image_token).count();
        let mut own = Vec::new();
        while open > 0 {
            let picture = pictures.next().expect("as many pictures as image tokens ask for");
            open -= picture.len() / 4;
            own.push(picture);
        }
        Sample { tokens, labels: labels[place].to_vec(), pictures: own }
    };
    ends.windows(2).map(cut).collect()
}

fn pictures(file: &File) -> Vec<Picture> {
    let found = ["", "video"].map(|kind| {
        let (pixels, grid) = match kind {
            "" => ("in.pixel_values", "in.image_grid_thw"),
            _ => ("in.pixel_values_videos", "in.video_grid_thw"),
        };
        file.floats.get(pixels).map(|pixels| (pixels, &file.integers[grid]))
    });
    let mut pictures = Vec::new();
    for (pixels, grid) in found.into_iter().flatten() {
        let mut rest = pixels.as_slice();
        for grid in grid.chunks(3) {
            let (rows, columns) = (grid[1] as usize, grid[2] as usize);
            // every frame is a segment of its own
            for _ in 0..grid[0] {
                let (patches, more) = rest.split_at(rows * columns * 588);
                pictures.push(Picture { rows, columns, patches: patches.to_vec() });
                rest = more;
            }
        }
    }
    pictures
}

fn l2(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|x| x * x).sum::<f64>().sqrt()
}

/// Asserts that `got` is `expected` up to f32 rounding, by the oracle's two yardsticks.
pub(crate) fn close(what: &str, got: &[f32], expected: &[f32], limit_abs: f64, limit_relative: f64) {
    assert_eq!(got.len(), expected.len(), "{what}: number of values");
    let differences = || got.iter().zip(expected).map(|(a, b)| f64::from(*a) - f64::from(*b));
    let worst = differences().fold(0.0, |worst: f64, d| worst.max(d.abs()));
    let relative = l2(differences()) / l2(expected.iter().map(|&x| f64::from(x))).max(1e-30);
    assert!(
        worst <= limit_abs && relative <= limit_relative,
        "{what}: off by {worst:.2e} at most (limit {limit_abs:.1e}), {relative:.2e} relative (limit {limit_relative:.1e})"
    );
}
