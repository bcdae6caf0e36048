//! `talkoot lab attack`

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, bail};
use clap::Args;
use talkoot_laboratory::attack::{Attacker, Scenario, Verifiers};

use crate::commands::say;

/// Simulates a run on the real ledger rules. What is caught is held to the mathematics of sampling.
#[derive(Debug, Args)]
pub(crate) struct Attack {
    /// Honest members.
    #[arg(long, value_name = "N", default_value_t = 900)]
    honest: usize,
    /// Attackers: `KIND=COUNT`, several with commas. Kinds: lazy, whitewasher, sometimes-N (one round in N), sleeper-N
    /// (honest for N rounds).
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "KIND=COUNT",
        default_value = "lazy=10,sometimes-10=20,sleeper-60=20,whitewasher=2"
    )]
    attackers: Vec<String>,
    /// Honest verifiers.
    #[arg(long, value_name = "N", default_value_t = 1)]
    verifiers: usize,
    /// Verifiers that say of everything that it passes.
    #[arg(long, value_name = "N", default_value_t = 0)]
    stamping: usize,
    /// Verifiers that accuse one honest contribution in twenty.
    #[arg(long, value_name = "N", default_value_t = 0)]
    accusing: usize,
    /// Rounds.
    #[arg(long, value_name = "N", default_value_t = 200)]
    rounds: u32,
    /// Passed checks in a row below which everything is checked.
    #[arg(long, value_name = "N", default_value_t = 10)]
    probation: u32,
    /// Floor of the probability of a check.
    #[arg(long, value_name = "P", default_value_t = 0.05)]
    rate: f64,
    /// Verifiers that have to find the same before anybody is excluded.
    #[arg(long, value_name = "N", default_value_t = 1)]
    confirmations: u32,
    /// Probability that a commit is a canary; none are sent when left out.
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    canaries: f64,
    /// Everything that is drawn follows from it.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// File for a plot of what verification costs, round by round.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

impl Attack {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let scenario = Scenario {
            honest: self.honest,
            attackers: self.attackers.iter().map(|text| parse(text)).collect::<Result<_>>()?,
            verifiers: Verifiers { honest: self.verifiers, stamping: self.stamping, accusing: self.accusing },
            rounds: self.rounds,
            probation: self.probation,
            rate: self.rate,
            confirmations: self.confirmations,
            canaries: self.canaries,
            seed: self.seed,
        };
        let bar = indicatif::ProgressBar::new(u64::from(self.rounds)).with_message("rounds");
        let outcome = scenario.run(|round| bar.set_position(round))?;
        bar.finish_and_clear();
        if let Some(path) = &self.plot {
            let svg = outcome.plot().map_err(anyhow::Error::msg)?;
            fs::write(path, svg).with_context(|| format!("writing {}", path.display()))?;
        }
        if self.json {
            say(&serde_json::to_string(&outcome)?);
        } else {
            say(outcome.table().trim_end());
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn parse(text: &str) -> Result<(Attacker, usize)> {
    let Some((kind, count)) = text.split_once('=') else {
        bail!("`{text}` is not KIND=COUNT, such as lazy=10");
    };
    let kind = kind.parse().map_err(anyhow::Error::msg)?;
    Ok((kind, count.parse().with_context(|| format!("`{count}` is no number of attackers"))?))
}
