//! How far a score may be from that of all questions of its kind: 95 % intervals.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use serde::Serialize;

/// Quantile of the normal distribution for 95 % on both sides.
const Z: f64 = 1.959_963_984_540_054;

/// Times that a bootstrap draws.
const RESAMPLES: usize = 1000;

/// Seed of the bootstrap: the same scores have the same interval.
const SEED: u64 = 0x0074_616c_6b6f_6f74;

/// An interval that holds the score of all questions of the kind in 95 of 100 samples like this one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    /// How it was found.
    pub method: Method,
}

/// How an interval is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Wilson's score interval, for shares.
    Wilson,
    /// Percentiles of 1,000 seeded resamples of the questions.
    Bootstrap,
}

/// The interval of a share of `right` among `all`; from 0 to 1 when there is none.
///
/// Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference", JASA 22.
pub fn wilson(right: usize, all: usize) -> Interval {
    if all == 0 {
        return Interval { low: 0.0, high: 1.0, method: Method::Wilson };
    }
    let n = all as f64;
    let share = right as f64 / n;
    let scale = 1.0 + Z * Z / n;
    let centre = (share + Z * Z / (2.0 * n)) / scale;
    let half = Z / scale * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    Interval { low: (centre - half).max(0.0), high: (centre + half).min(1.0), method: Method::Wilson }
}

/// The interval of the ratio of two sums over questions; with ones below it is that of a mean.
///
/// Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13 (percentile interval).
pub fn bootstrap(questions: &[(f64, f64)]) -> Interval {
    let mut dice = ChaCha8Rng::seed_from_u64(SEED);
    let count = questions.len() as u64;
    let mut found: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            // a remainder is fair enough: questions are far fewer than 2^64
            let drawn = (0..count).map(|_| questions[(dice.next_u64() % count) as usize]);
            ratio(drawn)
        })
        .collect();
    found.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| found[((RESAMPLES - 1) as f64 * share).round() as usize];
    Interval { low: at(0.025), high: at(0.975), method: Method::Bootstrap }
}

/// The sum of what stands above over the sum of what stands below; 0 where there is nothing.
pub fn ratio(questions: impl IntoIterator<Item = (f64, f64)>) -> f64 {
    let (above, below) = questions.into_iter().fold((0.0, 0.0), |sum, x| (sum.0 + x.0, sum.1 + x.1));
    if below == 0.0 { 0.0 } else { above / below }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilsons_interval_has_its_known_values() {
        // Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29
        for (right, all, low, high) in [
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0, 0.1611),
            (1, 29, 0.0061, 0.1718),
        ] {
            let found = wilson(right, all);
            assert!(
                (found.low - low).abs() < 6e-5 && (found.high - high).abs() < 6e-5,
                "{right}/{all}: {found:?}"
            );
        }
        assert_eq!((wilson(0, 0).low, wilson(0, 0).high), (0.0, 1.0));
        assert_eq!(wilson(5, 5).high, 1.0);
    }

    #[test]
    fn a_bootstrap_is_about_as_wide_as_theory_says_and_always_the_same() {
        // 400 values 0 and 1, half each: the mean's deviation is 0.5 / 20 = 0.025
        let values: Vec<(f64, f64)> = (0..400).map(|i| (f64::from(i % 2), 1.0)).collect();
        let found = bootstrap(&values);
        assert!((found.low - 0.451).abs() < 0.008 && (found.high - 0.549).abs() < 0.008, "{found:?}");
        assert_eq!(found, bootstrap(&values));
        let one = bootstrap(&[(3.0, 2.0)]);
        assert_eq!((one.low, one.high), (1.5, 1.5));
        assert_eq!(bootstrap(&[]).low, 0.0);
    }
}
