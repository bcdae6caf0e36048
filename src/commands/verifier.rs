//! `talkoot verifier`

mod calibrate;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};

use super::{Listen, Member, device::Trains, read_link, serve};

/// Checks what others contribute.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Verifier {
    #[command(subcommand)]
    task: Option<Task>,
    #[command(flatten)]
    serve: Option<Serve>,
}

/// What else a verifier is for.
#[derive(Debug, Subcommand)]
enum Task {
    /// Measures how far honest members and liars are from a replay, on a run's own model and data, and writes the limits of the
    /// verification class `fast` into its terms.
    Calibrate(calibrate::Calibrate),
}

/// Takes part in a run.
#[derive(Debug, Args)]
struct Serve {
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
    /// Rehearse a liar: accuse, or stamp. Where several verifiers have to agree, or by canaries, it will be found out and excluded.
    #[arg(long, value_name = "LIE", hide = true)]
    cheat: Option<talkoot_verifier::Cheat>,
}

impl Verifier {
    /// Whether it takes part in a run, which is a service, or answers a question.
    pub(crate) const fn is_service(&self) -> bool {
        self.task.is_none()
    }

    pub(crate) fn run(self) -> Result<ExitCode> {
        match self.task {
            Some(Task::Calibrate(calibrate)) => calibrate.run(),
            None => self.serve.context("--dir and --join say where a verifier works")?.run(),
        }
    }
}

impl Serve {
    fn run(self) -> Result<ExitCode> {
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
