//! `talkoot dataset balance`

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use talkoot_balance::{
    BalanceOptions, BalanceReport, Config, Counted, Done, Matching, Step, balance_step, config::DEFAULT_TOML,
};
use talkoot_dataset::{Progress, pack::Part};

use crate::{commands::say, progress::Bar};

/// Draws samples so that rare concepts are seen as well as common ones.
#[derive(Debug, Args)]
pub(crate) struct Balance {
    /// A list of samples, as `dataset ingest` and `dataset filter` leave it. May be given several times.
    #[arg(long, value_name = "LIST", num_args = 1.., required_unless_present = "print_config")]
    samples: Vec<PathBuf>,
    /// The concepts: a text with one on each line.
    #[arg(long, value_name = "FILE", required_unless_present = "print_config")]
    concepts: Option<PathBuf>,
    /// Rows of the samples, .safetensors or .npy; several files in any split. Without them, concepts are found in the
    /// words of the samples' texts.
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "concept_embeddings")]
    embeddings: Vec<PathBuf>,
    /// Rows of the concepts, in the order of their list.
    #[arg(long, value_name = "FILE", requires = "embeddings")]
    concept_embeddings: Option<PathBuf>,
    /// The rules, as TOML; the defaults when left out.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the default rules with an explanation of each, and do nothing else.
    #[arg(long)]
    print_config: bool,
    /// How many samples to draw, whatever the rules say.
    #[arg(long, value_name = "N", conflicts_with = "share")]
    count: Option<u64>,
    /// Which share of the samples to draw, whatever the rules say.
    #[arg(long, value_name = "SHARE")]
    share: Option<f64>,
    /// Most times that a sample may be drawn, whatever the rules say.
    #[arg(long, value_name = "TIMES")]
    repeats: Option<u32>,
    /// Draw others than the rules' seed does.
    #[arg(long)]
    seed: Option<u64>,
    /// What the files that come of it are called.
    #[arg(long, default_value = "balanced")]
    name: String,
    /// Where they go.
    #[arg(long, value_name = "FOLDER", required_unless_present = "print_config")]
    out: Option<PathBuf>,
    /// Keep what was found out about the samples, so that they can be drawn from again by other rules.
    #[arg(long)]
    keep: bool,
    /// Go on with the work that was begun there, or draw again from what was kept.
    #[arg(long)]
    resume: bool,
    /// Do one step of the work only, for several processes or hosts that share the folder.
    #[arg(long, value_enum)]
    step: Option<StepName>,
    /// Which share of the samples to map, as 3/16.
    #[arg(long, requires = "step", default_value_t = Part::WHOLE)]
    part: Part,
    /// Write the report as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StepName {
    /// Find the concepts of the samples of a hash range; takes --part.
    Map,
    /// Add up how often each concept was found, when everything is mapped.
    Count,
    /// Draw, and write the list.
    Draw,
}

impl Balance {
    pub(super) fn run(self) -> Result<()> {
        if self.print_config {
            say(DEFAULT_TOML.trim_end());
            return Ok(());
        }
        let step = match self.step {
            None => Step::All,
            Some(StepName::Map) => Step::Map(self.part),
            Some(StepName::Count) => Step::Count,
            Some(StepName::Draw) => Step::Draw,
        };
        if self.part != Part::WHOLE && !matches!(step, Step::Map(_)) {
            bail!("--part is for --step map");
        }
        let (resume, as_json) = (self.resume || self.step.is_some(), self.json);
        let options = self.options()?;
        let bar = Bar::new();
        let outcome = balance_step(&options, step, resume, &bar);
        bar.end();
        match outcome? {
            Done::Mapped => say("done; the next step is in `talkoot dataset balance --help`"),
            Done::Counted(counted) if as_json => say(&serde_json::to_string(&counted)?),
            Done::Counted(counted) => tell_count(&counted),
            Done::Drawn(report) if as_json => say(&serde_json::to_string(&report)?),
            Done::Drawn(report) => tell_report(&report),
        }
        Ok(())
    }

    fn options(self) -> Result<BalanceOptions> {
        let mut config = match &self.config {
            Some(path) => Config::read(path).with_context(|| path.display().to_string())?,
            None => Config::default(),
        };
        if self.count.is_some() || self.share.is_some() {
            (config.draw.count, config.draw.share) = (self.count, self.share);
        }
        config.draw.repeats = self.repeats.unwrap_or(config.draw.repeats);
        config.draw.seed = self.seed.unwrap_or(config.draw.seed);
        let matching = match self.concept_embeddings {
            Some(concepts) => Matching::Embeddings { samples: self.embeddings, concepts },
            None => Matching::Text,
        };
        Ok(BalanceOptions {
            name: self.name,
            lists: self.samples,
            concepts: self.concepts.context("--concepts is missing")?,
            matching,
            config,
            keep: self.keep,
            out: self.out.context("--out is missing")?,
        })
    }
}

fn tell_count(counted: &Counted) {
    let Counted { samples, without_concept, concepts, coverage } = counted;
    say(&format!("samples   {samples}, {without_concept} of them like no concept"));
    say(&format!(
        "covered   {} of {concepts} concepts; as diverse as {:.1}",
        coverage.covered, coverage.effective
    ));
}

fn tell_report(report: &BalanceReport) {
    say(&format!("samples   {} = {} drawn + {} left out", report.samples, report.distinct, report.left_out));
    if report.drawn != report.distinct {
        say(&format!("list      {} lines, as samples may be drawn several times", report.drawn));
    }
    if report.without_concept > 0 {
        say(&format!(
            "none      {} samples are like no concept, {} of them are left out",
            report.without_concept, report.without_concept_left_out
        ));
    }
    say(&format!(
        "covered   {} of {} concepts before, {:.1} by as many samples drawn by chance, {} drawn",
        report.before.covered, report.concepts, report.covered_by_chance, report.after.covered
    ));
    say(&format!(
        "diverse   as {:.1} equally frequent concepts before, as {:.1} drawn",
        report.before.effective, report.after.effective
    ));
    say(&format!("gini      {:.4} before, {:.4} drawn", report.before.gini, report.after.gini));
    say(&format!("list      {}", report.path_of(&report.list).display()));
    say(&format!("rejects   {}", report.path_of(&report.rejects).display()));
    say(&format!("settings  {}", report.path_of(&report.settings).display()));
    say(&format!("page      {}", report.path_of(&report.page).display()));
}
