//! A model to begin with: a vision tower and a language model that were trained apart, and a merger between them.
//!
//! ```text
//! RICE-ViT folder --- renamed, q, k, v joined ---> visual.*
//! adapter file, or fresh weights ----------------> visual.merger.*
//! Qwen3 folder ------ names as they are ---------> model.*, lm_head.*
//! ```
//!
//! Source: the published merge of LLaVA-OneVision-1.5. Where its defects would show, this one differs: the merger is as
//! wide as the language model that is given, the head is always written and declared untied, and `vocab_size` is the
//! number of the head's rows.

use std::path::{Path, PathBuf};

use super::{
    Checkpoint, FloatType, FolderError, ShardSize, Written,
    carry::{Carried, tokenizer_files},
    config::to_text,
    parameters::Stock,
    write::{Content, Output, write_checkpoint},
};
use crate::{config::ModelConfig, modules::Module, state::FreshValues};

mod adapter;
mod description;
mod processor;
mod rice;

/// What a model is put together from.
#[derive(Debug, Clone)]
pub struct Merge {
    /// Folder of the vision tower, in the layout of `transformers`' `MLCDVisionModel`.
    pub vision: PathBuf,
    /// Folder of the language model, a Qwen3 with its tokenizer.
    pub language: PathBuf,
    /// File or folder with the merger's weights, named `model.mm_projector.*` or `visual.merger.*`; fresh ones without.
    pub adapter: Option<PathBuf>,
    /// Seed of a fresh merger: normal with deviation 0.02, biases zero, norm one; the same bits on every machine.
    pub seed: u64,
    /// Number type of all tensors.
    pub dtype: FloatType,
    /// Most bytes of tensors in a file.
    pub shard_size: ShardSize,
}

impl Merge {
    /// Reads the parts and writes the whole to `to`, which must hold no checkpoint.
    ///
    /// The tokenizer files of the language model go along, and `preprocessor_config.json` says how pictures are
    /// prepared. `told` hears the name of every weights file and its bytes of tensors when it is finished.
    ///
    /// # Errors
    ///
    /// [`FolderError`] names the file or tensor that is wrong; what was written of `to` goes away again.
    pub fn run(&self, to: &Path, told: &mut dyn FnMut(&str, u64)) -> Result<Written, FolderError> {
        let (config, language_tied) = description::read(self)?;
        let mut outputs = rice::outputs(&Checkpoint::open(&self.vision)?, &config, self.dtype)?;
        outputs.extend(self.merger(&config)?);
        outputs.extend(self.language(&config, language_tied)?);
        let mut carried = tokenizer_files(&self.language);
        carried.push(Carried::new(processor::FILE, to_text(to, &processor::settings(&config))?));
        let json = to_text(to, &description::to_json(&config))?;
        write_checkpoint(to, outputs, self.shard_size, &carried, &json, told)
    }

    fn merger(&self, config: &ModelConfig) -> Result<Vec<Output>, FolderError> {
        if let Some(path) = &self.adapter {
            return adapter::outputs(&Checkpoint::open_folder_or_file(path)?, config, self.dtype);
        }
        let fresh = |(name, shape): (String, Vec<usize>)| {
            let content = Content::Fresh(FreshValues::of(config, self.seed, &name));
            Output { name, shape, dtype: self.dtype, content }
        };
        Ok(shapes_of(config, Module::Merger).map(fresh).collect())
    }

    /// The language model's tensors have their names already. A head that is tied, and so left out, becomes a copy of
    /// the embedding.
    fn language(&self, config: &ModelConfig, tied: bool) -> Result<Vec<Output>, FolderError> {
        let checkpoint = Checkpoint::open(&self.language)?;
        let mut stock = Stock::of(&checkpoint);
        stock.settle_head(tied)?;
        stock.settle_head(false)?;
        stock.discard(|name| name.ends_with(".inv_freq"));
        let outputs = stock.take_all(shapes_of(config, Module::Language), self.dtype)?;
        stock.finish()?;
        Ok(outputs)
    }
}

/// Names and shapes of a module's parameters.
fn shapes_of(config: &ModelConfig, module: Module) -> impl Iterator<Item = (String, Vec<usize>)> {
    config.parameter_shapes().into_iter().filter(move |(name, _)| Module::of(name) == module)
}
