//! From logits to the next token: greedy, or drawn from a seed.
//!
//! ```text
//! logits --repetition penalty--> / temperature --> top k --> top p --> min p --> draw
//! ```
//!
//! The order is that of `transformers`. Everything is computed in f64 with this crate's own exponential, and the stream
//! of draws is `ChaCha12` under a hash of the seed: the same logits and the same seed give the same tokens everywhere.

use std::collections::BTreeSet;

use rand_chacha::{
    ChaCha12Rng,
    rand_core::{Rng, SeedableRng},
};
use serde::Serialize;

use crate::elementary::exp;

/// Logits that lie further below the largest one, after the temperature, have a probability that f64 shows as nothing
/// beside it: e to the power of -600 is 1e-261.
const FARTHEST: f64 = 600.0;

/// How the next token is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Sampling {
    /// Divides the logits; 0 takes the likeliest token always, the lowest id where several are alike.
    pub temperature: f64,
    /// Only this many likeliest tokens are drawn from, of equals those with the lowest ids; 0 for no such limit.
    pub top_k: usize,
    /// Only the fewest likeliest tokens whose probabilities add up to this are drawn from, above 0 and up to 1.
    pub top_p: f64,
    /// Only tokens with at least this share of the likeliest one's probability are drawn from, from 0 to 1.
    pub min_p: f64,
    /// Positive logits of tokens that stand in the text already are divided by this, negative ones multiplied; 1 for
    /// none (Keskar et al. 2019, arXiv 1909.05858, section 4.1).
    pub repetition_penalty: f64,
    /// Everything that is drawn follows from it.
    pub seed: u64,
}

impl Default for Sampling {
    /// Greedy.
    fn default() -> Self {
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0, seed: 0 }
    }
}

/// Why no next token can be chosen.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SampleError {
    /// A setting is outside of its range.
    #[error("{setting} is {got}, it must be {range}")]
    Setting {
        /// Which.
        setting: &'static str,
        /// Its value.
        got: f64,
        /// What it may be.
        range: &'static str,
    },
    /// A logit is no number, or infinite: the weights or the model's arithmetic are broken.
    #[error("the model gives token {token} the logit {logit}: its weights are damaged or overflow")]
    NotFinite {
        /// The token.
        token: usize,
        /// Its logit.
        logit: f32,
    },
    /// No token may be chosen.
    #[error("none of the model's {tokens} tokens may be chosen")]
    NoCandidate {
        /// Logits that there are.
        tokens: usize,
    },
}

impl Sampling {
    /// Checks that every setting is within its range.
    ///
    /// # Errors
    ///
    /// [`SampleError::Setting`] names the first that isn't.
    pub fn validate(&self) -> Result<(), SampleError> {
        let check = |setting, got: f64, fine: bool, range| {
            if fine { Ok(()) } else { Err(SampleError::Setting { setting, got, range }) }
        };
        let (t, p, m, r) = (self.temperature, self.top_p, self.min_p, self.repetition_penalty);
        check("temperature", t, t == 0.0 || (1e-9..=1e6).contains(&t), "0, or from 1e-9 to 1e6")?;
        check("top_p", p, p > 0.0 && p <= 1.0, "above 0 and at most 1")?;
        check("min_p", m, (0.0..=1.0).contains(&m), "from 0 to 1")?;
        check("repetition_penalty", r, (1e-3..=1e3).contains(&r), "from 0.001 to 1000")
    }
}

/// Chooses the tokens of one answer.
#[derive(Debug, Clone)]
pub struct Sampler {
    sampling: Sampling,
    banned: Vec<u32>,
    seen: BTreeSet<u32>,
    stream: ChaCha12Rng,
}

/// A token that may still be chosen, and its logit after penalty and temperature.
type Candidate = (f64, u32);

impl Sampler {
    /// A sampler for answer number `answer`, each of which has draws of its own; `banned` tokens are never chosen.
    ///
    /// # Errors
    ///
    /// [`SampleError::Setting`] as [`Sampling::validate`].
    pub fn new(sampling: Sampling, answer: u64, banned: &[u32]) -> Result<Self, SampleError> {
        sampling.validate()?;
        let mut hasher = blake3::Hasher::new_derive_key("talkoot 2026 draws of one answer");
        hasher.update(&sampling.seed.to_le_bytes()).update(&answer.to_le_bytes());
        let stream = ChaCha12Rng::from_seed(*hasher.finalize().as_bytes());
        Ok(Self { sampling, banned: banned.to_vec(), seen: BTreeSet::new(), stream })
    }

