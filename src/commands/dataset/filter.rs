//! `talkoot dataset filter`

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use talkoot_dataset::{Progress, work::Part};
use talkoot_filter::{Config, FilterOptions, FilterReport, Step, config::DEFAULT_TOML, filter_step};

use crate::{commands::say, progress::Bar};

/// Leaves out samples that teach nothing or the same again.
#[derive(Debug, Args)]
pub(crate) struct Filter {
    /// A list of samples, as `dataset ingest` leaves it. May be given several times.
    #[arg(long, value_name = "LIST", required_unless_present = "print_config")]
    samples: Vec<PathBuf>,
    /// The rules, as TOML; the defaults when left out.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the default rules with an explanation of each, and do nothing else.
    #[arg(long)]
    print_config: bool,
    /// What the files that come of it are called.
    #[arg(long, default_value = "filtered")]
    name: String,
    /// Where they go.
    #[arg(long, value_name = "FOLDER", required_unless_present = "print_config")]
    out: Option<PathBuf>,
    /// Go on with the work that was begun there.
    #[arg(long)]
    resume: bool,
    /// Do one step of the work only, for several processes or hosts that share the folder.
    #[arg(long, value_enum)]
    step: Option<StepName>,
    /// Which share of the samples to examine, as 3/16.
    #[arg(long, requires = "step", default_value_t = Part::WHOLE)]
    part: Part,
    /// Write the report as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StepName {
    /// Look at the samples of a hash range; takes --part.
    Examine,
    /// Find duplicates and write the list, when everything is examined.
    Finish,
}

impl Filter {
    pub(super) fn run(self) -> Result<()> {
        if self.print_config {
            say(DEFAULT_TOML.trim_end());
            return Ok(());
        }
        let step = match self.step {
            None => Step::All,
            Some(StepName::Examine) => Step::Examine(self.part),
            Some(StepName::Finish) => Step::Finish,
        };
        let config = match &self.config {
            Some(path) => Config::read(path).with_context(|| path.display().to_string())?,
            None => Config::default(),
        };
        let out = self.out.context("--out is missing")?;
        let options = FilterOptions { name: self.name, lists: self.samples, config, out };
        let bar = Bar::new();
        let outcome = filter_step(&options, step, self.resume || self.step.is_some(), &bar);
        bar.end();
        match outcome? {
            None => say("done; the next step is in `talkoot dataset filter --help`"),
            Some(report) if self.json => say(&serde_json::to_string(&report)?),
            Some(report) => tell_report(&report),
        }
        Ok(())
    }
}

fn tell_report(report: &FilterReport) {
    say(&format!("samples   {} = {} kept + {} dropped", report.samples, report.kept, report.dropped));
    if report.clusters > 0 {
        let (clusters, largest) = (report.clusters, report.largest_cluster);
        say(&format!("clusters  {clusters} of duplicates, the largest of {largest}"));
    }
    if report.skipped_pairs > 0 {
        say(&format!("skipped   {} pairs, because too many prints were alike", report.skipped_pairs));
    }
    if report.dropped > 0 {
        say("");
        say(report.table().trim_end());
        say("");
    }
    say(&format!("list      {}", report.path_of(&report.list).display()));
    say(&format!("rejects   {}", report.path_of(&report.rejects).display()));
    say(&format!("page      {}", report.path_of(&report.page).display()));
}
