//! `talkoot coordinator`

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Args;

use super::{Give, Listen, serve};

/// Serves the run in a folder.
#[derive(Debug, Args)]
pub(crate) struct Coordinator {
    /// The folder that `talkoot run init` made.
    #[arg(long)]
    dir: PathBuf,
    #[command(flatten)]
    listen: Listen,
    #[command(flatten)]
    give: Give,
    /// Go on serving the ledger and the blobs when the run has ended.
    #[arg(long)]
    stay: bool,
    /// Go on from a folder that was copied or restored here. Only when the original is gone for good and neither a
    /// member nor a witness holds a newer checkpoint; otherwise the ledger forks.
    #[arg(long)]
    claim_copy: bool,
}

impl Coordinator {
    pub(crate) fn run(self) -> Result<ExitCode> {
        // everybody's blobs are archived here, so everybody may have them from here
        let network = self.listen.network(self.give.line(true))?;
        let options = talkoot_coordinator::Options { network, stay: self.stay, claim: self.claim_copy };
        serve(|cancel| async move {
            let coordinator = talkoot_coordinator::Coordinator::start(&self.dir, options).await?;
            Ok(coordinator.run(cancel).await?)
        })
    }
}
