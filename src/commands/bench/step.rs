//! `talkoot bench step`

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Args;
use talkoot_cuda::device::Device;
use talkoot_trainer::{
    measure::{self, CASES, PRESETS, StepFigures, StepRun},
    model::Keep,
};

use super::cpu::CpuChoice;
use crate::commands::{device::Measured, say};

/// Seconds and memory of one training step: forward, backward, clip, AdamW over all parameters.
#[derive(Debug, Args)]
pub(crate) struct Step {
    /// The model: demo (1 M parameters), mid (41 M), wide (mid with 151,936 token ids), small, 1b or 4b.
    #[arg(long, default_value = "mid")]
    preset: String,
    /// The pack: demo, image448, packed1024, packed8k or text8k.
    #[arg(long, default_value = "image448")]
    case: String,
    /// Keep all intermediate values instead of computing blocks again in backward.
    #[arg(long)]
    no_checkpoint: bool,
    /// Measure the plain reference model on candle instead: forward and backward, without the optimiser.
    #[arg(long, conflicts_with_all = ["no_checkpoint", "products", "isa", "device"])]
    reference: bool,
    #[command(flatten)]
    cpu: CpuChoice,
    #[command(flatten)]
    measured: Measured,
    /// Steps that are counted.
    #[arg(long, default_value_t = 10)]
    iters: usize,
    /// Steps before them.
    #[arg(long, default_value_t = 2)]
    warmup: usize,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

impl Step {
    pub(crate) fn run(self) -> Result<ExitCode> {
        ensure!(self.iters > 0, "--iters must be at least 1");
        let preset = PRESETS.iter().find(|preset| preset.name == self.preset);
        let names = |all: Vec<&str>| all.join(", ");
        let preset = preset.with_context(|| {
            format!("no preset {:?}: choose {}", self.preset, names(PRESETS.iter().map(|p| p.name).collect()))
        })?;
        let case = CASES.iter().find(|case| case.name == self.case).with_context(|| {
            format!("no case {:?}: choose {}", self.case, names(CASES.iter().map(|c| c.name).collect()))
        })?;
        let run = StepRun {
            preset: *preset,
            case: *case,
            keep: if self.no_checkpoint { Keep::Everything } else { Keep::Inputs },
            warmup: self.warmup,
            steps: self.iters,
        };
        let figures = if self.reference {
            measure::reference_step(&run)?
        } else if let Some(gpu) = self.measured.gpu()? {
            measure::step(&gpu, gpu.device().name(), &run)?
        } else {
            let (cpu, device) = self.cpu.open()?;
            measure::step(&cpu, &device, &run)?
        };
        if self.json {
            say(&serde_json::to_string(&figures)?);
        } else {
            print(&figures);
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn print(figures: &StepFigures) {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let threads = if figures.threads == 1 { "1 thread" } else { &format!("{} threads", figures.threads) };
    say(&format!("{} on {}, {threads} ({})", figures.preset, figures.case, figures.device));
    say(&format!("  step     {:.4} s median, {:.4} s least", figures.median_s, figures.min_s));
    say(&format!("  speed    {:.1} tokens/s", figures.tokens_per_s));
    say(&format!(
        "  memory   {:.0} MiB at most, {:.0} MiB of it weights and moments of {} parameters",
        mib(figures.peak_bytes),
        mib(figures.state_bytes),
        figures.parameters
    ));
}
