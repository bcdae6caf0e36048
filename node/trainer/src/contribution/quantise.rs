//! From magnitudes to one scale and small integers.
//!
//! A sent value is `sign x level x scale`, the level one of `L = 2^(bits - 1)` successive integers from
//! [`first_level`] on: {1} for 1 bit, {2, 3} for 2, {1 .. 8} for 4, {1 .. 128} for 8. With bfloat16 scales (8
//! significant bits) every such product is exact in f32, so decoding never rounds.
//!
//! For 2 bits the ratio of the two levels is what matters: magnitudes above a threshold are not spread from zero
//! on. `{2, 3}` was held against six others on three distributions, fresh and settled
//! (`cargo run --release --example codec`): near the best for normal and Laplace tails, and not far off for
//! heavy ones, which want `{1, 2}`.

use super::{MAX_SCALE, MIN_SCALE};

/// Rounds of fitting from each start: enough for two levels to settle.
const FITS: usize = 4;

/// The lowest level of `bits` bits.
pub const fn first_level(bits: u8) -> u32 {
    if bits == 2 { 2 } else { 1 }
}

/// The highest level of `bits` bits.
pub const fn last_level(bits: u8) -> u32 {
    first_level(bits) + (1 << (bits - 1)) - 1
}

/// The level nearest to `magnitude / scale`; 0 when nothing at all is nearer than the lowest level.
#[inline]
fn level(magnitude: f32, scale: f32, first: u32, last: u32) -> u32 {
    let ratio = magnitude / scale;
    let nearest = (ratio + 0.5) as u32;
    if nearest >= first {
        nearest.min(last)
    } else if ratio * 2.0 >= first as f32 {
        first
    } else {
        0
    }
}

/// Fits a scale to `magnitudes` and puts a level for each into `levels`: 0 for those that are better not sent.
///
/// Returns the scale's bfloat16 bits, or 0 when nothing is to be sent. The fit is Lloyd's method from two
/// starts: the largest magnitude at the highest level, and the mean between the lowest and the highest. The
/// first suits thin tails, the second chunks with a few giants; the one that leaves less error is kept, the
/// first when they are equal. Sums are taken in the order given.
pub(super) fn fit(magnitudes: &[f32], bits: u8, levels: &mut Vec<u32>) -> u16 {
    levels.clear();
    let (first, last) = (first_level(bits), last_level(bits));
    let largest = magnitudes.iter().fold(0.0f32, |a, &b| if b > a { b } else { a });
    let mean = magnitudes.iter().fold(0.0f32, |a, &b| a + b) / magnitudes.len().max(1) as f32;
    let by_largest = refine(magnitudes, largest / last as f32, first, last);
    let by_mean = refine(magnitudes, mean / ((first + last) as f32 * 0.5), first, last);
    let (scale, _) = if by_mean.1 > by_largest.1 { by_mean } else { by_largest };
    let word = to_bfloat16(scale);
    let scale = from_bfloat16(word);
    if !(MIN_SCALE..=MAX_SCALE).contains(&scale) {
        return 0;
    }
    levels.extend(magnitudes.iter().map(|&m| level(m, scale, first, last)));
    if levels.iter().all(|&level| level == 0) { 0 } else { word }
}

/// Takes turns of assigning levels and solving for the scale by least squares.
///
/// Returns the scale, and by how much sending lessens the squared error: with `P = sum(level x magnitude)` and
/// `Q = sum(level^2)`, the scale is `P / Q` and what it takes off is `P x P / Q`. Both are 0 when nothing is sent.
fn refine(magnitudes: &[f32], start: f32, first: u32, last: u32) -> (f32, f32) {
    let (mut scale, mut gain) = (start, 0.0);
    for _ in 0..FITS {
        // below, products would become subnormal
        if scale < MIN_SCALE {
            return (0.0, 0.0);
        }
        let (mut product, mut square) = (0.0f32, 0.0f32);
        for &magnitude in magnitudes {
            let level = level(magnitude, scale, first, last) as f32;
            product += level * magnitude;
            square += level * level;
        }
        if square == 0.0 {
            return (0.0, 0.0);
        }
        scale = product / square;
        gain = product * scale;
    }
    (scale, gain)
}

/// The bfloat16 nearest to a finite positive `value`, ties to even.
fn to_bfloat16(value: f32) -> u16 {
    let bits = value.to_bits();
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

/// The value of a bfloat16.
pub(super) fn from_bfloat16(word: u16) -> f32 {
    f32::from_bits(u32::from(word) << 16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fitted(magnitudes: &[f32], bits: u8) -> (f32, Vec<u32>) {
        let mut levels = Vec::new();
        let word = fit(magnitudes, bits, &mut levels);
        (from_bfloat16(word), levels)
    }

    #[test]
    fn two_clusters_at_the_levels_ratio_are_met_exactly() {
        assert_eq!(fitted(&[2.0, 3.0, 2.0, 3.0], 2), (1.0, vec![2, 3, 2, 3]));
        assert_eq!(fitted(&[0.5; 7], 1), (0.5, vec![1; 7]));
        assert_eq!(fitted(&[1.0, 3.0, 8.0], 4), (1.0, vec![1, 3, 8]));
    }

    #[test]
    fn what_is_better_not_sent_gets_level_0() {
        let (scale, levels) = fitted(&[0.01, 1.0, 1.0, 1.0], 2);
        assert_eq!(levels[0], 0);
        assert!((levels[1] as f32 * scale - 1.0).abs() < 0.01);
    }

    #[test]
    fn rounding_to_bfloat16_is_to_nearest_even() {
        for value in [1.0f32, 1.003, 257.0 / 256.0, 259.0 / 256.0, 3.3e-18, 7.7e11, 1.996_094] {
            let word = to_bfloat16(value);
            let error = |word: u16| (f64::from(from_bfloat16(word)) - f64::from(value)).abs();
            assert!(error(word) <= error(word - 1) && error(word) <= error(word + 1), "{value}");
            assert!(error(word) < error(word + 1) || word.is_multiple_of(2), "{value}");
        }
    }

    #[test]
    fn nothing_and_next_to_nothing_are_not_sent() {
        assert_eq!(fitted(&[], 2), (0.0, vec![]));
        assert_eq!(fitted(&[1e-20, 2e-20], 2).0, 0.0);
        assert_eq!(fitted(&[1e-30], 8).0, 0.0);
    }

    proptest! {
        #[test]
        fn sending_never_makes_a_residual_larger(
            magnitudes in prop::collection::vec((1u32..1000, 0u32..12).prop_map(|(m, e)| m as f32 * 0.5f32.powi(e as i32)), 1..200),
            bits in prop::sample::select(vec![1u8, 2, 4, 8]),
        ) {
            let (scale, levels) = fitted(&magnitudes, bits);
            prop_assert_eq!(levels.len(), magnitudes.len());
            for (&magnitude, &level) in magnitudes.iter().zip(&levels) {
                prop_assert!(level == 0 || (first_level(bits)..=last_level(bits)).contains(&level));
                prop_assert!((magnitude - level as f32 * scale).abs() <= magnitude);
            }
        }
    }
}
