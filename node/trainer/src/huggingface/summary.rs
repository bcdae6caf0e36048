//! What a checkpoint is: its shape, its parts, and the memory that training it takes.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{
    Checkpoint, FloatType, FolderError,
    config::read_model,
    names::{EMBEDDING, HEAD},
    parameters::model_tensors,
};
use crate::{config::ModelConfig, modules::Module};

mod text;

/// What is in a folder, from descriptions alone: no weight is read, unless a tied head has to be compared.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// The folder.
    pub folder: PathBuf,
    /// The model's shape.
    pub config: ModelConfig,
    /// Weights files and their lengths in bytes.
    pub files: Vec<(String, u64)>,
    /// The parts, in the order in which data flows through them.
    pub groups: Vec<Group>,
    /// All of them together.
    pub total: Group,
    /// Every parameter, in canonical order.
    pub tensors: Vec<TensorSummary>,
    /// What training takes.
    pub memory: Vec<StageMemory>,
    /// Whether the head is not in the files: tied, or a copy of the embedding when it is read.
    pub head_left_out: bool,
}

/// A part of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Group {
    /// What it is called.
    pub name: &'static str,
    /// Number of tensors.
    pub tensors: usize,
    /// Number of parameters.
    pub parameters: u64,
    /// Bytes of its tensors on disk.
    pub bytes: u64,
    /// Number types that its tensors are stored in.
    pub dtypes: BTreeSet<FloatType>,
}

/// One parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TensorSummary {
    /// Name on disk.
    pub name: String,
    /// Length of every axis, outermost first.
    pub shape: Vec<usize>,
    /// Number type on disk.
    pub dtype: FloatType,
    /// Bytes on disk.
    pub bytes: u64,
    /// Name of the file that it is in.
    pub file: String,
}

/// Bytes that training a set of modules holds between steps, all in f32, activations not included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StageMemory {
    /// What it is called.
    pub stage: &'static str,
    /// The modules that learn.
    pub trainable: Vec<Module>,
    /// Number of parameters that learn.
    pub parameters: u64,
    /// All weights.
    pub weight_bytes: u64,
    /// One gradient for each parameter that learns.
    pub gradient_bytes: u64,
    /// AdamW's two moments for each parameter that learns.
    pub moment_bytes: u64,
    /// Sum of the three.
    pub total_bytes: u64,
}

/// The parts, and how their parameters are told.
const GROUPS: [&str; 5] = ["vision tower", "merger", "embedding", "decoder", "head"];

fn group_of(name: &str) -> &'static str {
    match (Module::of(name), name) {
        (Module::Vision, _) => GROUPS[0],
        (Module::Merger, _) => GROUPS[1],
        (Module::Language, EMBEDDING) => GROUPS[2],
        (Module::Language, HEAD) => GROUPS[4],
        (Module::Language, _) => GROUPS[3],
    }
}

impl Summary {
    /// Looks into a folder.
    ///
    /// # Errors
    ///
    /// [`FolderError`] names what is missing, surplus, misshapen or damaged.
    pub fn read(folder: &Path) -> Result<Self, FolderError> {
        let (config, _) = read_model(folder)?;
        let checkpoint = Checkpoint::open(folder)?;
        let mut tensors = Vec::new();
        for (name, tensor) in model_tensors(&checkpoint, &config)? {
            let file = tensor.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
            let (dtype, bytes) = (tensor.float()?, tensor.bytes);
            tensors.push(TensorSummary { name, shape: tensor.shape, dtype, bytes, file });
        }
        let groups = GROUPS
            .map(|group| Group::of(group, tensors.iter().filter(|tensor| group_of(&tensor.name) == group)));
        Ok(Self {
            folder: folder.to_owned(),
            head_left_out: !checkpoint.tensors.contains_key(HEAD),
            files: checkpoint.files,
            groups: groups.into_iter().filter(|group| group.tensors > 0).collect(),
            total: Group::of("all", tensors.iter()),
            memory: memory(&config),
            tensors,
            config,
        })
    }
}

