//! `talkoot demo`

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Args;
use talkoot_node::Cheat;

use crate::demo;

/// The whole thing on this machine, in minutes.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Keep the run here; without it a temporary folder is used and named.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Write the report as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Everything follows from it; the same seed gives the same weights.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Let one node lie: random, stale, lazy, wrong-data, one-step or hoard.
    #[arg(long, value_name = "LIE", num_args = 0..=1, default_missing_value = "random")]
    cheat: Option<Cheat>,
    /// Kill a node and then the coordinator in the middle of a round, and start them again.
    #[arg(long)]
    kill: bool,
    /// Fewer rounds and less data: shows that everything works, not that anything is learnt.
    #[arg(long)]
    short: bool,
}

impl Demo {
    pub(crate) fn run(self, threads: Option<usize>) -> Result<ExitCode> {
        demo::play(&demo::Script {
            dir: self.dir,
            json: self.json,
            seed: self.seed,
            cheat: self.cheat,
            kill: self.kill,
            short: self.short,
            threads,
        })
    }
}
