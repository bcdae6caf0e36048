//! What the program can be asked to do.

mod audit;
mod bench;
mod chat;
mod choosing;
mod coordinator;
mod dataset;
mod demo;
mod device;
mod doctor;
mod eval;
mod key;
mod lab;
mod model;
mod node;
mod plan;
mod proof;
pub(crate) mod run;
mod verifier;
mod witness;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use talkoot_ledger::VerifierKey;
use talkoot_network::{Line, NetworkConfig};
use talkoot_protocol::{identity::MemberId, link::JoinLink};
use tokio_util::sync::CancellationToken;

/// A community trains a vision-language model that no member could train alone, and anyone can check how every weight
/// came to be.
#[derive(Debug, Parser)]
#[command(name = "talkoot", version, propagate_version = true)]
pub(crate) struct Arguments {
    /// Threads for training and replaying; all cores when left out. The results are the same with any number.
    #[arg(long, global = true, value_name = "N")]
    threads: Option<usize>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The whole thing on this machine, in minutes: data, five processes, three stages, audit.
    Demo(demo::Demo),
    /// Makes data: draws a small set, builds a tokenizer, packs, inspects, verifies, compares.
    #[command(subcommand)]
    Dataset(dataset::Dataset),
    /// Works with checkpoints: looks into them, merges, converts.
    #[command(subcommand)]
    Model(model::Model),
    /// Makes a run, and exports its model.
    #[command(subcommand)]
    Run(run::Run),
    /// Serves a run: opens and closes rounds, writes the ledger.
    Coordinator(coordinator::Coordinator),
    /// Takes part in a run with this machine.
    Node(node::Node),
    /// Checks what others contribute by executing it again.
    Verifier(verifier::Verifier),
    /// Makes, shows, locks and replaces the keys of members.
    #[command(subcommand)]
    Key(key::Key),
    /// Cosigns checkpoints of ledgers, so that nobody can show two people two histories. Anybody can run one.
    #[command(subcommand)]
    Witness(witness::Witness),
    /// Gets and checks receipts: files that show, off-line, that an entry is in a ledger. Exit code 0 shown, 1 not
    /// shown, 2 inconclusive.
    #[command(subcommand)]
    Proof(proof::Proof),
    /// Checks a finished or running run from its files, as a stranger. Exit code 0 sound, 1 lie, 2 inconclusive.
    Audit(audit::Audit),
    /// Talks with a model, also about pictures.
    Chat(chat::Chat),
    /// Asks a model many questions and scores its answers.
    Eval(eval::Eval),
    /// Says what this machine has to train with: processor, GPUs and their driver, disk; and what is missing.
    Doctor(doctor::Doctor),
    /// Says what training a model needs: memory, operations, the cheapest setting that fits.
    Plan(plan::Plan),
    /// Measures this machine.
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Tries things out before anybody lends a GPU to them.
    #[command(subcommand)]
    Lab(lab::Lab),
}

impl Arguments {
    pub(crate) fn run(self) -> Result<ExitCode> {
        tracing_subscriber::fmt()
            .with_env_filter(
                tracing_subscriber::EnvFilter::try_from_default_env()
                    .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(self.command.log_level())),
            )
            .with_writer(std::io::stderr)
            .with_ansi(false)
            .init();
        talkoot_network::keyfile::ask_with(key::passphrase_for);
        if let Some(threads) = self.threads {
            rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build_global()
                .context("setting the number of threads")?;
        }
        match self.command {
            Command::Demo(demo) => demo.run(self.threads),
            Command::Dataset(dataset) => dataset.run(),
            Command::Model(model) => model.run(),
            Command::Run(run) => run.run(),
            Command::Coordinator(coordinator) => coordinator.run(),
            Command::Node(node) => node.run(),
            Command::Verifier(verifier) => verifier.run(),
            Command::Key(key) => key.run(),
            Command::Witness(witness) => witness.run(),
            Command::Proof(proof) => proof.run(),
            Command::Audit(audit) => audit.run(),
            Command::Chat(chat) => chat.run(),
            Command::Eval(eval) => eval.run(),
            Command::Doctor(doctor) => doctor.run(),
            Command::Plan(plan) => plan.run(),
            Command::Bench(bench) => bench.run(self.threads),
            Command::Lab(lab) => lab.run(),
        }
    }
}

impl Command {
    /// Services tell what they do; commands that answer a question only tell of trouble.
    const fn log_level(&self) -> &'static str {
        match self {
            Self::Coordinator(_) | Self::Node(_) | Self::Witness(_) => "warn,talkoot=info",
            Self::Verifier(verifier) if verifier.is_service() => "warn,talkoot=info",
            _ => "warn",
        }
    }
}

/// Where a service listens.
#[derive(Debug, Args)]
pub(crate) struct Listen {
    /// UDP address for finding each other and small messages; port 0 takes any.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:0")]
    listen: SocketAddr,
    /// UDP address for blobs; port 0 takes any.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:0")]
    bulk_listen: SocketAddr,
    /// Neither look for members on the local network nor be found there.
    #[arg(long)]
    no_lan: bool,
    /// A file of members to meet, one address a line, as a member prints its own; lines with # are skipped.
    #[arg(long, value_name = "FILE")]
    bootstrap: Option<PathBuf>,
    /// An address under which others can dial us, when it is not one that we listen on, as /ip4/192.0.2.1/udp/4001/quic-v1.
    #[arg(long, value_name = "ADDRESS")]
    announce: Vec<String>,
}

