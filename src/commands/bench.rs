//! `talkoot bench`

mod step;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

/// Measures this machine; `--json` prints one object a line.
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Seconds and memory of one training step.
    Step(step::Step),
}

impl Bench {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self {
            Self::Step(step) => step.run(),
        }
    }
}
