//! `talkoot lab`: experiments before anybody lends a GPU.

mod converge;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

/// What can be tried.
#[derive(Debug, Subcommand)]
pub(crate) enum Lab {
    /// Whether members who exchange contributions learn as well as one machine would: trains small models in many ways.
    Converge(converge::Converge),
}

impl Lab {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self {
            Self::Converge(converge) => converge.run(),
        }
    }
}
