//! How well samples cover the concepts, as numbers.
//!
//! Everything is in whole numbers but for a division at the end, so that the same counts give the same numbers on every
//! machine.

use serde::{Deserialize, Serialize};

/// How well samples cover the concepts. A sample that is there several times counts as often.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Coverage {
    /// Concepts that any sample has.
    pub covered: u64,
    /// Their share of all concepts, 0 to 1.
    pub share: f64,
    /// Concepts found, each as often as samples have it.
    pub tags: u64,
    /// Effective number of concepts: `(sum n)^2 / sum n^2`. So many, all equally frequent, would be as diverse (Simpson,
    /// Nature 163, 1949; Hill's number of order 2). From 1 to the number of concepts.
    pub effective: f64,
    /// Gini coefficient of the frequencies: 0 when all are the same, towards 1 when few concepts have everything.
    pub gini: f64,
    /// Share of the tags that belong to the most frequent hundredth of the concepts, 0 to 1.
    pub head: f64,
}

impl Coverage {
    /// The coverage of concepts that so many samples have.
    pub fn of(counts: &[u64]) -> Self {
        let mut sorted = counts.to_vec();
        sorted.sort_unstable();
        let covered = sorted.iter().filter(|&&count| count > 0).count() as u64;
        let tags: u64 = sorted.iter().sum();
        let squares: u128 = sorted.iter().map(|&count| u128::from(count) * u128::from(count)).sum();
        let ranked: u128 = sorted.iter().zip(1u128..).map(|(&count, rank)| rank * u128::from(count)).sum();
        let concepts = counts.len() as f64;
        let hundredth = counts.len().div_ceil(100);
        let most: u64 = sorted.iter().rev().take(hundredth).sum();
        let of_tags = |number: f64| if tags == 0 { 0.0 } else { number / tags as f64 };
        let effective = if squares == 0 { 0.0 } else { tags as f64 * (tags as f64 / squares as f64) };
        let gini = if tags == 0 {
            0.0
        } else {
            of_tags(2.0 * ranked as f64) / concepts - (concepts + 1.0) / concepts
        };
        Self {
            covered,
            share: covered as f64 / concepts.max(1.0),
            tags,
            effective,
            gini,
            head: of_tags(most as f64),
        }
    }
}

/// Concepts that are expected to be covered when as large a share of samples is drawn by chance alone: the sum of
/// `1 - (1 - share)^n`. What balancing has to be better than.
pub fn covered_by_chance(counts: &[u64], share: f64) -> f64 {
    let left_out = 1.0 - share.clamp(0.0, 1.0);
    counts.iter().map(|&count| 1.0 - power(left_out, count)).sum()
}

/// `base` to a whole power, by squaring: multiplications in an order of our own.
fn power(mut base: f64, mut exponent: u64) -> f64 {
    let mut result = 1.0;
    while exponent > 0 {
        if exponent & 1 == 1 {
            result *= base;
        }
        base *= base;
        exponent >>= 1;
    }
    result
}

/// How many concepts have how many samples: none, 1, 2 to 3, 4 to 7 and so on, up to the last that any has.
pub fn by_frequency(counts: &[u64]) -> Vec<u64> {
    let mut bins = vec![0];
    for &count in counts {
        let bin = (u64::BITS - count.leading_zeros()) as usize;
        if bin >= bins.len() {
            bins.resize(bin + 1, 0);
        }
        bins[bin] += 1;
    }
    bins
}

/// Frequencies of the most frequent concept, the 2nd, the 4th, the 8th and so on: a curve by rank.
pub fn by_rank(counts: &[u64]) -> Vec<u64> {
    let mut sorted = counts.to_vec();
    sorted.sort_unstable_by(|a, b| b.cmp(a));
    std::iter::successors(Some(1usize), |rank| rank.checked_mul(2))
        .map_while(|rank| sorted.get(rank - 1).copied())
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn equal_concepts_are_as_diverse_as_they_are_many() {
        let coverage = Coverage::of(&[5, 5, 5, 5]);
        assert_eq!((coverage.covered, coverage.share, coverage.tags), (4, 1.0, 20));
        assert_eq!((coverage.effective, coverage.gini, coverage.head), (4.0, 0.0, 0.25));
        let one = Coverage::of(&[0, 0, 0, 8]);
        assert_eq!((one.covered, one.effective, one.gini, one.head), (1, 1.0, 0.75, 1.0));
        let none = Coverage::of(&[0, 0]);
        assert_eq!((none.covered, none.effective, none.gini, none.head), (0, 0.0, 0.0, 0.0));
    }

    #[test]
    fn frequencies_are_binned_by_doubling() {
        assert_eq!(by_frequency(&[0, 0, 1, 2, 3, 4, 7, 8]), [2, 1, 2, 2, 1]);
        assert_eq!(by_rank(&[1, 9, 3, 0, 7]), [9, 7, 1]);
        assert!(by_rank(&[]).is_empty());
    }

    #[test]
    fn chance_covers_what_is_frequent() {
        assert_eq!(covered_by_chance(&[1, 1, 2, 0], 0.5), 0.5 + 0.5 + 0.75);
        assert_eq!(covered_by_chance(&[3, 0], 1.0), 1.0);
        assert!((covered_by_chance(&[1_000_000_007], 1e-9) - (1.0 - (-1.000_000_007f64).exp())).abs() < 1e-6);
    }

    proptest! {
        #[test]
        fn numbers_stay_within_their_bounds(counts in prop::collection::vec(0u64..1 << 40, 1..300)) {
            let coverage = Coverage::of(&counts);
            prop_assert!(coverage.effective <= coverage.covered as f64 * (1.0 + 1e-12));
            prop_assert!((-1e-12..1.0).contains(&coverage.gini), "{}", coverage.gini);
            prop_assert!((0.0..=1.0).contains(&coverage.head));
            prop_assert_eq!(by_frequency(&counts).iter().sum::<u64>(), counts.len() as u64);
        }
    }
}
