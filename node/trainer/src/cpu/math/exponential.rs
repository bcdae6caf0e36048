//! e to the power of x, and the logistic function.

use std::f32::consts::{LN_2, LOG2_E};

/// Adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits.
const MAGIC: f32 = 12_582_912.0;
/// What [`LN_2`] in f32 lacks to the logarithm of two.
const LN_2_REST: f32 = -1.904_654_3e-9;
/// Below, every result is zero.
const LOWEST: f32 = -104.0;
/// Above, every result is infinite.
const HIGHEST: f32 = 89.0;

/// e to the power of `x`, within 0.88 units in the last place; of subnormal results, within 0.75 of the
/// smallest number. Infinite above 88.72, zero below -103.98.
///
/// `x = n ln 2 + r` with `|r| <= ln 2 / 2`, then `1 + r + r^2 q(r)` and `n` into the exponent. The polynomial `q` has
/// the least relative error (3.1e-9) on that interval.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let x = x.clamp(LOWEST, HIGHEST);
    let shifted = x.mul_add(LOG2_E, MAGIC);
    let n = shifted - MAGIC;
    // exact: both terms are multiples of 2^-24 and their difference is small
    let high = n.mul_add(-LN_2, x);
    let low = n * -LN_2_REST;
    let r = high + low;
    let q = 0.001_381_428_6f32;
    let q = q.mul_add(r, 0.008_368_854);
    let q = q.mul_add(r, 0.041_668_4);
    let q = q.mul_add(r, 0.166_665_2);
    let q = q.mul_add(r, 0.499_999_93);
    let p = 1.0 + (high + q.mul_add(r * r, low));
    // two factors, so that a subnormal result is rounded once and 2^128 is no obstacle
    let n = shifted.to_bits().wrapping_sub(MAGIC.to_bits()).cast_signed();
    let half = n >> 1;
    p * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

/// Two to the power of `n`, for `-127 < n < 128`.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) << 23).cast_unsigned())
}

/// `1 / (1 + exp(-x))`, within 2.5 units in the last place on both sides.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    // never of a positive number, so that the left side keeps its digits
    let e = exp(-x.abs());
    let numerator = if x < 0.0 { e } else { 1.0 };
    numerator / (1.0 + e)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testkit::{all_floats, ulps, worst};

    #[test]
    fn the_exponential_keeps_its_stated_error() {
        let normal = all_floats(997).filter(|x| (-87.33..88.72).contains(x));
        let (error, at) = worst(normal, |x| ulps(exp(x), f64::from(x).exp()));
        assert!(error <= 0.88, "{error} units in the last place at {at}");
    }

    #[test]
    fn subnormal_results_are_rounded_once() {
        let (error, at) =
            worst((0..170_000).map(|i| -87.33 - i as f32 / 10_000.0), |x| ulps(exp(x), f64::from(x).exp()));
        assert!(error <= 0.75, "{error} of the smallest number at {at}");
    }

    #[test]
    fn the_ends_are_zero_and_infinity_and_nan_stays() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-103.99), 0.0);
        assert_eq!(exp(-103.9), f32::from_bits(1));
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(88.73), f32::INFINITY);
        assert!(exp(88.72).is_finite());
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(-f32::NAN).is_nan());
    }

    #[test]
    fn the_logistic_function_keeps_its_stated_error() {
        let normal = all_floats(1009).filter(|x| *x > -87.33);
        let (error, at) = worst(normal, |x| ulps(sigmoid(x), 1.0 / (1.0 + (-f64::from(x)).exp())));
        assert!(error <= 2.5, "{error} units in the last place at {at}");
        assert_eq!(sigmoid(f32::NEG_INFINITY), 0.0);
        assert_eq!(sigmoid(f32::INFINITY), 1.0);
        assert_eq!(sigmoid(0.0), 0.5);
        assert!(sigmoid(f32::NAN).is_nan());
    }
}
