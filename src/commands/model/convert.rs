//! `talkoot model convert`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use talkoot_trainer::huggingface::{Conversion, FloatType, ShardSize};

use super::{say_written, tell_file};

/// Rewrites a checkpoint in another number type or in files of another size.
#[derive(Debug, Args)]
pub(crate) struct Convert {
    /// Folder with config.json and weights in one safetensors file or several.
    folder: PathBuf,
    /// Number type of all tensors: f32, bf16 or f16. Without it each keeps its own, and its bytes.
    #[arg(long)]
    dtype: Option<FloatType>,
    /// Most bytes of a weights file.
    #[arg(long, value_name = "SIZE", default_value_t = ShardSize::default())]
    shard_size: ShardSize,
    /// Where the new checkpoint goes: an empty folder, or one to be made.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

impl Convert {
    pub(crate) fn run(self) -> Result<()> {
        let conversion = Conversion { dtype: self.dtype, shard_size: self.shard_size };
        let written = conversion.run(&self.folder, &self.out, &mut tell_file)?;
        say_written(&self.out, &written);
        Ok(())
    }
}
