//! RMSNorm over the last axis, of the decoder.
//!
//! ```text
//! x [n, w]   weight [w]   r = 1 / sqrt(mean(x^2) + eps)           y = (x * r) * weight
//! dx += r * g - x * r^3 * mean(g * x)   with g = dy * weight      dweight += sum over rows of dy * (x * r)
//! ```
//!
//! Source: Zhang and Sennrich, arXiv 1910.07467.

use rayon::prelude::*;

use super::{
    isa::{Isa, for_each_isa},
    lanes::{sum, sum3},
    rows::parallel::{columns_of_task, rows_of_task},
};

/// `y = x / sqrt(mean(x^2) + eps) * weight`, for rows of `width`.
pub(super) fn forward(isa: Isa, width: usize, eps: f32, x: &[f32], weight: &[f32], y: &mut [f32]) {
    let part = rows_of_task(width, x.len()) * width;
    let parts = y.par_chunks_mut(part).zip(x.par_chunks(part));
    parts.for_each(|(y, x)| forward_rows(isa, eps, x, weight, y));
}

/// Adds the gradient of `x` to `dx`, and that of `weight` to `dweight` where it is wanted.
#[expect(clippy::too_many_arguments, reason = "a backward takes what its forward took, and the gradients")]
pub(super) fn backward(
    isa: Isa,
    width: usize,
    eps: f32,
    x: &[f32],
    weight: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    dweight: Option<&mut [f32]>,
) {
    let rows = rows_of_task(width, x.len());
    let part = rows * width;
    let mut inverses = vec![0.0; x.len() / width];
    let parts = inverses.par_chunks_mut(rows).zip(x.par_chunks(part)).zip(dy.par_chunks(part));
    parts
        .zip(dx.par_chunks_mut(part))
        .for_each(|(((inverses, x), dy), dx)| backward_rows(isa, eps, x, weight, dy, dx, inverses));
    if let Some(dweight) = dweight {
        weight_gradient(isa, x, &inverses, dy, dweight);
    }
}

/// `dweight [w] +=` the sum over rows of `dy * (x * inverse)`, with an inverse for every row.
pub(super) fn weight_gradient(isa: Isa, x: &[f32], inverses: &[f32], dy: &[f32], dweight: &mut [f32]) {
    let part = columns_of_task(dweight.len(), inverses.len());
    let width = dweight.len();
    let parts = dweight.par_chunks_mut(part).enumerate();
    parts.for_each(|(i, dweight)| weight_columns(isa, width, i * part, x, inverses, dy, dweight));
}

/// One over the root mean square.
#[inline(always)]
pub(super) fn inverse_rms(x: &[f32], eps: f32) -> f32 {
    let square = sum(x, |lane: f32, x| x.mul_add(x, lane)) / x.len() as f32;
    1.0 / (square + eps).sqrt()
}

/// How much of `x` itself its gradient loses.
#[inline(always)]
pub(super) fn pull(x: &[f32], weight: &[f32], dy: &[f32], inverse: f32) -> f32 {
    let mean = sum3(dy, weight, x, |lane, dy, weight, x| (dy * weight).mul_add(x, lane)) / x.len() as f32;
    inverse * inverse * inverse * mean
}

for_each_isa! {
    fn forward_rows(eps: f32, x: &[f32], weight: &[f32], y: &mut [f32]) {
        let width = weight.len();
        for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
            let inverse = inverse_rms(x, eps);
            for ((y, x), weight) in y.iter_mut().zip(x).zip(weight) {
                *y = x * inverse * weight;
            }
        }
    }
}

for_each_isa! {
    fn backward_rows(eps: f32, x: &[f32], weight: &[f32], dy: &[f32], dx: &mut [f32], inverses: &mut [f32]) {
        let width = weight.len();
        let rows = x.chunks_exact(width).zip(dy.chunks_exact(width)).zip(dx.chunks_exact_mut(width));
        for (((x, dy), dx), inverse) in rows.zip(inverses) {
            *inverse = inverse_rms(x, eps);
            let pull = pull(x, weight, dy, *inverse);
            for (((dx, x), dy), weight) in dx.iter_mut().zip(x).zip(dy).zip(weight) {
                *dx += (dy * weight).mul_add(*inverse, -(pull * x));
            }
        }
    }
}

