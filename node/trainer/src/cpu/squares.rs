//! Sum of squares, for the norm of gradients.
//!
//! In f64, where the square of an f32 is exact: parts of 65,536 numbers, each in sixteen lanes added in order, the parts
//! added in order.

use rayon::prelude::*;

use super::{
    isa::{Isa, for_each_isa},
    lanes::sum as lanes,
};

/// Numbers of a part. It belongs to the definition: another size gives other bits.
const PART: usize = 65_536;

/// The sum of the squares of `x`.
pub(super) fn sum(isa: Isa, x: &[f32]) -> f64 {
    let parts: Vec<f64> = x.par_chunks(PART).map(|x| part(isa, x)).collect();
    parts.iter().fold(0.0, |total, part| total + part)
}

for_each_isa! {
    fn part(x: &[f32]) -> f64 {
        lanes(x, |lane: f64, x| {
            let x = f64::from(x);
            x.mul_add(x, lane)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testkit::{random, same_bits_everywhere};

    #[test]
    fn it_is_the_defined_sum_to_the_bit() {
        for len in [0, 1, 17, 65_535, 65_536, 200_003] {
            let x = random(len, 1);
            let part = |x: &[f32]| {
                let mut lanes = [0.0f64; 16];
                for (i, &x) in x.iter().enumerate() {
                    lanes[i % 16] += f64::from(x) * f64::from(x);
                }
                (1..16).fold(lanes[0], |total, i| total + lanes[i])
            };
            let expected = x.chunks(65_536).fold(0.0, |total, x| total + part(x));
            assert_eq!(sum(Isa::best(), &x).to_bits(), expected.to_bits(), "{len}");
        }
    }

    #[test]
    fn large_and_tiny_numbers_neither_overflow_nor_vanish() {
        assert_eq!(sum(Isa::best(), &[1e30, 0.0]), f64::from(1e30f32) * f64::from(1e30f32));
        assert_eq!(sum(Isa::best(), &[1e-30]), f64::from(1e-30f32) * f64::from(1e-30f32));
        assert!(sum(Isa::best(), &[1.0, f32::NAN]).is_nan());
    }

    #[test]
    fn bits_are_the_same_everywhere() {
        let x = random(300_001, 1);
        same_bits_everywhere("squares", |isa| {
            let bits = sum(isa, &x).to_bits();
            vec![vec![f32::from_bits(bits as u32), f32::from_bits((bits >> 32) as u32)]]
        });
    }
}
