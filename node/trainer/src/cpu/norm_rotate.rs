//! RMSNorm over every head and the rotation after it: what Qwen3 does to queries and keys.
//!
//! ```text
//! x [n, heads, d]   weight [d]   turns [n, d]      y = rotate(rms_norm(x, weight), turns)
//! backward, in place: dy turned back, then the gradient of the norm
//! ```
//!
//! Source: the formulas of `rms_norm` and `rotary`; Qwen3 technical report, arXiv 2505.09388, for their order.

use rayon::prelude::*;

use super::{
    isa::{Isa, for_each_isa},
    rms_norm::{inverse_rms, pull, weight_gradient},
    rotary::{rotate, turn_head},
    rows::parallel::rows_of_task,
};
use crate::backend::{HeadShape, Turn};

/// `y = rotate(rms_norm(x, weight), turns)`.
pub(super) fn forward(
    isa: Isa,
    shape: HeadShape,
    eps: f32,
    x: &[f32],
    weight: &[f32],
    turns: &[f32],
    y: &mut [f32],
) {
    let row = shape.heads * shape.width;
    let task = rows_of_task(row, x.len());
    let parts = y.par_chunks_mut(task * row).zip(x.par_chunks(task * row));
    parts
        .zip(turns.par_chunks(task * shape.width))
        .for_each(|((y, x), turns)| forward_rows(isa, row, eps, x, weight, turns, y));
}

/// Turns `dy` into the gradient of `x`; adds the gradient of `weight` to `dweight` where it is wanted.
#[expect(clippy::too_many_arguments, reason = "a backward takes what its forward took, and the gradients")]
pub(super) fn backward(
    isa: Isa,
    shape: HeadShape,
    eps: f32,
    x: &[f32],
    weight: &[f32],
    turns: &[f32],
    dy: &mut [f32],
    dweight: Option<&mut [f32]>,
) {
    let HeadShape { heads, width, .. } = shape;
    rotate(isa, shape, turns, Turn::Back, dy, heads * width);
    // from here on every head is a row of the norm
    let task = rows_of_task(width, x.len());
    if let Some(dweight) = dweight {
        let mut inverses = vec![0.0; x.len() / width];
        let parts = inverses.par_chunks_mut(task).zip(x.par_chunks(task * width));
        parts.for_each(|(inverses, x)| inverses_of(isa, width, eps, x, inverses));
        weight_gradient(isa, x, &inverses, dy, dweight);
    }
    let parts = dy.par_chunks_mut(task * width).zip(x.par_chunks(task * width));
    parts.for_each(|(dy, x)| norm_backward_rows(isa, eps, x, weight, dy));
}

for_each_isa! {
    fn forward_rows(row: usize, eps: f32, x: &[f32], weight: &[f32], turns: &[f32], y: &mut [f32]) {
        let width = weight.len();
        let rows = x.chunks_exact(row).zip(y.chunks_exact_mut(row)).zip(turns.chunks_exact(width));
        for ((x, y), turns) in rows {
            for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
                let inverse = inverse_rms(x, eps);
                for ((y, x), weight) in y.iter_mut().zip(x).zip(weight) {
                    *y = x * inverse * weight;
                }
                turn_head(y, turns, Turn::Forward);
            }
        }
    }
}

for_each_isa! {
    fn inverses_of(width: usize, eps: f32, x: &[f32], inverses: &mut [f32]) {
        for (inverse, x) in inverses.iter_mut().zip(x.chunks_exact(width)) {
            *inverse = inverse_rms(x, eps);
        }
    }
}

