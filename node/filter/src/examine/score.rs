//! Two numbers for a sample: how much there is in it, and how much it asks for.
//!
//! With `W` words in the answers, `D` different ones among them, `A` answers, `P` pictures, `T` language tokens of the
//! smallest picture before resizing (its area over 28 x 28) and `S` the largest standard deviation of a channel of the
//! plainest picture:
//!
//! ```text
//! quality    = mean of  G / (G + 4)  with G = D / sqrt(W)     diversity of words (Guiraud's index)
//!                       T / (T + 256)                         resolution, with pictures only
//!                       S / (S + 32)                          contrast, with pictures only
//! difficulty = mean of  W / (W + 30)                          length of what is to be said
//!                       1 - 1 / (A + P)                       things to keep in mind; 0 for one answer to no picture
//!                       N / D                                 share of the answers' words that no question holds
//! ```
//!
//! These look at the surface. They know neither whether an answer is right nor how a model fares with it. Whoever has
//! better numbers, as a model's loss, writes them into the list, and they are kept.

use std::collections::HashSet;

use talkoot_dataset::Sample;

use super::{picture::Look, text};

/// How a sample scores, both from 0 to 1 in steps of 1/10,000.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scores {
    /// How much there is in it.
    pub quality: f32,
    /// How much it asks for.
    pub difficulty: f32,
}

impl Scores {
    pub(super) fn of(sample: &Sample, looks: &[Look], keep_given: bool) -> Self {
        let mut asked = HashSet::new();
        text::questions(sample).flat_map(text::words).for_each(|word| {
            asked.insert(word.to_lowercase());
        });
        let (mut words, mut new, mut different) = (0.0, 0.0, HashSet::new());
        for word in text::answers(sample).flat_map(text::words) {
            words += 1.0;
            let word = word.to_lowercase();
            let unasked = !asked.contains(&word);
            if different.insert(word) && unasked {
                new += 1.0;
            }
        }
        let (different, answers) = (different.len() as f64, text::answers(sample).count());
        let guiraud = if words > 0.0 { different / f64::sqrt(words) } else { 0.0 };
        let mut quality = vec![saturating(guiraud, 4.0)];
        if let (Some(tokens), Some(deviation)) = (
            looks.iter().map(Look::tokens).min_by(f64::total_cmp),
            looks.iter().map(|look| look.deviation).min_by(f64::total_cmp),
        ) {
            quality.extend([saturating(tokens, 256.0), saturating(deviation, 32.0)]);
        }
        let things = (answers + sample.pictures.len()).max(1) as f64;
        let difficulty = [
            saturating(words, 30.0),
            1.0 - 1.0 / things,
            if different > 0.0 { new / different } else { 0.0 },
        ];
        let given = |score: Option<f32>| score.filter(|_| keep_given);
        Self {
            quality: given(sample.quality).unwrap_or_else(|| rounded_mean(&quality)),
            difficulty: given(sample.difficulty).unwrap_or_else(|| rounded_mean(&difficulty)),
        }
    }

    /// What decides which of several duplicates is kept, from 0 to 65,535.
    pub(super) fn rank(&self, quality_weight: f64) -> u16 {
        let mixed =
            quality_weight * f64::from(self.quality) + (1.0 - quality_weight) * f64::from(self.difficulty);
        (mixed * 65_535.0).round() as u16
    }
}

/// From 0 at nothing over a half at `half` towards 1.
fn saturating(value: f64, half: f64) -> f64 {
    value / (value + half)
}

fn rounded_mean(parts: &[f64]) -> f32 {
    let mean = parts.iter().sum::<f64>() / parts.len() as f64;
    ((mean * 10_000.0).round() / 10_000.0) as f32
}
