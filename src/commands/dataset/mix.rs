//! `talkoot dataset mix`

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use talkoot_dataset::Progress;
use talkoot_mixture::{Config, MixOptions, MixReport, config::EXAMPLE_TOML, mix};

use crate::{commands::say, progress::Bar};

/// Mixes sources and difficulties over time.
#[derive(Debug, Args)]
pub(crate) struct Mix {
    /// Lists of samples, as `dataset filter` leaves them.
    #[arg(long, value_name = "LIST", num_args = 1.., required_unless_present = "print_config")]
    samples: Vec<PathBuf>,
    /// The periods and their weights, as TOML.
    #[arg(long, value_name = "FILE", required_unless_present = "print_config")]
    config: Option<PathBuf>,
    /// Print an example with an explanation of each key, and do nothing else.
    #[arg(long)]
    print_config: bool,
    /// What the files that come of it are called.
    #[arg(long, default_value = "mixed")]
    name: String,
    /// Where they go.
    #[arg(long, value_name = "FOLDER", required_unless_present = "print_config")]
    out: Option<PathBuf>,
    /// Write the report as JSON.
    #[arg(long)]
    json: bool,
}

impl Mix {
    pub(super) fn run(self) -> Result<()> {
        if self.print_config {
            say(EXAMPLE_TOML.trim_end());
            return Ok(());
        }
        let path = self.config.context("--config is missing")?;
        let config = Config::read(&path).with_context(|| path.display().to_string())?;
        let out = self.out.context("--out is missing")?;
        let options = MixOptions { name: self.name, lists: self.samples, config, out };
        let bar = Bar::new();
        let outcome = mix(&options, &bar);
        bar.end();
        let report = outcome?;
        if self.json {
            say(&serde_json::to_string(&report)?);
        } else {
            tell_report(&report);
        }
        Ok(())
    }
}

fn tell_report(report: &MixReport) {
    say(&format!("samples   {} = {} used + {} left out", report.samples, report.used, report.left_out));
    say(&format!("drawn     {} = {} once + {} repeated", report.drawn, report.used, report.repeated));
    say("");
    say(report.table().trim_end());
    say("");
    for period in &report.periods {
        say(&format!("list      {}", report.path_of(period).display()));
    }
}
