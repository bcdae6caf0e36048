//! The standard normal distribution, from which the exact GELU is made.

use super::exp;

/// `1 / sqrt(2 pi)`.
const PEAK: f32 = 0.398_942_3;
/// Beyond, the density is zero.
const EDGE: f32 = 15.0;

/// Distribution function `Phi(x)`, within 6.0 units in the last place, and density, within 2.7, also far out on the left
/// where the exact GELU needs it.
///
/// `Phi(-z) = exp(-z^2 / 2) * p(z) / q(z)` for `z >= 0`: the fraction is Mills' ratio over the root of 2 pi, has positive
/// coefficients alone, and the least relative error (6.3e-9) for `0 <= z <= 15`. What rounding takes from `z^2` is given
/// back to the exponential. `Phi(x) = (1 + erf(x / sqrt 2)) / 2`.
#[inline(always)]
pub fn normal(x: f32) -> (f32, f32) {
    let z = x.abs();
    // not `min`, which would lose a NaN
    let z = if z > EDGE { EDGE } else { z };
    let square = z * z;
    let rest = z.mul_add(z, -square);
    let e = exp(-0.5 * square);
    let e = e.mul_add(-0.5 * rest, e);
    let tail = e * (numerator(z) / denominator(z));
    let distribution = if x < 0.0 { tail } else { 1.0 - tail };
    (distribution, e * PEAK)
}

#[inline(always)]
fn numerator(z: f32) -> f32 {
    let p = 0.004_152_019_3f32;
    let p = p.mul_add(z, 0.040_873_38);
    let p = p.mul_add(z, 0.183_946_8);
    let p = p.mul_add(z, 0.439_254_34);
    p.mul_add(z, 0.5)
}

#[inline(always)]
fn denominator(z: f32) -> f32 {
    let q = 0.010_407_457f32;
    let q = q.mul_add(z, 0.102_460_49);
    let q = q.mul_add(z, 0.471_349_57);
    let q = q.mul_add(z, 1.205_457_2);
    let q = q.mul_add(z, 1.676_393_7);
    q.mul_add(z, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testkit::{all_floats, plain_normal, ulps, worst};

    #[test]
    fn distribution_and_density_keep_their_stated_errors() {
        let inner = || all_floats(499).filter(|x| (1e-3..12.9).contains(&x.abs()));
        let (error, at) = worst(inner(), |x| ulps(normal(x).0, plain_normal(f64::from(x)).0));
        assert!(error <= 6.0, "distribution: {error} units in the last place at {at}");
        let (error, at) = worst(inner(), |x| ulps(normal(x).1, plain_normal(f64::from(x)).1));
        assert!(error <= 2.7, "density: {error} units in the last place at {at}");
    }

    #[test]
    fn far_out_it_is_zero_and_one_and_nan_stays() {
        assert_eq!(normal(0.0).0, 0.5);
        assert_eq!(normal(f32::INFINITY), (1.0, 0.0));
        assert_eq!(normal(f32::NEG_INFINITY), (0.0, 0.0));
        assert_eq!(normal(f32::MIN), (0.0, 0.0));
        assert!(normal(f32::NAN).0.is_nan() && normal(f32::NAN).1.is_nan());
    }
}
