//! `talkoot verifier`

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Args;

use super::{Listen, Member, device::Trains, read_link, serve};

/// Checks what others contribute.
#[derive(Debug, Args)]
pub(crate) struct Verifier {
    /// The verifier's folder: its key, its copy of the ledger, its blobs. Made when it is not there.
    #[arg(long)]
    dir: PathBuf,
    /// The join link, or @FILE with one.
    #[arg(long, value_name = "LINK")]
    join: String,
    #[command(flatten)]
    listen: Listen,
    #[command(flatten)]
    member: Member,
    #[command(flatten)]
    trains: Trains,
    /// Rehearse a liar: accuse. Where several verifiers have to agree, it will be found out and excluded.
    #[arg(long, value_name = "LIE", hide = true)]
    cheat: Option<talkoot_verifier::Cheat>,
}

impl Verifier {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let options = talkoot_verifier::Options {
            dir: self.dir,
            link: read_link(&self.join)?,
            network: self.listen.network(self.member.line())?,
            disk_bytes: self.member.disk_bytes(),
            cheat: self.cheat,
            recovery: self.member.recovery,
        };
        self.trains.prepare()?;
        serve(|cancel| async move {
            let verifier = tokio::select! {
                biased;
                () = cancel.cancelled() => return Ok(()),
                verifier = talkoot_verifier::Verifier::start(options) => verifier?,
            };
            Ok(Box::pin(verifier.run(cancel)).await?)
        })
    }
}