for_each_isa! {
    fn norm_backward_rows(eps: f32, x: &[f32], weight: &[f32], dy: &mut [f32]) {
        let width = weight.len();
        for (x, dy) in x.chunks_exact(width).zip(dy.chunks_exact_mut(width)) {
            let inverse = inverse_rms(x, eps);
            let pull = pull(x, weight, dy, inverse);
            for ((dy, x), weight) in dy.iter_mut().zip(x).zip(weight) {
                *dy = (*dy * weight).mul_add(inverse, -(pull * x));
            }
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

    const EPS: f32 = 1e-3;

    struct Given {
        shape: HeadShape,
        x: Vec<f32>,
        weight: Vec<f32>,
        cosines: Vec<f32>,
        sines: Vec<f32>,
        dy: Vec<f32>,
    }

    fn given(rows: usize, heads: usize, width: usize) -> Given {
        let [x, dy] = [1, 2].map(|seed| random(rows * heads * width, seed));
        let angles = random(rows * width / 2, 4);
        let (sines, cosines) = angles.iter().map(|angle| angle.sin_cos()).unzip();
        Given { shape: HeadShape { rows, heads, width }, x, weight: random(width, 3), cosines, sines, dy }
    }

    impl Given {
        fn turns(&self) -> Vec<f32> {
            let half = self.shape.width / 2;
            let rows = self.cosines.chunks(half).zip(self.sines.chunks(half));
            rows.flat_map(|(cosines, sines)| [cosines, sines].concat()).collect()
        }

        /// Values, gradients of input and weight.
        fn both(&self, isa: Isa) -> Vec<Vec<f32>> {
            let Self { shape, x, weight, dy, .. } = self;
            let turns = self.turns();
            let (mut y, mut dx) = (vec![f32::NAN; x.len()], dy.clone());
            let mut dweight = vec![0.0; weight.len()];
            forward(isa, *shape, EPS, x, weight, &turns, &mut y);
            backward(isa, *shape, EPS, x, weight, &turns, &mut dx, Some(&mut dweight));
            vec![y, dx, dweight]
        }

        /// The formula in f64.
        fn formula(&self, a: &[Vec<f64>]) -> Vec<f64> {
            let (heads, width, half) = (self.shape.heads, self.shape.width, self.shape.width / 2);
            let head = |(i, x): (usize, &[f64])| {
                let square = x.iter().map(|x| x * x).sum::<f64>() / width as f64;
                let root = (square + f64::from(EPS)).sqrt();
                let z: Vec<f64> = x.iter().zip(&a[1]).map(|(x, weight)| x / root * weight).collect();
                let turn = |j: usize| {
                    let at = i / heads * half + j % half;
                    let (cosine, sine) = (f64::from(self.cosines[at]), f64::from(self.sines[at]));
                    let partner = if j < half { -z[j + half] } else { z[j - half] };
                    z[j] * cosine + partner * sine
                };
                (0..width).map(turn).collect::<Vec<_>>()
            };
            a[0].chunks(width).enumerate().flat_map(head).collect()
        }
    }

    #[test]
    fn its_gradients_are_the_slopes() {
        for (rows, heads, width) in [(1, 1, 2), (3, 2, 14), (2, 1, 128)] {
            let given = given(rows, heads, width);
            let ours = given.both(Isa::best());
            let case = Case { what: "norm and rotate", arguments: &[&given.x, &given.weight], dy: &given.dy };
            check_gradients(&case, |a| given.formula(a), &[Some(&ours[1]), Some(&ours[2])]);
        }
    }

    #[test]
    fn it_agrees_with_the_plain_forms_one_after_the_other() {
        for (rows, heads, width) in [(1, 1, 2), (5, 3, 14), (9, 2, 96), (4, 1, 128)] {
            let given = given(rows, heads, width);
            let ours = given.both(Isa::best());
            let (whole, half) = (&[rows, heads, width][..], &[rows, width / 2][..]);
            let arguments = [
                (&given.x[..], whole),
                (&given.weight, &[width]),
                (&given.cosines, half),
                (&given.sines, half),
            ];
            let expected = graph(&arguments, &given.dy, |a| {
                ops::rotate(&ops::rms_norm(&a[0], &a[1], f64::from(EPS))?, &a[2], &a[3])
            });
            close("values", &ours[0], &expected.y, 1e-6);
            close("gradient of the input", &ours[1], &expected.gradients[0], 4e-6);
            close("gradient of the weight", &ours[2], &expected.gradients[1], 4e-6);
        }
    }

    #[test]
    fn it_is_the_norm_and_the_rotation_to_the_bit() {
        let given = given(6, 3, 32);
        let mut y = vec![f32::NAN; given.x.len()];
        super::super::rms_norm::forward(Isa::best(), 32, EPS, &given.x, &given.weight, &mut y);
        rotate(Isa::best(), given.shape, &given.turns(), Turn::Forward, &mut y, 96);
        assert_eq!(y, given.both(Isa::best())[0]);
    }

    #[test]
    fn a_weight_that_is_not_trained_changes_nothing_else() {
        let given = given(6, 3, 32);
        let mut dx = given.dy.clone();
        let turns = given.turns();
        backward(Isa::best(), given.shape, EPS, &given.x, &given.weight, &turns, &mut dx, None);
        assert_eq!(dx, given.both(Isa::best())[1]);
    }

    #[test]
    fn bits_are_the_same_everywhere() {
        let given = given(300, 3, 136);
        same_bits_everywhere("norm and rotate", |isa| given.both(isa));
    }
}
