//! `talkoot model inspect`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use talkoot_trainer::huggingface::Summary;

use crate::commands::say;

/// Tells what a checkpoint is. Only descriptions are read, so it takes moments, however large the model.
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// Folder with config.json and weights in one safetensors file or several.
    folder: PathBuf,
    /// Everything, every tensor too, as JSON.
    #[arg(long)]
    json: bool,
    /// Every tensor: name, shape, number type, file.
    #[arg(long, conflicts_with = "json")]
    tensors: bool,
}

impl Inspect {
    pub(crate) fn run(self) -> Result<()> {
        let summary = Summary::read(&self.folder)?;
        say(&match self.json {
            true => serde_json::to_string_pretty(&summary)?,
            false => summary.to_text(self.tensors),
        });
        Ok(())
    }
}
