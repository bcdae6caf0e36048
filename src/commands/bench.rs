//! `talkoot bench`

mod bits;
mod cpu;
mod step;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

/// Measures this machine; `--json` prints one object a line.
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Whether this machine computes the same bits as all others: two hashes of a short training.
    Bits(bits::Bits),
    /// Seconds and memory of one training step.
    Step(step::Step),
}

impl Bench {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self {
            Self::Bits(bits) => bits.run(),
            Self::Step(step) => step.run(),
        }
    }
}
