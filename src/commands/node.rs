//! `talkoot node`

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Args;
use talkoot_execution::Arithmetic;
use talkoot_node::Cheat;

use super::{Listen, Member, device::Trains, read_link, serve};

/// Takes part in a run.
#[derive(Debug, Args)]
pub(crate) struct Node {
    /// The node's folder: its key, its copy of the ledger, its blobs. Made when it is not there.
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
    /// Whose arithmetic is trained in: `exact`, the same on every machine, or `library`, a library's matrix products on the processor,
    /// or `tensor-cores`, a GPU's, in bf16. The last two are for runs of the verification class `fast` whose limits were calibrated for them.
    #[arg(long, value_name = "exact|library|tensor-cores", default_value = "exact")]
    arithmetic: Arithmetic,
    /// Rehearse a liar: random, stale, lazy, wrong-data, one-step or hoard. It will be found out and excluded.
    #[arg(long, value_name = "LIE", hide = true)]
    cheat: Option<Cheat>,
}

impl Node {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let options = talkoot_node::Options {
            dir: self.dir,
            link: read_link(&self.join)?,
            network: self.listen.network(self.member.line())?,
            disk_bytes: self.member.disk_bytes(),
            recovery: self.member.recovery,
            arithmetic: self.arithmetic,
            cheat: self.cheat,
        };
        self.trains.prepare()?;
        serve(|cancel| async move {
            let node = tokio::select! {
                biased;
                () = cancel.cancelled() => return Ok(()),
                node = talkoot_node::Node::start(options) => node?,
            };
            Ok(Box::pin(node.run(cancel)).await?)
        })
    }
}
