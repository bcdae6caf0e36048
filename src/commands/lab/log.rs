//! `talkoot lab log`

use std::{path::PathBuf, process::ExitCode, time::Instant};

use anyhow::Result;
use clap::Args;
use talkoot_laboratory::attack::{Scenario, Verifiers};

use crate::commands::say;

/// Writes the ledger of a simulated run: real rules, keys, signatures, draws and tiles, invented contributions. For measuring
/// what reads a ledger, `talkoot audit` first of all.
#[derive(Debug, Args)]
pub(crate) struct Log {
    /// Where to write it: `ledger/` in this folder, as a coordinator has it.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Rounds.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    rounds: u32,
    /// Members that train.
    #[arg(long, value_name = "N", default_value_t = 16)]
    members: usize,
    /// Verifiers.
    #[arg(long, value_name = "N", default_value_t = 1)]
    verifiers: usize,
    /// Passed checks in a row below which everything is checked.
    #[arg(long, value_name = "N", default_value_t = 10)]
    probation: u32,
    /// Floor of the probability of a check.
    #[arg(long, value_name = "P", default_value_t = 0.05)]
    rate: f64,
    /// Everything that is drawn follows from it, keys included.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

impl Log {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let scenario = Scenario {
            honest: self.members,
            attackers: Vec::new(),
            verifiers: Verifiers { honest: self.verifiers, stamping: 0, accusing: 0 },
            rounds: self.rounds,
            probation: self.probation,
            rate: self.rate,
            confirmations: 1,
            canaries: 0.0,
            seed: self.seed,
        };
        let started = Instant::now();
        let bar = indicatif::ProgressBar::new(u64::from(self.rounds)).with_message("rounds");
        let outcome = scenario.record(&self.out.join("ledger"), |round| bar.set_position(round))?;
        bar.finish_and_clear();
        say(&format!(
            "{} entries of {} rounds in {} ({:.1} s); check them with: talkoot audit {} --replay 0",
            outcome.entries,
            outcome.rounds,
            self.out.join("ledger").display(),
            started.elapsed().as_secs_f64(),
            self.out.display(),
        ));
        Ok(ExitCode::SUCCESS)
    }
}
