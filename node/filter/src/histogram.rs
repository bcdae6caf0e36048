//! Histograms of what samples are like, before and after.

use serde::{Deserialize, Serialize};

use crate::examine::Scores;

/// Most bins of a histogram.
pub const MAX_BINS: usize = 40;
/// Stands for "has none" in [`Bins`], as the sides of a sample without pictures.
const NONE: u8 = u8::MAX;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Characters of all answers.
    Characters,
    /// Shorter side of the smallest picture, in pixels.
    Side,
    /// Longer side over shorter side of the picture that is longest for its width.
    Aspect,
    /// Quality, 0 to 1.
    Quality,
    /// Difficulty, 0 to 1.
    Difficulty,
}

impl Measure {
    /// All of them, in the order of [`Bins`].
    pub const ALL: [Self; 5] = [Self::Characters, Self::Side, Self::Aspect, Self::Quality, Self::Difficulty];

    /// What to write below its histogram.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Characters => "characters of the answers",
            Self::Side => "shorter side of the smallest picture, pixels",
            Self::Aspect => "longer side over shorter side",
            Self::Quality => "quality",
            Self::Difficulty => "difficulty",
        }
    }

    /// Where the bins begin; the last one has no end. Steps grow by about a quarter where the range is wide.
    pub fn edges(self) -> Vec<f64> {
        let growing = |first: f64, factor: (u32, u32), most: f64| {
            let mut edges = vec![0.0, first];
            let mut edge = first;
            while edge < most && edges.len() < MAX_BINS {
                edge = (edge * f64::from(factor.0) / f64::from(factor.1)).ceil();
                edges.push(edge);
            }
            edges
        };
        match self {
            Self::Characters => growing(1.0, (7, 5), 50_000.0),
            Self::Side => growing(14.0, (5, 4), 8_000.0),
            Self::Aspect => [
                1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.8, 2.0, 2.5, 3.0, 4.0, 6.0, 10.0, 20.0, 50.0, 100.0,
                200.0,
            ]
            .to_vec(),
            Self::Quality | Self::Difficulty => (0..20).map(|bin| f64::from(bin) / 20.0).collect(),
        }
    }

    fn bin(self, value: f64) -> u8 {
        (self.edges().partition_point(|&edge| edge <= value)).saturating_sub(1) as u8
    }
}

/// The bins that a sample falls into, one of each measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bins(pub(crate) [u8; Measure::ALL.len()]);

impl Bins {
    pub(crate) fn of(characters: u64, side: Option<u32>, aspect: Option<f64>, scores: &Scores) -> Self {
        let values = [
            Some(characters as f64),
            side.map(f64::from),
            aspect,
            Some(f64::from(scores.quality)),
            Some(f64::from(scores.difficulty)),
        ];
        let mut bins = Measure::ALL.into_iter().zip(values);
        Self(std::array::from_fn(|_| match bins.next() {
            Some((measure, Some(value))) => measure.bin(value),
            _ => NONE,
        }))
    }
}

/// Counts of one measure, of all samples and of those that are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// What is counted.
    pub measure: Measure,
    /// Where the bins begin.
    pub edges: Vec<f64>,
    /// Samples in each bin before.
    pub before: Vec<u64>,
    /// Samples in each bin after.
    pub after: Vec<u64>,
}

impl Histogram {
    /// An empty one of each measure.
    pub fn all() -> Vec<Self> {
        let empty = |measure: Measure| {
            let edges = measure.edges();
            Self { measure, before: vec![0; edges.len()], after: vec![0; edges.len()], edges }
        };
        Measure::ALL.into_iter().map(empty).collect()
    }

    /// Counts a sample in all of `histograms`, which are as [`Self::all`] made them.
    pub fn count(histograms: &mut [Self], bins: &Bins, kept: bool) {
        for (histogram, &bin) in histograms.iter_mut().zip(&bins.0) {
            // A sample without pictures has no sides.
            if let Some(count) = histogram.before.get_mut(usize::from(bin)) {
                *count += 1;
                histogram.after[usize::from(bin)] += u64::from(kept);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bin_begins_at_its_edge() {
        for measure in Measure::ALL {
            let edges = measure.edges();
            assert!(edges.is_sorted_by(|a, b| a < b) && edges.len() <= MAX_BINS, "{measure:?}: {edges:?}");
            for (bin, &edge) in edges.iter().enumerate() {
                assert_eq!(usize::from(measure.bin(edge)), bin, "{measure:?} {edge}");
            }
            assert_eq!(usize::from(measure.bin(1e12)), edges.len() - 1);
            assert_eq!(measure.bin(0.0), 0);
        }
    }

    #[test]
    fn samples_without_pictures_are_counted_where_they_have_something() {
        let mut all = Histogram::all();
        let scores = Scores { quality: 0.5, difficulty: 1.0 };
        Histogram::count(&mut all, &Bins::of(30, None, None, &scores), true);
        Histogram::count(&mut all, &Bins::of(30, Some(200), Some(1.3), &scores), false);
        let sums: Vec<(u64, u64)> =
            all.iter().map(|h| (h.before.iter().sum(), h.after.iter().sum())).collect();
        assert_eq!(sums, [(2, 1), (1, 0), (1, 0), (2, 1), (2, 1)]);
        assert_eq!(all[3].before[10], 2);
    }
}
