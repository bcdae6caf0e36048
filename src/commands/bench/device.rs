//! `talkoot bench device`

mod speed;

use std::{process::ExitCode, time::Instant};

use anyhow::{Result, ensure};
use clap::Args;
use serde::Serialize;
use talkoot_cuda::{
    Cuda,
    check::{GROUPS, check},
    choice::{Choice, find},
    device::{Device as _, Driver},
};

use self::speed::Speed;
use super::emit;
use crate::commands::say;

/// Runs every operation on a GPU over odd shapes, and compares all results with the processor's, bit for bit; or, with
/// --speed, measures how fast it trains. Exit code 1 when one differs, or something could not be measured.
#[derive(Debug, Args)]
pub(crate) struct Device {
    /// The GPU: cuda:N, counted from 0.
    #[arg(long, value_name = "DEVICE", default_value_t = Choice::Cuda(0))]
    device: Choice,
    /// Measure instead: seconds, tokens a second, memory and MFU of steps of packed8k, in both classes.
    #[arg(long)]
    speed: bool,
    /// Models to measure: demo, mid, wide, small, 1b, 4b.
    #[arg(
        long,
        value_name = "PRESETS",
        value_delimiter = ',',
        default_value = "small,1b,4b",
        requires = "speed"
    )]
    presets: Vec<String>,
    /// Steps of each that are counted.
    #[arg(long, default_value_t = 5, requires = "speed")]
    iters: usize,
    /// What another program reached with bf16 on this GPU, in TFLOP/s: MFU is held to the larger of that and our own.
    #[arg(long, value_name = "TFLOPS", default_value_t = 0.0, requires = "speed")]
    peak: f64,
    /// Print one JSON object a group of operations.
    #[arg(long)]
    json: bool,
}

/// What came out of a group of operations.
#[derive(Serialize)]
struct Row<'a> {
    device: &'a str,
    group: &'a str,
    cases: usize,
    differences: Vec<String>,
    seconds: f64,
}

impl Device {
    pub(crate) fn run(self) -> Result<ExitCode> {
        if self.speed {
            ensure!(self.iters > 0, "--iters must be at least 1");
            let Self { device, presets, iters, peak, json, .. } = self;
            let fine = Speed { device, presets, iters, peak: peak * 1e12, json }.run()?;
            return Ok(if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        let Some(driver) = find(&self.device, &mut None)? else {
            say("no GPU to check: see talkoot doctor");
            return Ok(ExitCode::FAILURE);
        };
        let same = self.check(&Cuda::<Driver>::new(driver))?;
        Ok(if same { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn check(&self, gpu: &Cuda<Driver>) -> Result<bool> {
        let mut same = true;
        for group in GROUPS {
            let started = Instant::now();
            let outcome = check(gpu, group);
            let (cases, differences) = (outcome.cases, outcome.differences);
            same &= differences.is_empty();
            let device = gpu.device().name();
            let row = Row { device, group, cases, differences, seconds: started.elapsed().as_secs_f64() };
            if self.json {
                emit(&row)?;
                continue;
            }
            let differ = row.differences.len();
            say(&format!("{group:<12} {cases:>3} cases, {differ} differ, {:.1} s", row.seconds));
            row.differences.iter().for_each(|difference| say(&format!("  {difference}")));
        }
        Ok(same)
    }
}
