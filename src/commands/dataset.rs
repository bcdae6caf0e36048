//! `talkoot dataset`

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use talkoot_dataset::{
    PackIndex, PackOptions, PreprocessOptions, SynthOptions, Tokenizer, build_demo_tokenizer, ingest,
    inspect, pack_dataset,
};

use super::{read_file, say};

/// Makes data.
#[derive(Debug, Subcommand)]
pub(crate) enum Dataset {
    /// Draws a small image-text data set from a seed, with a tokenizer for it.
    Synth(Synth),
    /// Builds a byte-level tokenizer from the texts of records.
    Tokenizer(BuildTokenizer),
    /// Packs pictures and conversations into content-addressed shards.
    Pack(Pack),
    /// Tells what is in an index or a shard.
    Inspect(Inspect),
}

/// Draws a small data set.
#[derive(Debug, Args)]
pub(crate) struct Synth {
    /// Where it goes: images/, alignment.json, midtraining.json, instruct.json, heldout.json, tokenizer.json.
    #[arg(long)]
    out: PathBuf,
    /// Everything follows from it.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Pictures to learn from.
    #[arg(long, default_value_t = SynthOptions::default().train_pictures)]
    train: usize,
    /// Pictures to be asked about and never learnt from.
    #[arg(long, default_value_t = SynthOptions::default().heldout_pictures)]
    heldout: usize,
    /// Most entries of the tokenizer.
    #[arg(long, default_value_t = 512)]
    vocabulary: usize,
}

/// Builds a tokenizer.
#[derive(Debug, Args)]
pub(crate) struct BuildTokenizer {
    /// Records in the LLaVA layout, JSON or JSONL.
    #[arg(long, required = true)]
    json: Vec<PathBuf>,
    /// The folder that the records' pictures are relative to.
    #[arg(long)]
    images: PathBuf,
    /// Most entries.
    #[arg(long, default_value_t = 4_096)]
    vocabulary: usize,
    /// The tokenizer.json to write.
    #[arg(long)]
    out: PathBuf,
}

/// Packs a data set.
#[derive(Debug, Args)]
pub(crate) struct Pack {
    /// Records in the LLaVA layout, JSON or JSONL.
    #[arg(long, required = true)]
    json: Vec<PathBuf>,
    /// The folder that the records' pictures are relative to.
    #[arg(long)]
    images: PathBuf,
    /// The tokenizer.json of the model.
    #[arg(long)]
    tokenizer: PathBuf,
    /// What the data set is called in the names of its files.
    #[arg(long, default_value = "data")]
    name: String,
    /// Most tokens of a pack.
    #[arg(long, default_value_t = 8_192)]
    sequence_tokens: u32,
    /// Most bytes of a shard.
    #[arg(long, default_value_t = 64 << 20)]
    shard_bytes: u64,
    /// Fewest pixels of a picture after resizing.
    #[arg(long, default_value_t = PreprocessOptions::default().min_pixels)]
    min_pixels: u32,
    /// Most pixels of a picture after resizing.
    #[arg(long, default_value_t = PreprocessOptions::default().max_pixels)]
    max_pixels: u32,
    /// Order of the packs.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Where the shards go.
    #[arg(long)]
    out: PathBuf,
}

/// Tells what is in a file.
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// An index or a shard.
    file: PathBuf,
    /// The tokenizer.json, to show a shard's first sample as text.
    #[arg(long)]
    tokenizer: Option<PathBuf>,
}

impl Dataset {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self {
            Self::Synth(synth) => synth.run()?,
            Self::Tokenizer(tokenizer) => tokenizer.run()?,
            Self::Pack(pack) => pack.run()?,
            Self::Inspect(inspect) => inspect.run()?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Synth {
    fn run(self) -> Result<()> {
        let options = SynthOptions {
            seed: self.seed,
            train_pictures: self.train,
            heldout_pictures: self.heldout,
            ..SynthOptions::default()
        };
        let report = options.write(&self.out)?;
        let tokenizer = build_demo_tokenizer(&report.texts, self.vocabulary)?;
        let path = self.out.join("tokenizer.json");
        std::fs::write(&path, &tokenizer).with_context(|| format!("writing {}", path.display()))?;
        say(&format!(
            "{}: {} pictures to learn from, {} questions held out, a tokenizer of {} entries",
            self.out.display(),
            self.train,
            report.heldout_questions,
            Tokenizer::from_bytes(&tokenizer)?.vocab_size()
        ));
        Ok(())
    }
}

impl BuildTokenizer {
    fn run(self) -> Result<()> {
        let ingested = ingest::ingest(&self.json, &self.images)?;
        let texts: Vec<String> = ingested
            .samples
            .into_iter()
            .flat_map(|sample| sample.messages.into_iter().map(|message| message.text))
            .collect();
        let tokenizer = build_demo_tokenizer(&texts, self.vocabulary)?;
        std::fs::write(&self.out, &tokenizer).with_context(|| format!("writing {}", self.out.display()))?;
        say(&format!("{}: learnt from {} texts", self.out.display(), texts.len()));
        Ok(())
    }
}

impl Pack {
    fn run(self) -> Result<()> {
        let report = pack_dataset(&PackOptions {
            name: self.name,
            records: self.json,
            pictures: self.images,
            tokenizer: read_file(&self.tokenizer)?,
            sequence_tokens: self.sequence_tokens,
            shard_bytes: self.shard_bytes,
            preprocess: PreprocessOptions {
                min_pixels: self.min_pixels,
                max_pixels: self.max_pixels,
                ..PreprocessOptions::default()
            },
            seed: self.seed,
            out: self.out,
        })?;
        let rejected: u64 = report.rejects.values().sum();
        say(&format!("index     {}", report.index));
        say(&format!(
            "packs     {} in {} shards, {:.1} % full; {} samples, {} pictures, {} tokens, {} of them learnt",
            report.totals.packs,
            report.shards.len(),
            100.0 * report.fill_rate,
            report.totals.samples,
            report.totals.images,
            report.totals.tokens,
            report.totals.learned_tokens
        ));
        say(&format!(
            "records   {} = {} samples + {rejected} rejects",
            report.records, report.totals.samples
        ));
        if rejected > 0 {
            say(&format!("rejects   {}", report.rejects_path.display()));
        }
        Ok(())
    }
}

impl Inspect {
    fn run(self) -> Result<()> {
        let bytes = read_file(&self.file)?;
        if let Ok(index) = PackIndex::from_bytes(&bytes) {
            say(&inspect::describe_index(&index));
            return Ok(());
        }
        let tokenizer =
            self.tokenizer.context("this is no index; to look into a shard, give --tokenizer too")?;
        let tokenizer = Tokenizer::from_bytes(&read_file(&tokenizer)?)?;
        say(&inspect::describe_shard(&bytes, &tokenizer)?);
        Ok(())
    }
}
