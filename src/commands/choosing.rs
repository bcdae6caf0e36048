//! How a model chooses its words, as it is said on the command line.

use clap::Args;
use talkoot_trainer::generate::Sampling;

/// How tokens are chosen.
#[derive(Debug, Args)]
pub(super) struct Choosing {
    /// Divides the logits; 0 takes the likeliest token always.
    #[arg(long, value_name = "T")]
    temperature: Option<f64>,
    /// Draws from this many likeliest tokens only; 0 for all.
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Draws from the fewest likeliest tokens whose probabilities add up to this.
    #[arg(long, value_name = "P")]
    top_p: Option<f64>,
    /// Draws from tokens with at least this share of the likeliest one's probability.
    #[arg(long, value_name = "P")]
    min_p: Option<f64>,
    /// Makes tokens that were said already less likely; 1 for not at all.
    #[arg(long, value_name = "R")]
    repetition_penalty: Option<f64>,
    /// Everything that is drawn follows from it.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

impl Choosing {
    /// What is said here, and `usual` for what is not.
    pub(super) fn over(&self, usual: Sampling) -> Sampling {
        Sampling {
            temperature: self.temperature.unwrap_or(usual.temperature),
            top_k: self.top_k.unwrap_or(usual.top_k),
            top_p: self.top_p.unwrap_or(usual.top_p),
            min_p: self.min_p.unwrap_or(usual.min_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(usual.repetition_penalty),
            seed: self.seed,
        }
    }
}
