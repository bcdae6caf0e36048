//! One packed sequence, as the trainer takes it.

use crate::preprocess::Rgb;

/// Several samples one after another, with their pictures: what one forward pass sees.
///
/// Attention must not cross from one sample to the next and positions restart with each; `sample_lengths` says where.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PackedSequence {
    /// Token ids, `T` of them, each below the vocabulary size.
    pub tokens: Vec<u32>,
    /// `T` labels, not shifted: the token's own id where it is learnt, else -100. The first of every sample is -100.
    pub labels: Vec<i64>,
    /// Tokens of each sample; they add up to `T`.
    pub sample_lengths: Vec<u32>,
    /// Pictures in the order of their pads in `tokens`; sides are multiples of 28.
    pub images: Vec<Rgb>,
}

impl PackedSequence {
    /// How many tokens are learnt.
    pub fn learned_tokens(&self) -> usize {
        self.labels.iter().filter(|&&label| label >= 0).count()
    }
}
