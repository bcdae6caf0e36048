//! `talkoot dataset embed`

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use talkoot_balance::embed::{DEFAULT_MAX_PIXELS, EmbedOptions, EmbedReport, Subject, embed};
use talkoot_dataset::{Progress, pack::Part};

use crate::{commands::say, progress::Bar};

/// Embeds samples or concepts with a model.
#[derive(Debug, Args)]
pub(crate) struct Embed {
    /// Folder with config.json, weights and tokenizer.json. Only what makes rows of pictures and words is read.
    #[arg(long, value_name = "FOLDER")]
    model: PathBuf,
    /// A list of samples: their pictures are embedded, or their texts where they have none. May be given several times.
    #[arg(long, value_name = "LIST", num_args = 1.., required_unless_present = "concepts", conflicts_with = "concepts")]
    samples: Vec<PathBuf>,
    /// The concepts: a text with one on each line.
    #[arg(long, value_name = "FILE")]
    concepts: Option<PathBuf>,
    /// Where the rows go: a file that ends in .safetensors or .npy.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Most pixels that pictures are shrunk to.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MAX_PIXELS)]
    max_pixels: u32,
    /// Which share of the samples to embed, as 3/16, into a file of its own.
    #[arg(long, default_value_t = Part::WHOLE)]
    part: Part,
    /// Go on with the work that was begun there.
    #[arg(long)]
    resume: bool,
    /// Write the report as JSON.
    #[arg(long)]
    json: bool,
}

impl Embed {
    pub(super) fn run(self) -> Result<()> {
        let subject = match self.concepts {
            Some(concepts) => Subject::Concepts(concepts),
            None if self.samples.is_empty() => bail!("--samples or --concepts is missing"),
            None => Subject::Samples(self.samples),
        };
        let (model, out, part, max_pixels) = (self.model, self.out, self.part, self.max_pixels);
        let options = EmbedOptions { model, subject, out, part, max_pixels };
        let bar = Bar::new();
        let outcome = embed(&options, self.resume, &bar);
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

fn tell_report(report: &EmbedReport) {
    let EmbedReport { entries, rows, width, rejected, out, rejects } = report;
    say(&format!("entries   {entries} = {rows} rows of {width} numbers + {rejected} without a row"));
    say(&format!("rows      {}", out.display()));
    if let Some(rejects) = rejects {
        say(&format!("rejects   {}", rejects.display()));
        say(
            "note      balancing needs a row for each sample, or concepts.without_embedding = \"no_concept\"",
        );
    }
}
