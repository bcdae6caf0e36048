//! `talkoot model merge`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use talkoot_trainer::huggingface::{self, FloatType, ShardSize};

use super::{say_written, tell_file};

/// Builds a model to begin with from a RICE-ViT folder and a Qwen3 folder.
#[derive(Debug, Args)]
pub(crate) struct Merge {
    /// Folder of the vision tower, as transformers saves an `MLCDVisionModel`.
    #[arg(long, value_name = "FOLDER")]
    vision: PathBuf,
    /// Folder of the language model, a Qwen3 with its tokenizer.
    #[arg(long, value_name = "FOLDER")]
    language: PathBuf,
    /// Safetensors file or folder with a trained merger (`model.mm_projector.*`); without it the merger is fresh.
    #[arg(long, value_name = "PATH")]
    adapter: Option<PathBuf>,
    /// Everything about a fresh merger follows from it.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Number type of all tensors: f32, bf16 or f16.
    #[arg(long, default_value_t = FloatType::F32)]
    dtype: FloatType,
    /// Most bytes of a weights file.
    #[arg(long, value_name = "SIZE", default_value_t = ShardSize::default())]
    shard_size: ShardSize,
    /// Where the model goes: an empty folder, or one to be made.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

impl Merge {
    pub(crate) fn run(self) -> Result<()> {
        let merge = huggingface::Merge {
            vision: self.vision,
            language: self.language,
            adapter: self.adapter,
            seed: self.seed,
            dtype: self.dtype,
            shard_size: self.shard_size,
        };
        let written = merge.run(&self.out, &mut tell_file)?;
        say_written(&self.out, &written);
        Ok(())
    }
}
