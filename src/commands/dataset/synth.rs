//! `talkoot dataset synth`

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use talkoot_dataset::{SynthOptions, Tokenizer, build_demo_tokenizer};

use crate::commands::say;

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

impl Synth {
    pub(super) fn run(self) -> Result<()> {
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
