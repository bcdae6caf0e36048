//! `talkoot witness`

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use talkoot_witness::{Limits, identity};
use tokio::net::TcpListener;

use super::{read_vkey, say, serve};

/// Makes a witness, and runs it.
#[derive(Debug, Subcommand)]
pub(crate) enum Witness {
    /// Makes the witness's key and prints the public half.
    Init(Init),
    /// Answers logs that ask for cosignatures.
    Serve(Serve),
}

/// Makes a key.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The witness's folder.
    #[arg(long)]
    dir: PathBuf,
    /// The key's name, for good: an address of yours without scheme, such as witness.example.org/talkoot.
    #[arg(long)]
    name: String,
}

/// Answers logs.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The witness's folder.
    #[arg(long)]
    dir: PathBuf,
    /// TCP address for HTTP; port 0 takes any. Put a web server with TLS in front of it where others can listen in.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Verifier key of a log to look after, or @FILE with it; may be given again and again.
    #[arg(long = "log", value_name = "VKEY")]
    logs: Vec<String>,
    /// Connections at once.
    #[arg(long, default_value_t = Limits::default().connections)]
    connections: usize,
    /// Requests a second that one address may make.
    #[arg(long, default_value_t = Limits::default().per_second)]
    per_second: u32,
}

impl Witness {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self {
            Self::Init(init) => {
                say(&identity::create(&init.dir, &init.name)?.verifier().to_string());
                Ok(ExitCode::SUCCESS)
            }
            Self::Serve(serving) => serving.run(),
        }
    }
}

impl Serve {
    fn run(self) -> Result<ExitCode> {
        let logs = self.logs.iter().map(|log| read_vkey(log)).collect::<Result<Vec<_>>>()?;
        let signer = identity::open(&self.dir)?;
        let vkey = signer.verifier();
        let witness = talkoot_ledger::Witness::open(&self.dir.join("state"), signer, &logs)?;
        let limits =
            Limits { connections: self.connections, per_second: self.per_second, ..Limits::default() };
        serve(|cancel| async move {
            let listener = TcpListener::bind(self.listen)
                .await
                .with_context(|| format!("listening on {}", self.listen))?;
            let url = format!("http://{}", listener.local_addr()?);
            let file = self.dir.join("address.txt");
            std::fs::write(&file, format!("{url}\n"))
                .with_context(|| format!("writing {}", file.display()))?;
            tracing::info!(%vkey, %url, logs = logs.len(), "witness is ready");
            Ok(talkoot_witness::serve(listener, witness, limits, cancel).await?)
        })
    }
}