impl Listen {
    /// The network's settings.
    fn network(&self, line: Line) -> Result<NetworkConfig> {
        let mut bootstrap = Vec::new();
        if let Some(path) = &self.bootstrap {
            let text =
                std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
            bootstrap.extend(lines.map(str::to_owned));
        }
        Ok(NetworkConfig {
            control_listen: self.listen,
            bulk_listen: self.bulk_listen,
            bootstrap,
            lan: !self.no_lan,
            line,
            announce: self.announce.clone(),
            ..NetworkConfig::default()
        })
    }
}

/// What a service gives of its line.
#[derive(Debug, Args)]
pub(crate) struct Give {
    /// Most Mbit/s to send for blobs, headers included; as fast as the line lets it when left out.
    #[arg(long, value_name = "MBIT", value_parser = positive)]
    up_mbit: Option<f64>,
    /// Most Mbit/s to receive for blobs, headers included; as fast as the line lets it when left out.
    #[arg(long, value_name = "MBIT", value_parser = positive)]
    down_mbit: Option<f64>,
}

impl Give {
    fn line(&self, seeder: bool) -> Line {
        let bits = |mbit: Option<f64>| mbit.map(|mbit| (mbit * 1e6) as u64);
        Line { seeder, up_bits_per_sec: bits(self.up_mbit), down_bits_per_sec: bits(self.down_mbit) }
    }
}

/// What a member gives of its disk and to others.
#[derive(Debug, Args)]
pub(crate) struct Member {
    #[command(flatten)]
    give: Give,
    /// This line is there for others: they ask here first, and members behind routers are helped. For labs and servers that
    /// others can dial, not for homes.
    #[arg(long)]
    seeder: bool,
    /// Most GiB of disk for blobs; what the run does not need now makes room, least useful first.
    #[arg(long, value_name = "GIB", value_parser = positive)]
    disk_gib: Option<f64>,
    /// A key that you keep elsewhere, by its member id (`talkoot key show`): it may revoke this member's key, or put another in
    /// its place. Named when joining for the first time, and for good.
    #[arg(long, value_name = "MEMBER")]
    recovery: Option<MemberId>,
}

impl Member {
    fn line(&self) -> Line {
        self.give.line(self.seeder)
    }

    fn disk_bytes(&self) -> Option<u64> {
        self.disk_gib.map(|gib| (gib * f64::from(1 << 30)) as u64)
    }
}

/// A number above zero.
fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok(number),
        _ => Err("it has to be a number above zero".to_owned()),
    }
}

/// An error and its causes in one line.
pub(crate) fn one_line(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        // Some errors tell their cause themselves.
        if !text.contains(&cause) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&cause);
        }
    }
    text
}

/// Reads a join link, or the file that holds one when the text starts with `@`.
fn read_link(text: &str) -> Result<JoinLink> {
    let text = match text.strip_prefix('@') {
        Some(path) => {
            std::fs::read_to_string(path).with_context(|| format!("reading the join link in {path}"))?
        }
        None => text.to_owned(),
    };
    Ok(text.parse()?)
}

/// Reads a file, naming it when that fails.
fn read_file(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("reading {}", path.display()))
}

/// Reads a log's verifier key, or the file that holds one when the text starts with `@`.
fn read_vkey(text: &str) -> Result<VerifierKey> {
    let text = match text.strip_prefix('@') {
        Some(path) => std::fs::read_to_string(path).with_context(|| format!("reading the key in {path}"))?,
        None => text.to_owned(),
    };
    text.trim().parse().with_context(|| format!("reading the key {:?}", text.trim()))
}

/// Numbers as a sum: `3 + 4`.
fn sum(numbers: &[u64]) -> String {
    numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(" + ")
}

/// Runs a service until it ends or the first Ctrl-C or SIGTERM, upon which it leaves cleanly.
fn serve<F, S>(service: S) -> Result<ExitCode>
where
    S: FnOnce(CancellationToken) -> F,
    F: Future<Output = Result<()>>,
{
    // Two threads are plenty for the network; training has its own.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let cancel = CancellationToken::new();
        let token = cancel.clone();
        tokio::spawn(async move {
            stop_signal().await;
            tracing::info!("stopping");
            token.cancel();
        });
        Box::pin(service(cancel)).await
    })?;
    // A training thread may still be in its last step; nothing of it is wanted.
    runtime.shutdown_background();
    Ok(ExitCode::SUCCESS)
}

#[cfg(unix)]
async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
        }
        Err(_) => {
            let _ = tokio::signal::ctrl_c().await;
        }
    }
}

#[cfg(not(unix))]
async fn stop_signal() {
    let _ = tokio::signal::ctrl_c().await;
}

/// Prints a line that was asked for. A reader that has read enough and closed the pipe is no trouble, and changes
/// nothing about the exit code.
fn say(line: &str) {
    use std::io::{ErrorKind, Write};
    match writeln!(std::io::stdout(), "{line}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            tell(&format!("talkoot: writing the answer: {error}"))
        }
        _ => {}
    }
}

/// Tells somebody who watches; what a program reads goes elsewhere.
pub(crate) fn tell(line: &str) {
    eprintln!("{line}");
}