    /// Takes note of tokens that stand in the text, for the repetition penalty.
    pub fn observe(&mut self, tokens: &[u32]) {
        if self.sampling.repetition_penalty != 1.0 {
            self.seen.extend(tokens);
        }
    }

    /// The next token, which counts as observed; `logits` has one number for each token id.
    ///
    /// # Errors
    ///
    /// [`SampleError::NotFinite`] when a logit is no number or positive infinity, [`SampleError::NoCandidate`] when
    /// every token is banned or has a logit of negative infinity.
    pub fn choose(&mut self, logits: &[f32]) -> Result<u32, SampleError> {
        if let Some((token, &logit)) =
            logits.iter().enumerate().find(|(_, x)| x.is_nan() || **x == f32::INFINITY)
        {
            return Err(SampleError::NotFinite { token, logit });
        }
        let mut candidates = self.candidates(logits);
        let none = SampleError::NoCandidate { tokens: logits.len() };
        let token = if self.sampling.temperature == 0.0 {
            candidates.into_iter().min_by(likelier).ok_or(none)?.1
        } else {
            self.narrow(&mut candidates);
            self.draw(&candidates).ok_or(none)?
        };
        self.observe(&[token]);
        Ok(token)
    }

    /// What may be chosen, after penalty and temperature.
    fn candidates(&self, logits: &[f32]) -> Vec<Candidate> {
        let scale = if self.sampling.temperature == 0.0 { 1.0 } else { self.sampling.temperature };
        let adjusted = |(&logit, token): (&f32, u32)| {
            let logit = f64::from(logit);
            let penalty = if self.seen.contains(&token) { self.sampling.repetition_penalty } else { 1.0 };
            let logit = if logit > 0.0 { logit / penalty } else { logit * penalty };
            // two zeros of different sign are alike
            (logit / scale + 0.0, token)
        };
        let allowed = |&(logit, token): &Candidate| logit.is_finite() && !self.banned.contains(&token);
        logits.iter().zip(0..).map(adjusted).filter(allowed).collect()
    }

    /// Keeps what top k, top p and min p leave, the likeliest first.
    fn narrow(&self, candidates: &mut Vec<Candidate>) {
        let Sampling { top_k, top_p, min_p, .. } = self.sampling;
        if top_k > 0 && top_k < candidates.len() {
            candidates.select_nth_unstable_by(top_k - 1, likelier);
            candidates.truncate(top_k);
        }
        candidates.sort_unstable_by(likelier);
        let weights = weights(candidates);
        let mut keep = weights.len();
        if top_p < 1.0 {
            let wanted = top_p * weights.iter().sum::<f64>();
            let mut sum = 0.0;
            let reached = |weight: &f64| {
                sum += weight;
                sum >= wanted
            };
            keep = weights.iter().position(reached).map_or(keep, |last| last + 1);
        }
        // the likeliest has the weight 1
        keep = keep.min(weights.iter().take_while(|&&weight| weight >= min_p).count());
        candidates.truncate(keep.max(1));
    }

    /// Draws one of `candidates`, which are sorted, by their probabilities.
    fn draw(&mut self, candidates: &[Candidate]) -> Option<u32> {
        let weights = weights(candidates);
        let unit = (self.stream.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let mut left = unit * weights.iter().sum::<f64>();
        for (weight, &(_, token)) in weights.iter().zip(candidates) {
            if left < *weight {
                return Some(token);
            }
            left -= weight;
        }
        // rounding may leave a rest behind the last one
        candidates.first().map(|&(_, token)| token)
    }
}

/// The larger logit first, then the lower id.
fn likelier(a: &Candidate, b: &Candidate) -> std::cmp::Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

/// Probabilities of sorted candidates over that of the first.
fn weights(candidates: &[Candidate]) -> Vec<f64> {
    let largest = candidates.first().map_or(0.0, |&(logit, _)| logit);
    let weight = |&(logit, _): &Candidate| match largest - logit {
        below if below > FARTHEST => 0.0,
        below => exp(-below),
    };
    candidates.iter().map(weight).collect()
}

#[cfg(test)]
mod tests;
