//! `talkoot proof`

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use talkoot_ledger::{Folder, Policy, Receipt, TileSource, VerifierKey, Witnessed, reader};
use talkoot_witness::HttpLog;

use super::{one_line, read_file, read_vkey, say, tell};

/// What was to be shown is not: evidence against the receipt, or against the log.
const NOT_SHOWN: u8 = 1;
/// Nothing can be said: a file or a server is missing.
const INCONCLUSIVE: u8 = 2;

/// Gets and checks receipts (`tlog-proof`).
#[derive(Debug, Subcommand)]
pub(crate) enum Proof {
    /// Gets the receipt of an entry from a log.
    Get(Get),
    /// Checks a receipt off-line; with --log also against what the log shows now.
    Check(Check),
}

/// Gets a receipt.
#[derive(Debug, Args)]
pub(crate) struct Get {
    /// The log: its folder, or its address.
    #[arg(long, value_name = "FOLDER|URL")]
    log: String,
    /// The entry's index.
    #[arg(long)]
    index: u64,
    /// The log's verifier key as you know it from elsewhere, or @FILE with it.
    #[arg(long, value_name = "VKEY")]
    key: String,
    /// Where to write the receipt.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Where to write the entry itself.
    #[arg(long, value_name = "FILE")]
    entry: Option<PathBuf>,
}

/// Checks a receipt.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The receipt.
    receipt: PathBuf,
    /// The entry that it has to show.
    #[arg(long, value_name = "FILE")]
    entry: PathBuf,
    /// The log's verifier key as you know it from elsewhere, or @FILE with it. May be left out when the policy lists
    /// the log.
    #[arg(long, value_name = "VKEY", required_unless_present = "policy")]
    key: Option<String>,
    /// Whose cosignatures are demanded: a file in the format of tlog-policy.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Also hold the receipt against what the log shows now: its folder, or its address.
    #[arg(long, value_name = "FOLDER|URL")]
    log: Option<String>,
}

impl Proof {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let code = match self {
            Self::Get(get) => get.run(),
            Self::Check(check) => check.run(),
        };
        Ok(ExitCode::from(code.unwrap_or_else(|error| {
            tell(&format!("talkoot: inconclusive: {}", one_line(&error)));
            INCONCLUSIVE
        })))
    }
}

impl Get {
    fn run(self) -> Result<u8> {
        let (source, key) = (log_at(&self.log)?, read_vkey(&self.key)?);
        let made = reader::current(&*source, &key).and_then(|signed| {
            let receipt = Receipt::make_at(&*source, &signed, self.index)?;
            Ok((receipt, reader::entry(&*source, &signed.checkpoint, self.index)?))
        });
        let (receipt, entry) = match made {
            Ok(made) => made,
            Err(error) => return refuse(error.is_inconclusive(), error.into()),
        };
        if let Some(path) = &self.entry {
            std::fs::write(path, &entry).with_context(|| format!("writing {}", path.display()))?;
        }
        std::fs::write(&self.out, receipt.to_string())
            .with_context(|| format!("writing {}", self.out.display()))?;
        say(&format!("receipt of entry {} ({} bytes): {}", self.index, entry.len(), self.out.display()));
        Ok(0)
    }
}

impl Check {
    fn run(self) -> Result<u8> {
        let policy = match &self.policy {
            Some(path) => Policy::parse(&read_file(path)?)
                .with_context(|| format!("reading the policy {}", path.display()))?,
            None => Policy::none(),
        };
        let key = self.key.as_deref().map(read_vkey).transpose()?;
        let (bytes, entry) = (read_file(&self.receipt)?, read_file(&self.entry)?);
        let checked = Receipt::parse(&bytes).and_then(|receipt| {
            let witnessed = match &key {
                Some(key) => receipt.verify(&entry, key, &policy),
                None => receipt.verify_listed(&entry, &policy),
            };
            witnessed.map(|witnessed| (receipt, witnessed))
        });
        let (receipt, witnessed) = match checked {
            Ok(checked) => checked,
            Err(error) => return refuse(false, error.into()),
        };
        if let Some(log) = &self.log {
            let key = match key {
                Some(key) => key,
                None => listed_key(&policy, &witnessed)?,
            };
            let source = log_at(log)?;
            let held = reader::current(&*source, &key).and_then(|current| {
                reader::check_kept(
                    &*source,
                    &key,
                    &current.checkpoint,
                    "the receipt",
                    receipt.note.as_bytes(),
                )
            });
            if let Err(error) = held {
                return refuse(error.is_inconclusive(), error.into());
            }
        }
        for line in report(&receipt, &witnessed, &policy, self.log.is_some()) {
            say(&line);
        }
        Ok(0)
    }
}

/// Says why not, and what that means.
fn refuse(inconclusive: bool, error: anyhow::Error) -> Result<u8> {
    if inconclusive {
        return Err(error);
    }
    tell(&format!("talkoot: not shown: {}", one_line(&error)));
    Ok(NOT_SHOWN)
}

fn log_at(text: &str) -> Result<Box<dyn TileSource>> {
    if text.contains("://") {
        let log = HttpLog::new(text).map_err(|reason| anyhow::anyhow!("the address {text:?}: {reason}"))?;
        return Ok(Box::new(log));
    }
    if !Path::new(text).is_dir() {
        bail!("{text} is no folder, and no address of http or https");
    }
    Ok(Box::new(Folder::new(text)))
}

fn listed_key(policy: &Policy, witnessed: &Witnessed) -> Result<VerifierKey> {
    let note = witnessed.signed.note.as_bytes();
    policy
        .logs()
        .iter()
        .find(|log| policy.verify(note, &log.key).is_ok())
        .map(|log| log.key.clone())
        .context("the policy lists no key that has signed")
}

fn report(receipt: &Receipt, witnessed: &Witnessed, policy: &Policy, held: bool) -> Vec<String> {
    let checkpoint = &witnessed.signed.checkpoint;
    let mut lines = vec![
        format!("shown      entry {} is in the log {}", receipt.index, checkpoint.origin),
        format!("checkpoint {} entries, root {}", checkpoint.size, checkpoint.root),
    ];
    for cosignature in &witnessed.cosignatures {
        let name = &policy.witnesses()[cosignature.witness].name;
        lines.push(format!("witness    {name} saw it at {} (seconds since 1970)", cosignature.unix_seconds));
    }
    if !policy.demands_witnesses() {
        lines.push(
            "witness    none was demanded: the operator may have shown others another history".to_owned(),
        );
    }
    lines.push(if held {
        "log        what it shows now continues this checkpoint".to_owned()
    } else {
        "log        not asked; --log holds the receipt against what it shows now".to_owned()
    });
    lines
}
