//! The gate of the decoder's MLP.
//!
//! `y = silu(gate) * up` elementwise, with `silu(x) = x * s(x)` and `s` the logistic function. Backward:
//! `dgate = dy * up * s * (1 + gate * (1 - s))`, `dup = dy * gate * s`. Source: Shazeer, arXiv 2002.05202.

use rayon::prelude::*;

use super::{
    isa::{Isa, for_each_isa},
    math::sigmoid,
    rows::parallel::numbers_of_task,
};

/// `y = silu(gate) * up`.
pub(super) fn forward(isa: Isa, gate: &[f32], up: &[f32], y: &mut [f32]) {
    let part = numbers_of_task(y.len());
    let parts = y.par_chunks_mut(part).zip(gate.par_chunks(part)).zip(up.par_chunks(part));
    parts.for_each(|((y, gate), up)| forward_part(isa, gate, up, y));
}

/// Turns `gate` and `up` into their gradients.
pub(super) fn backward(isa: Isa, gate: &mut [f32], up: &mut [f32], dy: &[f32]) {
    let part = numbers_of_task(dy.len());
    let parts = gate.par_chunks_mut(part).zip(up.par_chunks_mut(part)).zip(dy.par_chunks(part));
    parts.for_each(|((gate, up), dy)| backward_part(isa, gate, up, dy));
}

for_each_isa! {
    fn forward_part(gate: &[f32], up: &[f32], y: &mut [f32]) {
        for ((y, &gate), &up) in y.iter_mut().zip(gate).zip(up) {
            *y = gate * sigmoid(gate) * up;
        }
    }
}

for_each_isa! {
    fn backward_part(gate: &mut [f32], up: &mut [f32], dy: &[f32]) {
        for ((gate, up), &dy) in gate.iter_mut().zip(up).zip(dy) {
            let s = sigmoid(*gate);
            let silu = *gate * s;
            let slope = s * gate.mul_add(1.0 - s, 1.0);
            *gate = dy * *up * slope;
            *up = dy * silu;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cpu::testkit::{Case, check_gradients, close, graph, random, same_bits_everywhere},
        reference::ops,
    };

    /// Values and both gradients.
    fn both(isa: Isa, gate: &[f32], up: &[f32], dy: &[f32]) -> Vec<Vec<f32>> {
        let mut y = vec![f32::NAN; dy.len()];
        forward(isa, gate, up, &mut y);
        let (mut gate, mut up) = (gate.to_vec(), up.to_vec());
        backward(isa, &mut gate, &mut up, dy);
        vec![y, gate, up]
    }

    fn arguments(len: usize) -> [Vec<f32>; 3] {
        [random(len, 1).iter().map(|x| 4.0 * x).collect(), random(len, 2), random(len, 3)]
    }

    #[test]
    fn its_gradients_are_the_slopes() {
        let [gate, up, dy] = arguments(150);
        let ours = both(Isa::best(), &gate, &up, &dy);
        let case = Case { what: "swiglu", arguments: &[&gate, &up], dy: &dy };
        let formula = |a: &[Vec<f64>]| {
            let silu = a[0].iter().map(|x| x / (1.0 + (-x).exp()));
            silu.zip(&a[1]).map(|(silu, up)| silu * up).collect()
        };
        check_gradients(&case, formula, &[Some(&ours[1]), Some(&ours[2])]);
    }

    #[test]
    fn it_agrees_with_the_plain_form() {
        let [gate, up, dy] = arguments(6006);
        let ours = both(Isa::best(), &gate, &up, &dy);
        let shape = &[6, 1001][..];
        let expected = graph(&[(&gate, shape), (&up, shape)], &dy, |a| ops::swiglu(&a[0], &a[1]));
        close("values", &ours[0], &expected.y, 5e-7);
        close("gradient of the gate", &ours[1], &expected.gradients[0], 5e-7);
        close("gradient of up", &ours[2], &expected.gradients[1], 5e-7);
    }

    #[test]
    fn bits_are_the_same_everywhere() {
        let [mut gate, up, dy] = arguments(70_001);
        gate[..5].copy_from_slice(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -95.0, 1e-40]);
        same_bits_everywhere("swiglu", |isa| both(isa, &gate, &up, &dy));
    }

    #[test]
    fn closed_gates_let_nothing_through_and_nan_stays() {
        let ours = both(Isa::best(), &[-200.0, 200.0, f32::NAN], &[3.0; 3], &[1.0; 3]);
        assert_eq!(ours[0][..2], [0.0, 600.0]);
        assert_eq!(ours[1][..2], [0.0, 3.0]);
        assert_eq!(ours[2][..2], [0.0, 200.0]);
        assert!(ours.iter().all(|result| result[2].is_nan()));
    }
}
