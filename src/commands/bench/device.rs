//! `talkoot bench device`

use std::{process::ExitCode, time::Instant};

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use talkoot_cuda::{
    Cuda,
    check::{GROUPS, check},
    choice::{Choice, find},
    device::{Device as _, Driver},
};

use super::emit;
use crate::commands::say;

/// Runs every operation on a GPU over odd shapes, and compares all results with the processor's, bit for bit. Exit code 1
/// when one differs.
#[derive(Debug, Args)]
pub(crate) struct Device {
    /// The GPU: cuda:N, counted from 0.
    #[arg(long, value_name = "DEVICE", default_value_t = Choice::Cuda(0))]
    device: Choice,
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
        let Some(driver) = find(self.device, &mut None)? else {
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
