//! Exponential, logistic function, logarithm and normal distribution in f32, the same bits on every processor.
//!
//! A system's mathematics library differs from release to release, and a compiler's vector library from processor to
//! processor. Here everything is multiplication, addition, division and fused multiply-add, in the order that is
//! written, without branches, so that loops become vectors. Errors against f64, in units in the last place of f32:
//!
//! | function | at most | measured over |
//! |---|---|---|
//! | [`exp`] | 0.88 | every number with a normal result |
//! | [`sigmoid`] | 2.5 | every number with a normal result |
//! | [`ln`] | 0.86 | every positive number |
//! | [`normal`], distribution | 6.0 | every 13th number with a normal result |
//! | [`normal`], density | 2.7 | every 13th number with a normal result |
//! | sine and cosine of rotary tables | 0.5003 | positions to 2^20 |
//!
//! Square root and division are IEEE's, rounded to nearest; subnormal numbers count. A NaN stays a NaN, so that a broken
//! loss is noticed; which of the many NaNs it is, is not defined.

mod exponential;
mod logarithm;
mod normal;

pub use exponential::{exp, sigmoid};
pub use logarithm::ln;
pub use normal::normal;

#[cfg(test)]
mod tests {
    use crate::{cpu::testkit::ulps, elementary::sin_cos};

    #[test]
    fn square_root_and_division_are_rounded_to_nearest() {
        // f64 has more than twice the bits of f32 and two, so rounding twice is rounding once
        let mut bits = 1u32;
        for _ in 0..200_000 {
            bits = bits.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
            let a = f32::from_bits(bits & 0x7fff_ffff);
            let b = f32::from_bits(bits.rotate_left(13) & 0x7fff_ffff);
            if a.is_finite() && b.is_finite() && b > 0.0 {
                assert_eq!(a.sqrt().to_bits(), (f64::from(a).sqrt() as f32).to_bits(), "root of {a:e}");
                let quotient = f64::from(a) / f64::from(b);
                // where the result is subnormal, rounding twice may differ
                if quotient >= f64::from(f32::MIN_POSITIVE) {
                    assert_eq!((a / b).to_bits(), (quotient as f32).to_bits(), "{a:e} / {b:e}");
                }
            }
        }
        let smallest = f32::from_bits(1);
        assert_eq!(smallest / 2.0, 0.0);
        assert_eq!(f32::from_bits(3) / 2.0, f32::from_bits(2), "subnormal numbers count, halves go to even");
    }

    #[test]
    fn sines_and_cosines_of_rotary_tables_are_right_after_rounding() {
        let mut worst = 0.0f64;
        for pair in 0..64 {
            let frequency = 1e6f64.powf(-f64::from(pair) / 64.0);
            for position in (0..1000).chain((1000..1_048_576).step_by(997)) {
                let angle = f64::from(position) * frequency;
                let (sine, cosine) = sin_cos(angle);
                worst = worst.max(ulps(sine as f32, angle.sin())).max(ulps(cosine as f32, angle.cos()));
            }
        }
        assert!(worst <= 0.5003, "{worst} units in the last place");
    }
}
