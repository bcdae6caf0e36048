//! `talkoot audit`

mod place;

use std::{
    io::IsTerminal as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use talkoot_verifier::audit;

use super::{one_line, say, tell};

/// Nothing can be said: the log cannot be read, or there is none.
const INCONCLUSIVE: u8 = 2;

/// How often somebody who reads lines instead of a bar hears how far it is.
const BETWEEN_LINES: Duration = Duration::from_secs(10);

/// Checks a run from its files, or from a web server that has them. Exit code 0 sound, 1 a lie was found, 2 inconclusive.
#[derive(Debug, Args)]
pub(crate) struct Audit {
    /// A run's folder, as its coordinator keeps it, with `ledger/` and `store/blobs/` in it; or the address of a web server
    /// that has these, or the log alone.
    #[arg(value_name = "FOLDER|URL", required_unless_present = "dispute")]
    run: Option<String>,
    /// Judge a dispute from the bundle that a verifier kept of it (`disputes/` in its folder), and nothing else.
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["run", "ledger", "blobs", "replay", "seed", "html"])]
    dispute: Option<PathBuf>,
    /// The log, when it is elsewhere.
    #[arg(long, value_name = "FOLDER|URL")]
    ledger: Option<String>,
    /// The blobs, when they are elsewhere; can be given several times, and each is asked for what those before lack.
    #[arg(long, value_name = "FOLDER|URL")]
    blobs: Vec<String>,
    /// Where fetched blobs are kept, for another audit; a folder that is removed afterwards when left out.
    #[arg(long, value_name = "FOLDER")]
    cache: Option<PathBuf>,
    /// Most GiB of blobs to fetch.
    #[arg(long, value_name = "GIB", value_parser = super::positive, default_value = "64")]
    most_gib: f64,
    /// The log's verifier key as you know it from elsewhere, or @FILE with it.
    #[arg(long, value_name = "VKEY")]
    key: Option<String>,
    /// A checkpoint of the log that you have from elsewhere: the file, or the folder or address of another copy. The log has to
    /// continue it. Can be given several times.
    #[arg(long, value_name = "FILE|FOLDER|URL")]
    seen: Vec<String>,
    /// Members to ask for the newest checkpoint that each was shown, and for blobs that no other place has: the join link of a run
    /// that goes on, or @FILE with one.
    #[arg(long, value_name = "LINK")]
    peers: Option<String>,
    /// A folder in which audits leave the checkpoints that they were shown; later ones have to continue them.
    #[arg(long, value_name = "FOLDER")]
    trail: Option<PathBuf>,
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
        Ok(ExitCode::from(self.check().unwrap_or_else(|error| {
            tell(&format!("talkoot: inconclusive: {}", one_line(&error)));
            INCONCLUSIVE
        })))
    }

    fn check(&self) -> Result<u8> {
        let log_key = match &self.key {
            Some(key) => Some(match key.strip_prefix('@') {
                Some(path) => std::fs::read_to_string(path).with_context(|| format!("reading {path}"))?,
                None => key.clone(),
            }),
            None => None,
        };
        if let Some(bundle) = &self.dispute {
            return judge(bundle, log_key.as_deref(), self.json.as_deref());
        }
        let run = self.run.as_deref().context("name the run's folder, or its address")?;
        let scratch = tempfile::tempdir().context("making a folder for fetched blobs")?;
        let cache = self.cache.clone().unwrap_or_else(|| scratch.path().to_owned());
        let places = place::find(run, self.ledger.as_deref(), &self.blobs)?;
        let peers = match &self.peers {
            Some(link) => Some(place::peers(link, &scratch.path().join("peers"))?),
            None => None,
        };
        let mut seen: Vec<_> = self.seen.iter().map(|text| place::seen(text)).collect::<Result<_>>()?;
        seen.extend(peers.iter().flat_map(|peers| peers.heads()));
        let most_bytes = (self.most_gib * f64::from(1 << 30)) as u64;
        let options = audit::Options {
            ledger: places.ledger,
            blobs: place::blobs(&places.blobs, peers, &cache, most_bytes)?,
            log_key,
            replay: self.replay,
            seed: self.seed.unwrap_or_else(fresh_seed),
            seen,
            trail: self.trail.clone(),
            now_ms: audit::now_ms(),
        };
        let mut teller = Teller::new();
        let report = audit::audit(&options, &mut |progress| teller.hear(progress))?;
        teller.end();
        for line in report.lines() {
            say(&line);
        }
        if let Some(path) = &self.html {
            std::fs::write(path, audit::page(&report, &options))
                .with_context(|| format!("writing {}", path.display()))?;
        }
        if let Some(path) = &self.json {
            let json = serde_json::to_vec_pretty(&report)?;
            std::fs::write(path, json).with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(report.exit_code())
    }
}

/// Tells how far an audit is and how long it still takes: a bar on a terminal, else a line now and then.
struct Teller {
    bar: Option<ProgressBar>,
    started: Instant,
    told: Option<(Instant, String)>,
}

impl Teller {
    fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            let style = "{wide_bar} {human_pos} of {human_len} entries, {eta} left  {msg}";
            // The template is ours; were it wrong, the plain bar would do.
            match ProgressStyle::with_template(style) {
                Ok(style) => bar.with_style(style),
                Err(_) => bar,
            }
        });
        Self { bar, started: Instant::now(), told: None }
    }

    fn hear(&mut self, progress: &audit::Progress) {
        if let Some(bar) = &self.bar {
            bar.set_length(progress.of);
            bar.set_position(progress.done);
            bar.set_message(progress.doing.clone());
            return;
        }
        let kind = progress.doing.split(' ').next().unwrap_or_default();
        let due =
            self.told.as_ref().is_none_or(|(when, last)| last != kind || when.elapsed() >= BETWEEN_LINES);
        if due {
            self.told = Some((Instant::now(), kind.to_owned()));
            tell(&format!("checking {}{}", progress.doing, self.how_far(progress)));
        }
    }

    /// The part that is done, and the time that the rest takes when it goes on like this.
    fn how_far(&self, progress: &audit::Progress) -> String {
        if progress.of == 0 || progress.done == 0 {
            return String::new();
        }
        let share = progress.done as f64 / progress.of as f64;
        let left = self.started.elapsed().as_secs_f64() * (1.0 - share) / share;
        format!(" ({} of {} entries, about {left:.0} s left)", progress.done, progress.of)
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Judges a dispute by its bundle.
fn judge(bundle: &Path, log_key: Option<&str>, json: Option<&Path>) -> Result<u8> {
    if !bundle.is_dir() {
        bail!("{} is no folder", bundle.display());
    }
    let report = talkoot_verifier::dispute::judge_bundle(bundle, log_key);
    for line in report.lines() {
        say(&line);
    }
    if let Some(path) = json {
        std::fs::write(path, serde_json::to_vec_pretty(&report)?)
            .with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(report.exit_code())
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
