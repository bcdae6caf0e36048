//! Sums along a row, of a fixed shape: sixteen running lanes, added in order.
//!
//! Element `i` goes to lane `i mod 16`, in ascending order; then the lanes are added in ascending order. Sixteen lanes
//! are two vectors of AVX2 and one of AVX-512, so that a sum doesn't wait for its last addition, and the same bits come
//! out at any width.

use std::ops::Add;

/// Running sums.
pub(super) const LANES: usize = 16;

/// The sum that `step(lane, x)` builds.
#[inline(always)]
pub(super) fn sum<A: Lane>(x: &[f32], step: impl Fn(A, f32) -> A) -> A {
    let mut lanes = [A::default(); LANES];
    let (whole, rest) = x.as_chunks::<LANES>();
    for x in whole {
        for i in 0..LANES {
            lanes[i] = step(lanes[i], x[i]);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane = step(*lane, x);
    }
    in_order(lanes)
}

/// The sum that `step(lane, x, y)` builds.
#[inline(always)]
pub(super) fn sum2(x: &[f32], y: &[f32], step: impl Fn(f32, f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    for (x, y) in x.iter().zip(y) {
        for i in 0..LANES {
            lanes[i] = step(lanes[i], x[i], y[i]);
        }
    }
    for (lane, (&x, &y)) in lanes.iter_mut().zip(x_rest.iter().zip(y_rest)) {
        *lane = step(*lane, x, y);
    }
    in_order(lanes)
}

/// The sum that `step(lane, x, y, z)` builds.
#[inline(always)]
pub(super) fn sum3(x: &[f32], y: &[f32], z: &[f32], step: impl Fn(f32, f32, f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let (x, x_rest) = x.as_chunks::<LANES>();
    let (y, y_rest) = y.as_chunks::<LANES>();
    let (z, z_rest) = z.as_chunks::<LANES>();
    for ((x, y), z) in x.iter().zip(y).zip(z) {
        for i in 0..LANES {
            lanes[i] = step(lanes[i], x[i], y[i], z[i]);
        }
    }
    for (lane, ((&x, &y), &z)) in lanes.iter_mut().zip(x_rest.iter().zip(y_rest).zip(z_rest)) {
        *lane = step(*lane, x, y, z);
    }
    in_order(lanes)
}

/// What a lane may count in: f32, or f64 for norms.
pub(super) trait Lane: Copy + Default + Add<Output = Self> {}
impl Lane for f32 {}
impl Lane for f64 {}

#[inline(always)]
fn in_order<A: Lane>(lanes: [A; LANES]) -> A {
    let mut total = lanes[0];
    for &lane in &lanes[1..] {
        total = total + lane;
    }
    total
}

/// The largest number; NaNs are passed over. In sixteen lanes for speed: the order does not matter to a maximum.
#[inline(always)]
pub(super) fn largest(x: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (whole, rest) = x.as_chunks::<LANES>();
    for x in whole {
        for i in 0..LANES {
            lanes[i] = larger(lanes[i], x[i]);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane = larger(*lane, x);
    }
    lanes.into_iter().fold(f32::NEG_INFINITY, larger)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testkit::random;

    /// As the definition has it, element by element.
    fn defined(terms: &[f32]) -> f32 {
        let mut lanes = [0.0f32; 16];
        for (i, term) in terms.iter().enumerate() {
            lanes[i % 16] += term;
        }
        (1..16).fold(lanes[0], |total, i| total + lanes[i])
    }

    #[test]
    fn sums_are_the_defined_ones_to_the_bit() {
        for len in [0, 1, 15, 16, 17, 31, 48, 333] {
            let [x, y, z] = [1, 2, 3].map(|seed| random(len, seed));
            assert_eq!(sum(&x, |lane: f32, x| lane + x).to_bits(), defined(&x).to_bits(), "{len}");
            let terms: Vec<f32> = x.iter().zip(&y).map(|(x, y)| x * y).collect();
            assert_eq!(sum2(&x, &y, |lane, x, y| lane + x * y).to_bits(), defined(&terms).to_bits());
            let terms: Vec<f32> = terms.iter().zip(&z).map(|(t, z)| t * z).collect();
            assert_eq!(
                sum3(&x, &y, &z, |lane, x, y, z| lane + x * y * z).to_bits(),
                defined(&terms).to_bits()
            );
        }
    }
}
