//! `talkoot lab`: experiments before anybody lends a GPU.

mod attack;
mod converge;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

/// What can be tried.
#[derive(Debug, Subcommand)]
pub(crate) enum Lab {
    /// Whether members who exchange contributions learn as well as one machine would: trains small models in many ways.
    Converge(converge::Converge),
    /// Who is caught, when, and at what price: a run of a thousand members on the real rules, some of whom lie.
    Attack(attack::Attack),
}

impl Lab {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self {
            Self::Converge(converge) => converge.run(),
            Self::Attack(attack) => attack.run(),
        }
    }
}
