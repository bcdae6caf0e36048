//! `talkoot audit`

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use talkoot_verifier::audit;

/// Checks a run from its files.
#[derive(Debug, Args)]
pub(crate) struct Audit {
    /// A run's folder, as its coordinator keeps it: `ledger/` and `store/blobs/` in it.
    #[arg(required_unless_present = "dispute")]
    dir: Option<PathBuf>,
    /// Judge a dispute from the bundle that a verifier kept of it (`disputes/` in its folder), and nothing else.
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["dir", "ledger", "blobs", "replay", "seed", "html"])]
    dispute: Option<PathBuf>,
    /// The log's folder, when it lies elsewhere.
    #[arg(long)]
    ledger: Option<PathBuf>,
    /// The blobs' folder, when it lies elsewhere.
    #[arg(long)]
    blobs: Option<PathBuf>,
    /// The log's verifier key as you know it from elsewhere, or @FILE with it.
    #[arg(long, value_name = "VKEY")]
    key: Option<String>,
    /// Share of the contributions to execute again: 0, 5%, 0.2, all.
    #[arg(long, default_value = "5%", value_parser = parse_share)]
    replay: f64,
    /// Seed of the choice which ones; drawn at random when left out.
    #[arg(long)]
    seed: Option<u64>,
    /// Write the report as a page for a browser.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the report as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn parse_share(text: &str) -> Result<f64, String> {
    let share = match text.strip_suffix('%') {
        _ if text == "all" => Some(1.0),
        Some(percent) => percent.parse::<f64>().ok().map(|percent| percent / 100.0),
        None => text.parse().ok(),
    };
    share
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| "a share is written 5%, 0.05 or all, between 0 and 1".to_owned())
}

impl Audit {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let log_key = match self.key {
            Some(key) => Some(match key.strip_prefix('@') {
                Some(path) => std::fs::read_to_string(path).with_context(|| format!("reading {path}"))?,
                None => key,
            }),
            None => None,
        };
        if let Some(bundle) = &self.dispute {
            return judge(bundle, log_key.as_deref(), self.json.as_deref());
        }
        let dir = self.dir.unwrap_or_default();
        if !dir.is_dir() && self.ledger.is_none() {
            bail!("{} is no folder", dir.display());
        }
        let (ledger, blobs) = audit::folders_of(&dir);
        let options = audit::Options {
            ledger: self.ledger.unwrap_or(ledger),
            blobs: self.blobs.unwrap_or(blobs),
            log_key,
            replay: self.replay,
            seed: self.seed.unwrap_or_else(fresh_seed),
        };
        let report = audit::audit(&options, &mut |doing| eprintln!("checking {doing}"))?;
        for line in report.lines() {
            super::say(&line);
        }
        if let Some(path) = self.html {
            std::fs::write(&path, audit::page(&report, &options))
                .with_context(|| format!("writing {}", path.display()))?;
        }
        if let Some(path) = self.json {
            let json = serde_json::to_vec_pretty(&report)?;
            std::fs::write(&path, json).with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(ExitCode::from(report.exit_code()))
    }
}

/// Judges a dispute by its bundle.
fn judge(bundle: &Path, log_key: Option<&str>, json: Option<&Path>) -> Result<ExitCode> {
    if !bundle.is_dir() {
        bail!("{} is no folder", bundle.display());
    }
    let report = talkoot_verifier::dispute::judge_bundle(bundle, log_key);
    for line in report.lines() {
        super::say(&line);
    }
    if let Some(path) = json {
        std::fs::write(path, serde_json::to_vec_pretty(&report)?)
            .with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(ExitCode::from(report.exit_code()))
}

/// A seed that nobody could foresee: which contributions an audit executes again is not for the audited to know.
fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::parse_share;

    #[test]
    fn shares_are_read_in_each_spelling() {
        assert_eq!(parse_share("5%"), Ok(0.05));
        assert_eq!(parse_share("0.2"), Ok(0.2));
        assert_eq!(parse_share("all"), Ok(1.0));
        for wrong in ["", "%", "120%", "-1", "nan", "some"] {
            assert!(parse_share(wrong).is_err(), "{wrong}");
        }
    }
}
