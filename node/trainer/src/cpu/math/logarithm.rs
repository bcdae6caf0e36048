//! The natural logarithm.

use std::f32::consts::LN_2;

/// What [`LN_2`] in f32 lacks to the logarithm of two.
const LN_2_REST: f32 = -1.904_654_3e-9;
/// Bits of the root of one half.
const ROOT_OF_HALF: u32 = 0x3f35_04f3;
/// Bits behind the exponent.
const MANTISSA: u32 = 0x007f_ffff;

/// The natural logarithm, within 0.86 units in the last place, subnormal numbers too. Of zero it is minus infinity, of a
/// negative number NaN.
///
/// `x = (1 + f) * 2^n` with `1 + f` between the root of one half and the root of two, and
/// `ln(1 + f) = f - f^2 / 2 + f^3 p(f)`, where `p` has the least relative error (7.5e-10) on that interval.
#[inline(always)]
pub fn ln(x: f32) -> f32 {
    let small = x < f32::MIN_POSITIVE;
    let (lifted, lift) = if small { (x * 8_388_608.0, 23.0) } else { (x, 0.0) };
    let above = lifted.to_bits().wrapping_sub(ROOT_OF_HALF);
    let n = (above.cast_signed() >> 23) as f32 - lift;
    let f = f32::from_bits((above & MANTISSA).wrapping_add(ROOT_OF_HALF)) - 1.0;
    let p = 0.067_474_17f32;
    let p = p.mul_add(f, -0.116_765_83);
    let p = p.mul_add(f, 0.118_883_006);
    let p = p.mul_add(f, -0.124_054_19);
    let p = p.mul_add(f, 0.142_195_07);
    let p = p.mul_add(f, -0.166_680_06);
    let p = p.mul_add(f, 0.200_021_22);
    let p = p.mul_add(f, -0.250_000_1);
    let p = p.mul_add(f, 0.333_333_13);
    let bend = (f * f) * p.mul_add(f, -0.5);
    // n ln 2 and its sum with f, each with what its rounding lost
    let whole = n * LN_2;
    let whole_rest = n.mul_add(LN_2_REST, n.mul_add(LN_2, -whole));
    let sum = whole + f;
    let sum_rest = f - (sum - whole);
    let result = sum + (sum_rest + (bend + whole_rest));
    let result = if x < f32::INFINITY { result } else { f32::INFINITY };
    let of_nothing = if x == 0.0 { f32::NEG_INFINITY } else { f32::NAN };
    if x > 0.0 { result } else { of_nothing }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testkit::{all_floats, ulps, worst};

    #[test]
    fn the_logarithm_keeps_its_stated_error() {
        let near_one = (0..400_000u32).map(|i| f32::from_bits(1.0f32.to_bits() - 200_000 + i));
        let positive = all_floats(499).chain(near_one).filter(|x| *x > 0.0);
        let (error, at) = worst(positive, |x| ulps(ln(x), f64::from(x).ln()));
        assert!(error <= 0.86, "{error} units in the last place at {at}");
    }

    #[test]
    fn the_ends_are_infinite_and_what_has_no_logarithm_is_nan() {
        assert_eq!(ln(1.0).to_bits(), 0);
        assert_eq!(ln(f32::INFINITY), f32::INFINITY);
        assert_eq!(ln(0.0), f32::NEG_INFINITY);
        assert_eq!(ln(-0.0), f32::NEG_INFINITY);
        assert!(ln(-1.0).is_nan());
        assert!(ln(f32::NEG_INFINITY).is_nan());
        assert!(ln(f32::NAN).is_nan());
        assert!(ln(-f32::NAN).is_nan());
        assert!((ln(f32::from_bits(1)) + 103.278_93).abs() < 1e-5);
    }
}
