//! How fast a GPU trains: seconds and memory of a step, and model FLOPs utilisation. **Not yet run on a GPU.**

use std::time::Instant;

use anyhow::{Context, Result};
use serde::Serialize;
use talkoot_cuda::{
    Cuda,
    choice::{Choice, find},
    class::{Class, Exact},
    device::{Device as _, Driver},
    fast::{Fast, TensorCores},
};
use talkoot_trainer::{
    backend::{Backend, LinearShape},
    measure::{self, CASES, PRESETS, StepFigures, StepRun},
    model::Keep,
};

use super::super::emit;
use crate::commands::say;

/// Side of the matrices whose product shows what tensor cores can do.
const SIDE: usize = 8192;
/// Products that are timed; the fastest counts.
const PRODUCTS: usize = 8;

/// What is measured.
#[derive(Debug)]
pub(super) struct Speed {
    pub(super) device: Choice,
    pub(super) presets: Vec<String>,
    pub(super) iters: usize,
    /// Floating-point operations a second that another program reached.
    pub(super) peak: f64,
    pub(super) json: bool,
}

/// One preset in one class.
#[derive(Serialize)]
struct Row {
    class: &'static str,
    /// What does the products of the class fast.
    products: &'static str,
    #[serde(flatten)]
    step: StepFigures,
    /// Bytes of the GPU's memory in use behind the last step, of all programs together; nothing is given back before.
    gpu_bytes: usize,
    /// Operations a second that a large bf16 product reached, here or elsewhere.
    peak_flops: f64,
    /// Share of the peak that the model's own operations took.
    mfu: f64,
}

impl Speed {
    /// Measures every preset in both classes. What fails is said, and the rest goes on; whether all went well.
    pub(super) fn run(&self) -> Result<bool> {
        let mut fine = true;
        let peak = self.peak.max(self.said("bf16 peak", self.own_peak(), &mut fine).unwrap_or(0.0));
        if !self.json {
            say(&format!("bf16 peak    {:.1} TFLOP/s", peak / 1e12));
            say("preset  class    step s   tokens/s   GPU MiB     MFU");
        }
        for preset in &self.presets {
            for class in [TensorCores::NAME, Exact::NAME] {
                let row = self.measure(preset, class, peak);
                if let Some(row) = self.said(&format!("{preset}, {class}"), row, &mut fine) {
                    self.print(&row)?;
                }
            }
        }
        Ok(fine)
    }

    /// What was measured; a failure is printed and noted.
    fn said<T>(&self, what: &str, found: Result<T>, fine: &mut bool) -> Option<T> {
        found
            .inspect_err(|error| {
                *fine = false;
                // in JSON, too, a line that says what is missing
                say(&if self.json {
                    serde_json::json!({ "failed": what, "why": format!("{error:#}") }).to_string()
                } else {
                    format!("{what}: {error:#}")
                });
            })
            .ok()
    }

    /// A device of its own each time, so that memory is this measurement's.
    fn open(&self) -> Result<Cuda<Driver>> {
        let driver = find(&self.device, &mut None)?;
        Ok(Cuda::new(driver.context("no GPU to measure: see talkoot doctor")?))
    }

    fn open_fast(&self) -> Result<Fast<Driver>> {
        let gpu = self.open()?;
        let class = TensorCores::of(gpu.device())?;
        Ok(gpu.in_class(class))
    }

    /// Operations a second of a large product, by what the class fast uses.
    fn own_peak(&self) -> Result<f64> {
        let gpu = self.open_fast()?;
        let ones = vec![1.0f32; SIDE * SIDE];
        let (x, weight, mut y) = (gpu.upload(&ones)?, gpu.upload(&ones)?, gpu.scratch(SIDE * SIDE)?);
        let shape = LinearShape { rows: SIDE, inputs: SIDE, outputs: SIDE };
        let mut least = f64::INFINITY;
        for _ in 0..=PRODUCTS {
            gpu.device().synchronise()?;
            let started = Instant::now();
            gpu.linear(shape, &x, &weight, None, None, &mut y)?;
            gpu.device().synchronise()?;
            least = least.min(started.elapsed().as_secs_f64());
        }
        Ok(2.0 * (SIDE as f64).powi(3) / least)
    }

    fn measure(&self, preset: &str, class: &'static str, peak_flops: f64) -> Result<Row> {
        let preset = PRESETS.iter().find(|known| known.name == preset);
        let preset = *preset.context("no such preset: choose small, 1b, 4b, or another of bench step's")?;
        let case = *CASES.iter().find(|case| case.name == "packed8k").context("there is a case packed8k")?;
        let run = StepRun { preset, case, keep: Keep::Inputs, warmup: 2, steps: self.iters };
        let (step, products, gpu_bytes) = if class == TensorCores::NAME {
            let gpu = self.open_fast()?;
            let step = measure::step(&gpu, gpu.device().name(), &run)?;
            let products = if gpu.class().has_library() { "cuBLASLt" } else { "own kernels" };
            (step, products, used(gpu.device())?)
        } else {
            let gpu = self.open()?;
            let step = measure::step(&gpu, gpu.device().name(), &run)?;
            (step, "own kernels", used(gpu.device())?)
        };
        let mfu = step.model_flops / step.median_s / peak_flops;
        Ok(Row { class, products, step, gpu_bytes, peak_flops, mfu })
    }

    fn print(&self, row: &Row) -> Result<()> {
        if self.json {
            return emit(row);
        }
        let Row { class, step, gpu_bytes, mfu, .. } = row;
        say(&format!(
            "{:<7} {class:<6} {:>8.4} {:>10.1} {:>9} {:>6.1}%",
            step.preset,
            step.median_s,
            step.tokens_per_s,
            gpu_bytes >> 20,
            100.0 * mfu
        ));
        Ok(())
    }
}

/// Bytes in use.
fn used(gpu: &Driver) -> Result<usize> {
    let (free, all) = gpu.memory()?;
    Ok(all - free)
}
