//! `talkoot lab member`

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::Args;
use talkoot_netlab::member;

/// A process of a laboratory.
#[derive(Debug, Args)]
pub(crate) struct Member;

impl Member {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(member::obey())?;
        runtime.shutdown_background();
        Ok(ExitCode::SUCCESS)
    }
}

/// How this program is started as a process of a laboratory.
pub(crate) fn program(role: &'static str) -> Result<impl Fn() -> Command> {
    let own = std::env::current_exe().context("finding this program")?;
    Ok(move || {
        let mut command = Command::new(&own);
        command.args(["lab", role]);
        command
    })
}