for_each_isa! {
    fn weight_columns(
        width: usize,
        first: usize,
        x: &[f32],
        inverses: &[f32],
        dy: &[f32],
        dweight: &mut [f32],
    ) {
        let columns = first..first + dweight.len();
        for ((x, dy), inverse) in x.chunks_exact(width).zip(dy.chunks_exact(width)).zip(inverses) {
            for ((dweight, x), dy) in dweight.iter_mut().zip(&x[columns.clone()]).zip(&dy[columns.clone()]) {
                *dweight = dy.mul_add(x * inverse, *dweight);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cpu::testkit::{Case, WIDTHS, check_gradients, close, graph, random, same_bits_everywhere},
        reference::ops,
    };

    const EPS: f32 = 1e-3;

    struct Given {
        x: Vec<f32>,
        weight: Vec<f32>,
        dy: Vec<f32>,
    }

    fn given(rows: usize, width: usize) -> Given {
        Given { x: random(rows * width, 1), weight: random(width, 2), dy: random(rows * width, 3) }
    }

    /// Values, gradient of the input, gradient of the weight.
    fn both(isa: Isa, given: &Given) -> Vec<Vec<f32>> {
        let Given { x, weight, dy } = given;
        let width = weight.len();
        let (mut y, mut dx, mut dweight) = (vec![f32::NAN; x.len()], vec![0.0; x.len()], vec![0.0; width]);
        forward(isa, width, EPS, x, weight, &mut y);
        backward(isa, width, EPS, x, weight, dy, &mut dx, Some(&mut dweight));
        vec![y, dx, dweight]
    }

    /// The formula in f64.
    fn formula(a: &[Vec<f64>]) -> Vec<f64> {
        let width = a[1].len();
        let row = |x: &[f64]| {
            let square = x.iter().map(|x| x * x).sum::<f64>() / width as f64;
            let root = (square + f64::from(EPS)).sqrt();
            x.iter().zip(&a[1]).map(|(x, weight)| x / root * weight).collect::<Vec<_>>()
        };
        a[0].chunks(width).flat_map(row).collect()
    }

    #[test]
    fn its_gradients_are_the_slopes() {
        for width in WIDTHS {
            let given = given(3, width);
            let ours = both(Isa::best(), &given);
            let case = Case { what: "rms norm", arguments: &[&given.x, &given.weight], dy: &given.dy };
            check_gradients(&case, formula, &[Some(&ours[1]), Some(&ours[2])]);
        }
    }

    #[test]
    fn it_agrees_with_the_plain_form() {
        for width in WIDTHS {
            let given = given(11, width);
            let ours = both(Isa::best(), &given);
            let arguments = [(&given.x[..], &[11, width][..]), (&given.weight, &[width])];
            let expected = graph(&arguments, &given.dy, |a| ops::rms_norm(&a[0], &a[1], f64::from(EPS)));
            close("values", &ours[0], &expected.y, 1e-6);
            close("gradient of the input", &ours[1], &expected.gradients[0], 4e-6);
            close("gradient of the weight", &ours[2], &expected.gradients[1], 4e-6);
        }
    }

    #[test]
    fn gradients_are_added_and_groups_of_rows_change_no_bit() {
        let given = given(10, 97);
        let whole = both(Isa::best(), &given);
        let (mut dx, mut dweight) = (vec![0.0; 970], vec![0.0; 97]);
        for rows in [0..4, 4..10] {
            let part = rows.start * 97..rows.end * 97;
            let (x, dy) = (&given.x[part.clone()], &given.dy[part.clone()]);
            backward(Isa::best(), 97, EPS, x, &given.weight, dy, &mut dx[part], Some(&mut dweight));
        }
        assert_eq!([&dx, &dweight], [&whole[1], &whole[2]]);
        let mut twice = dx.clone();
        backward(Isa::best(), 97, EPS, &given.x, &given.weight, &given.dy, &mut twice, None);
        assert!(twice.iter().zip(&dx).all(|(twice, once)| *twice == 2.0 * once));
    }

    #[test]
    fn bits_are_the_same_everywhere() {
        for (rows, width) in [(130, 257), (40_000, 1)] {
            let mut given = given(rows, width);
            given.x[width] = f32::NAN;
            same_bits_everywhere("rms norm", |isa| both(isa, &given));
        }
    }
}