impl TensorSummary {
    /// Number of its values.
    pub fn parameters(&self) -> u64 {
        self.shape.iter().map(|&axis| axis as u64).product()
    }
}

impl Group {
    fn of<'a>(name: &'static str, tensors: impl Iterator<Item = &'a TensorSummary>) -> Self {
        let mut group = Self { name, tensors: 0, parameters: 0, bytes: 0, dtypes: BTreeSet::new() };
        for tensor in tensors {
            group.tensors += 1;
            group.parameters += tensor.parameters();
            group.bytes += tensor.bytes;
            group.dtypes.insert(tensor.dtype);
        }
        group
    }
}

/// What training the merger alone, and training everything, holds between steps.
pub fn memory(config: &ModelConfig) -> Vec<StageMemory> {
    let mut counts = BTreeMap::new();
    for (name, shape) in config.parameter_shapes() {
        *counts.entry(Module::of(&name)).or_insert(0) +=
            shape.iter().map(|&axis| axis as u64).product::<u64>();
    }
    let all: u64 = counts.values().sum();
    let stages = [("merger only", vec![Module::Merger]), ("everything", Module::ALL.to_vec())];
    let stage = |(stage, trainable): (&'static str, Vec<Module>)| {
        let parameters = trainable.iter().filter_map(|module| counts.get(module)).sum::<u64>();
        let (weight_bytes, gradient_bytes, moment_bytes) = (4 * all, 4 * parameters, 8 * parameters);
        let total_bytes = weight_bytes + gradient_bytes + moment_bytes;
        StageMemory { stage, trainable, parameters, weight_bytes, gradient_bytes, moment_bytes, total_bytes }
    };
    stages.map(stage).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presets::{released_4b, released_8b};

    /// Parameters of the parts, from the shapes alone.
    fn counts(config: &ModelConfig) -> [u64; 6] {
        let tensors = config.parameter_shapes().into_iter().map(|(name, shape)| {
            let (dtype, bytes, file) = (FloatType::F32, 0, String::new());
            TensorSummary { name, shape, dtype, bytes, file }
        });
        let tensors: Vec<_> = tensors.collect();
        let of = |group| {
            Group::of(group, tensors.iter().filter(|tensor| group_of(&tensor.name) == group)).parameters
        };
        let [vision, merger, embedding, decoder, head] = GROUPS.map(of);
        [vision, merger, embedding, decoder, head, Group::of("all", tensors.iter()).parameters]
    }

    #[test]
    fn released_shapes_have_the_published_counts() {
        let four = counts(&released_4b());
        let layers = 36 * 100_930_816 + 2_560;
        assert_eq!(four, [302_914_592, 27_271_680, 388_956_160, layers, 388_956_160, 4_741_610_528]);
        assert_eq!(four[2] + four[3] + four[4], 4_411_424_256);
        let eight = counts(&released_8b());
        let layers = 36 * 192_946_432 + 4_096;
        assert_eq!(eight, [302_914_592, 33_564_672, 622_329_856, layers, 622_329_856, 8_527_214_624]);
        assert_eq!(eight[2] + eight[3] + eight[4], 8_190_735_360);
        for (mut config, language) in [(released_4b(), 4_022_468_096), (released_8b(), 7_568_405_504)] {
            config.validate().unwrap();
            assert_eq!(config.parameter_shapes().len(), 299 + 399);
            config.text.tie_word_embeddings = true;
            let tied = counts(&config);
            assert_eq!((tied[2] + tied[3], tied[4]), (language, 0));
        }
    }

    #[test]
    fn memory_is_four_bytes_a_weight_and_twelve_more_for_what_learns() {
        let [merger, everything] = memory(&released_8b()).try_into().unwrap();
        assert_eq!(merger.total_bytes, 4 * 8_527_214_624 + 12 * 33_564_672);
        assert_eq!((merger.gradient_bytes, merger.moment_bytes), (4 * 33_564_672, 8 * 33_564_672));
        assert_eq!(everything.total_bytes, 16 * 8_527_214_624);
    }
}
