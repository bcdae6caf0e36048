//! `talkoot dataset pack`

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use talkoot_dataset::{
    FitRules, PackInput, PackOptions, PackReport, PixelCheck, PreprocessOptions, Progress,
    pack::{Part, Step, pack_step},
};

use crate::{
    commands::{read_file, say, sum},
    progress::Bar,
};

/// Packs a data set.
#[derive(Debug, Args)]
pub(crate) struct Pack {
    /// Lists of samples, as `dataset ingest`, `dataset filter` and `dataset mix` leave them.
    #[arg(
        long,
        value_name = "LIST",
        num_args = 1..,
        required_unless_present = "records",
        conflicts_with = "records"
    )]
    samples: Vec<PathBuf>,
    /// Make each list a period: a run learns the packs of the first list, then those of the second, and so on.
    #[arg(long, requires = "samples")]
    ordered: bool,
    /// Records in the LLaVA layout, JSON or JSONL, instead of a list.
    #[arg(long, requires = "images", value_name = "FILE")]
    records: Vec<PathBuf>,
    /// The folder that the records' pictures are relative to.
    #[arg(long)]
    images: Option<PathBuf>,
    /// The tokenizer.json of the model.
    #[arg(long)]
    tokenizer: PathBuf,
    /// What the data set is called in the names of its files.
    #[arg(long, default_value = "data")]
    name: String,
    /// Most tokens of a pack.
    #[arg(long, default_value_t = FitRules::default().capacity)]
    sequence_tokens: u32,
    /// Most samples of a pack.
    #[arg(long, default_value_t = FitRules::default().max_segments)]
    max_segments: u32,
    /// Spread samples of so many tokens or more evenly by attention cost, before shorter ones fill up; 0 spreads none.
    #[arg(long, default_value_t = FitRules::default().balance)]
    balance: u32,
    /// Most bytes of a shard.
    #[arg(long, default_value_t = 64 << 20)]
    shard_bytes: u64,
    /// Fewest pixels of a picture after resizing.
    #[arg(long, default_value_t = PreprocessOptions::default().min_pixels)]
    min_pixels: u32,
    /// Most pixels of a picture after resizing.
    #[arg(long, default_value_t = PreprocessOptions::default().max_pixels)]
    max_pixels: u32,
    /// Trust that every picture can be decoded, because a filter has done so, and read heads only.
    #[arg(long)]
    trust_pictures: bool,
    /// Order of samples and packs.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// A file that goes into the manifest as it is, as NAME=FILE: what was done to the samples before.
    #[arg(long, value_name = "NAME=FILE")]
    section: Vec<String>,
    /// The key file that signs the manifest; made when it isn't there. Keep it out of the folder that you publish.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Where the shards go.
    #[arg(long)]
    out: PathBuf,
    /// Go on with the work that was begun there.
    #[arg(long)]
    resume: bool,
    /// Do one step of the work only, for several processes or hosts that share the folder.
    #[arg(long, value_enum)]
    step: Option<StepName>,
    /// Which share of a step to do, as 3/16.
    #[arg(long, requires = "step", default_value_t = Part::WHOLE)]
    part: Part,
    /// Write the report as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StepName {
    /// Measure the samples of a hash range; takes --part.
    Measure,
    /// Plan the packs, when everything is measured.
    Plan,
    /// Write a share of the shards; takes --part.
    Write,
    /// Write the manifest, when all shards are written.
    Finish,
}

impl Pack {
    pub(super) fn run(self) -> Result<()> {
        let step = match self.step {
            None => Step::All,
            Some(StepName::Measure) => Step::Measure(self.part),
            Some(StepName::Plan) => Step::Plan,
            Some(StepName::Write) => Step::Write(self.part),
            Some(StepName::Finish) => Step::Finish,
        };
        let (resume, as_json) = (self.resume || self.step.is_some(), self.json);
        let options = self.options()?;
        let bar = Bar::new();
        let outcome = pack_step(&options, step, resume, &bar);
        bar.end();
        match outcome? {
            None => say("done; the next step is in `talkoot dataset pack --help`"),
            Some(report) if as_json => say(&serde_json::to_string(&report)?),
            Some(report) => tell_report(&report),
        }
        Ok(())
    }

    fn options(self) -> Result<PackOptions> {
        let mut sections = BTreeMap::new();
        for section in &self.section {
            let Some((name, file)) = section.split_once('=') else {
                bail!("--section {section:?} is not NAME=FILE");
            };
            sections.insert(name.to_owned(), read_file(file.as_ref())?);
        }
        let input = match self.images {
            Some(pictures) if self.samples.is_empty() => PackInput::Records { files: self.records, pictures },
            _ => PackInput::Lists(self.samples),
        };
        let publisher = self.key.as_deref().map(talkoot_network::keyfile::load_or_create).transpose();
        Ok(PackOptions {
            name: self.name,
            input,
            tokenizer: read_file(&self.tokenizer)?,
            fit: FitRules {
                capacity: self.sequence_tokens,
                max_segments: self.max_segments,
                balance: self.balance,
            },
            shard_bytes: self.shard_bytes,
            preprocess: PreprocessOptions {
                min_pixels: self.min_pixels,
                max_pixels: self.max_pixels,
                ..PreprocessOptions::default()
            },
            pixels: if self.trust_pictures { PixelCheck::Head } else { PixelCheck::Decode },
            ordered: self.ordered,
            seed: self.seed,
            sections,
            publisher: publisher.context("the key that signs the manifest")?,
            out: self.out,
        })
    }
}

fn tell_report(report: &PackReport) {
    let rejected: u64 = report.rejects.values().sum();
    say(&format!("manifest  {}", report.manifest));
    say(&format!("content   {}", report.content));
    say(&format!(
        "signed by {}",
        report.publisher.map_or("nobody; give --key to sign".into(), |key| key.to_string())
    ));
    say(&format!(
        "packs     {} in {} shards, {:.2} % full; {} samples, {} pictures, {} tokens, {} of them learnt",
        report.totals.packs,
        report.shards.len(),
        100.0 * report.fill_rate,
        report.totals.samples,
        report.totals.images,
        report.totals.tokens,
        report.totals.learned_tokens
    ));
    if !report.periods.is_empty() {
        say(&format!("periods   {} of {} packs", report.periods.len(), sum(&report.periods)));
    }
    say(&format!(
        "spread    {:.2} samples a pack, at most {}; attention cost deviates by {:.0} %",
        report.spread.mean_segments,
        report.spread.max_segments,
        100.0 * report.spread.cost_deviation
    ));
    say(&format!("records   {} = {} samples + {rejected} rejects", report.records, report.totals.samples));
    if rejected > 0 {
        say(&format!("rejects   {}", report.rejects_path.display()));
    }
}
