//! `talkoot bench bits`

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use talkoot_cuda::device::Device;
use talkoot_trainer::{measure, model::Keep};

use super::cpu::CpuChoice;
use crate::commands::{device::Measured, say};

/// Whether this machine computes the same bits as all others. Exit code 1 when it doesn't.
#[derive(Debug, Args)]
pub(crate) struct Bits {
    #[command(flatten)]
    cpu: CpuChoice,
    #[command(flatten)]
    measured: Measured,
    /// Keep all intermediate values instead of computing blocks again in backward.
    #[arg(long)]
    no_checkpoint: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

impl Bits {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let keep = if self.no_checkpoint { Keep::Everything } else { Keep::Inputs };
        let found = match self.measured.gpus()? {
            Some(gpu) => measure::bits(&gpu, gpu.device().name(), keep)?,
            None => {
                let (cpu, device) = self.cpu.open()?;
                measure::bits(&cpu, &device, keep)?
            }
        };
        if self.json {
            say(&serde_json::to_string(&found)?);
        } else {
            say(&format!("gradients {}", found.gradients));
            say(&format!("weights   {}", found.weights));
            say(match found.exact {
                true => "the bits of the exact class",
                false => {
                    "NOT the bits of the exact class: contributions of this machine would not be accepted"
                }
            });
        }
        Ok(if found.exact { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
