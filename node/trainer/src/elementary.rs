//! Logarithm, exponential, sine and cosine in f64, from `+ - * /` alone.
//!
//! A system's mathematics library differs from release to release in the last bit. What ends in a hash that strangers
//! compare (the first state, learning rates, rotary tables) is therefore computed here: IEEE basic operations give the
//! same bits on every machine. Accuracy is within a few units in the last place of f64, far below what f32 shows.

use std::f64::consts::{FRAC_PI_2, LN_2, SQRT_2};

/// Natural logarithm of a positive, normal number.
///
/// Source: `x = m * 2^e` with `m` near 1, and `ln m = 2 artanh((m - 1) / (m + 1))` as a series.
pub(crate) fn ln(x: f64) -> f64 {
    debug_assert!(x.is_normal() && x > 0.0, "the logarithm is used on positive normal numbers, got {x}");
    let bits = x.to_bits();
    let mut exponent = ((bits >> 52) & 0x7ff) as i64 - 1023;
    let mut mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    if mantissa > SQRT_2 {
        mantissa /= 2.0;
        exponent += 1;
    }
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    // |s| < 0.1716, so the term s^25 / 25 is below 1e-20
    let mut sum = 0.0;
    for odd in (1..=25).rev().step_by(2) {
        sum = sum * square + 1.0 / f64::from(odd);
    }
    2.0 * s * sum + exponent as f64 * LN_2
}

/// e to the power of `x`, for `|x| < 700`.
pub(crate) fn exp(x: f64) -> f64 {
    debug_assert!(x.abs() < 700.0, "the exponential is used on small numbers, got {x}");
    let halvings = (x / LN_2).round();
    let rest = x - halvings * LN_2;
    let mut sum = 1.0;
    for n in (1..=18).rev() {
        sum = sum * rest / f64::from(n) + 1.0;
    }
    sum * f64::from_bits(((1023 + halvings as i64) as u64) << 52)
}

/// Sine and cosine of an angle in radians, for `|x| < 2^20`.
pub(crate) fn sin_cos(x: f64) -> (f64, f64) {
    debug_assert!(x.abs() < 1_048_576.0, "angles are bounded by the positions of a sample, got {x}");
    // pi/2 in two parts, the first with 33 bits, so that its product with the quadrant is exact
    const HIGH: f64 = 1.570_796_326_734_125_6;
    const LOW: f64 = 6.077_100_506_506_192e-11;
    let quadrant = (x / FRAC_PI_2).round();
    let rest = (x - quadrant * HIGH) - quadrant * LOW;
    let square = rest * rest;
    let (mut sine, mut cosine) = (1.0, 1.0);
    for n in (1..=9).rev() {
        let n = f64::from(n);
        sine = 1.0 - sine * square / ((2.0 * n) * (2.0 * n + 1.0));
        cosine = 1.0 - cosine * square / ((2.0 * n - 1.0) * (2.0 * n));
    }
    let sine = sine * rest;
    match (quadrant as i64).rem_euclid(4) {
        0 => (sine, cosine),
        1 => (cosine, -sine),
        2 => (-sine, -cosine),
        _ => (-cosine, sine),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_agree_with_the_system_library_to_f64_rounding() {
        for i in 1..20_000 {
            let x = f64::from(i) * 0.013;
            assert!((ln(x) - x.ln()).abs() <= 4e-15 * (1.0 + x.ln().abs()), "ln {x}");
            let y = x - 130.0;
            assert!((exp(y) / y.exp() - 1.0).abs() < 1e-13, "exp {y}: {} {}", exp(y), y.exp());
            for angle in [y, y * 31.7, y * 800.0] {
                let (sine, cosine) = sin_cos(angle);
                assert!((sine - angle.sin()).abs() < 2e-13, "sin {angle}");
                assert!((cosine - angle.cos()).abs() < 2e-13, "cos {angle}");
            }
        }
    }
}
