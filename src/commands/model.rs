//! `talkoot model`

mod check;
mod convert;
mod inspect;
mod merge;

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use clap::Subcommand;
use talkoot_trainer::huggingface::Written;

use super::{say, tell};

/// Works with checkpoints in the layout of the Hugging Face hub.
#[derive(Debug, Subcommand)]
pub(crate) enum Model {
    /// Tells what a checkpoint is: shape, parts, bytes, and the memory that training takes.
    Inspect(inspect::Inspect),
    /// Builds a model to begin with from a RICE-ViT folder and a Qwen3 folder.
    Merge(merge::Merge),
    /// Rewrites a checkpoint in another number type or in files of another size.
    Convert(convert::Convert),
    /// Compares the model with reference numbers of the published implementation.
    Check(check::Check),
}

impl Model {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self {
            Self::Inspect(inspect) => inspect.run()?,
            Self::Merge(merge) => merge.run()?,
            Self::Convert(convert) => convert.run()?,
            Self::Check(check) => return check.run(),
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Tells of a weights file that is finished; a large model takes minutes.
fn tell_file(name: &str, bytes: u64) {
    tell(&format!("{name}  {bytes} bytes"));
}

/// Says what was written.
fn say_written(folder: &Path, written: &Written) {
    say(&format!(
        "{}: {} parameters in {} tensors, {} file(s) of weights; {}",
        folder.display(),
        written.parameters,
        written.tensors,
        written.files.len(),
        written.others.join(", ")
    ));
}
