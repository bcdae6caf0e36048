//! Bands of difficulty: which quantile a sample lies in.

use rayon::prelude::*;

/// Where bands begin.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bands {
    /// The least difficulty of each band but the easiest. Empty when nothing has a difficulty.
    pub(crate) least: Vec<f32>,
    unscored: usize,
}

impl Bands {
    /// Cuts at quantiles: with `n` difficulties, `floor(cut x n)` of them or fewer are below a cut. All samples of one
    /// difficulty are in one band, so bands may be smaller or larger than the quantiles say where many are alike.
    pub(crate) fn cut(mut difficulties: Vec<f32>, cuts: &[f64]) -> Self {
        difficulties.par_sort_unstable_by(f32::total_cmp);
        let count = difficulties.len() as f64;
        let least = |cut: &f64| difficulties.get((cut * count) as usize).copied();
        Self { least: cuts.iter().filter_map(least).collect(), unscored: cuts.len() + 1 }
    }

    /// The band of a difficulty, 0 for the easiest; the last one is for samples without any.
    pub(crate) fn of(&self, difficulty: Option<f32>) -> usize {
        let below = |difficulty| self.least.partition_point(|least| *least <= difficulty);
        difficulty.map_or(self.unscored, below)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_more_than_the_quantile_is_below_a_cut(
            difficulties in prop::collection::vec(0.0f32..=1.0, 1..200),
            cuts in prop::collection::btree_set(1u8..100, 0..6),
        ) {
            let cuts: Vec<f64> = cuts.into_iter().map(|cut| f64::from(cut) / 100.0).collect();
            let bands = Bands::cut(difficulties.clone(), &cuts);
            for (band, cut) in cuts.iter().enumerate() {
                let below = difficulties.iter().filter(|&&d| bands.of(Some(d)) <= band).count();
                prop_assert!(below as f64 <= cut * difficulties.len() as f64);
            }
            prop_assert!(difficulties.iter().all(|&d| bands.of(Some(d)) <= cuts.len()));
            prop_assert_eq!(bands.of(None), cuts.len() + 1);
        }
    }

    #[test]
    fn different_difficulties_are_cut_as_asked_and_equal_ones_stay_together() {
        let bands = Bands::cut((0..10).rev().map(|d| d as f32 / 10.0).collect(), &[0.5, 0.8]);
        let sizes =
            [0, 1, 2].map(|band| (0..10).filter(|&d| bands.of(Some(d as f32 / 10.0)) == band).count());
        assert_eq!(sizes, [5, 3, 2]);
        let alike = Bands::cut(vec![0.4; 9], &[0.5]);
        assert_eq!(alike.of(Some(0.4)), 1);
        assert_eq!(Bands::cut(Vec::new(), &[0.5]).of(None), 2);
    }
}
