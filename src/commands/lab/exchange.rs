//! `talkoot lab exchange`

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

/// A process of an exchange, as `talkoot bench swarm --round` starts it.
#[derive(Debug, Args)]
pub(crate) struct Exchange;

impl Exchange {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(talkoot_replica::exchange::obey())?;
        runtime.shutdown_background();
        Ok(ExitCode::SUCCESS)
    }
}
