//! `talkoot dataset`

mod balance;
mod diff;
mod embed;
mod filter;
mod ingest;
mod inspect;
mod mix;
mod pack;
mod review;
mod synth;
mod tokenizer;
mod verify;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

/// Makes data.
#[derive(Debug, Subcommand)]
pub(crate) enum Dataset {
    /// Draws a small image-text data set from a seed, with a tokenizer for it.
    Synth(synth::Synth),
    /// Builds a byte-level tokenizer from the texts of records.
    Tokenizer(tokenizer::BuildTokenizer),
    /// Makes a list of samples of what you have: records, archives, tables, videos, addresses.
    Ingest(ingest::Ingest),
    /// Leaves out samples that teach nothing or the same again, by rules.
    Filter(filter::Filter),
    /// Lets people look at samples and say what to keep.
    #[command(subcommand)]
    Review(review::Review),
    /// Embeds samples or concepts with a model, for balancing.
    Embed(embed::Embed),
    /// Draws samples so that rare concepts are seen as well as common ones.
    Balance(balance::Balance),
    /// Mixes sources and difficulties over time: a list of samples for each period of training.
    Mix(mix::Mix),
    /// Packs pictures and conversations into content-addressed shards.
    Pack(pack::Pack),
    /// Tells and shows what is in a data set.
    Inspect(inspect::Inspect),
    /// Checks a data set's files against its manifest.
    Verify(verify::Verify),
    /// Compares two data sets.
    Diff(diff::Diff),
}

impl Dataset {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self {
            Self::Synth(synth) => synth.run()?,
            Self::Tokenizer(tokenizer) => tokenizer.run()?,
            Self::Ingest(ingest) => ingest.run()?,
            Self::Filter(filter) => filter.run()?,
            Self::Review(review) => review.run()?,
            Self::Embed(embed) => embed.run()?,
            Self::Balance(balance) => balance.run()?,
            Self::Mix(mix) => mix.run()?,
            Self::Pack(pack) => pack.run()?,
            Self::Inspect(inspect) => inspect.run()?,
            Self::Verify(verify) => verify.run()?,
            Self::Diff(diff) => diff.run()?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
