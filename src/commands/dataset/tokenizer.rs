//! `talkoot dataset tokenizer`

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use talkoot_dataset::{build_demo_tokenizer, ingest};

use crate::commands::say;

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

impl BuildTokenizer {
    pub(super) fn run(self) -> Result<()> {
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
