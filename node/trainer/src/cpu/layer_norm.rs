//! LayerNorm over the last axis, of the vision tower and the merger.
//!
//! ```text
//! x [n, w]   weight, bias [w]   z = (x - mean(x)) * r,  r = 1 / sqrt(mean((x - mean(x))^2) + eps)
//! y = z * weight + bias
//! dx += r * (g - mean(g) - z * mean(g * z))   with g = dy * weight
//! dweight += sum over rows of dy * z          dbias += sum over rows of dy
//! ```
//!
//! Source: Ba, Kiros and Hinton, arXiv 1607.06450.

use rayon::prelude::*;

use super::{
    isa::{Isa, for_each_isa},
    lanes::{sum, sum2, sum3},
    rows::parallel::{columns_of_task, rows_of_task},
};

/// What a row's numbers are brought to.
#[derive(Clone, Copy, Default)]
struct Moments {
    mean: f32,
    /// One over the deviation.
    inverse: f32,
}

/// `y = (x - mean) / sqrt(variance + eps) * weight + bias`, for rows of `width`.
pub(super) fn forward(
    isa: Isa,
    width: usize,
    eps: f32,
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    y: &mut [f32],
) {
    let part = rows_of_task(width, x.len()) * width;
    let parts = y.par_chunks_mut(part).zip(x.par_chunks(part));
    parts.for_each(|(y, x)| forward_rows(isa, eps, x, weight, bias, y));
}

/// Adds the gradient of `x` to `dx`, and those of weight and bias to `parameters` where they are wanted.
#[expect(clippy::too_many_arguments, reason = "a backward takes what its forward took, and the gradients")]
pub(super) fn backward(
    isa: Isa,
    width: usize,
    eps: f32,
    x: &[f32],
    weight: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    parameters: Option<(&mut [f32], &mut [f32])>,
) {
    let rows = rows_of_task(width, x.len());
    let part = rows * width;
    let mut moments = vec![Moments::default(); x.len() / width];
    let parts = moments.par_chunks_mut(rows).zip(x.par_chunks(part)).zip(dy.par_chunks(part));
    parts
        .zip(dx.par_chunks_mut(part))
        .for_each(|(((moments, x), dy), dx)| backward_rows(isa, eps, x, weight, dy, dx, moments));
    if let Some((dweight, dbias)) = parameters {
        let part = columns_of_task(width, moments.len());
        let parts = dweight.par_chunks_mut(part).zip(dbias.par_chunks_mut(part)).enumerate();
        parts.for_each(|(i, (dweight, dbias))| {
            parameter_columns(isa, width, i * part, x, &moments, dy, dweight, dbias);
        });
    }
}

#[inline(always)]
fn moments_of(x: &[f32], eps: f32) -> Moments {
    let width = x.len() as f32;
    let mean = sum(x, |lane: f32, x| lane + x) / width;
    let variance = sum(x, |lane: f32, x| (x - mean).mul_add(x - mean, lane)) / width;
    Moments { mean, inverse: 1.0 / (variance + eps).sqrt() }
}

for_each_isa! {
    fn forward_rows(eps: f32, x: &[f32], weight: &[f32], bias: &[f32], y: &mut [f32]) {
        let width = weight.len();
        for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
            let Moments { mean, inverse } = moments_of(x, eps);
            for (((y, x), weight), bias) in y.iter_mut().zip(x).zip(weight).zip(bias) {
                *y = ((x - mean) * inverse).mul_add(*weight, *bias);
            }
        }
    }
}

for_each_isa! {
    fn backward_rows(
        eps: f32,
        x: &[f32],
        weight: &[f32],
        dy: &[f32],
        dx: &mut [f32],
        moments: &mut [Moments],
    ) {
        let width = weight.len();
        let rows = x.chunks_exact(width).zip(dy.chunks_exact(width)).zip(dx.chunks_exact_mut(width));
        for (((x, dy), dx), moments) in rows.zip(moments) {
            *moments = moments_of(x, eps);
            let Moments { mean, inverse } = *moments;
            let shift = sum2(dy, weight, |lane, dy, weight| dy.mul_add(weight, lane)) / width as f32;
            let twist = sum3(dy, weight, x, |lane, dy, weight, x| {
                (dy * weight).mul_add((x - mean) * inverse, lane)
            }) / width as f32;
            for (((dx, x), dy), weight) in dx.iter_mut().zip(x).zip(dy).zip(weight) {
                let normal = (x - mean) * inverse;
                *dx += inverse * (-normal).mul_add(twist, dy.mul_add(*weight, -shift));
            }
        }
    }
}

for_each_isa! {
    fn parameter_columns(
        width: usize,
        first: usize,
        x: &[f32],
        moments: &[Moments],
        dy: &[f32],
        dweight: &mut [f32],
        dbias: &mut [f32],
    ) {
        let columns = first..first + dweight.len();
        for ((x, dy), moments) in x.chunks_exact(width).zip(dy.chunks_exact(width)).zip(moments) {
            let (x, dy) = (&x[columns.clone()], &dy[columns.clone()]);
            for (((dweight, dbias), x), dy) in dweight.iter_mut().zip(dbias.iter_mut()).zip(x).zip(dy) {
                *dweight = dy.mul_add((x - moments.mean) * moments.inverse, *dweight);
                *dbias += dy;
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
        bias: Vec<f32>,
        dy: Vec<f32>,
    }

    fn given(rows: usize, width: usize) -> Given {
        let [x, dy] = [1, 2].map(|seed| random(rows * width, seed));
        Given { x, weight: random(width, 3), bias: random(width, 4), dy }
    }

    /// Values, gradients of input, weight and bias.
    fn both(isa: Isa, given: &Given) -> Vec<Vec<f32>> {
        let Given { x, weight, bias, dy } = given;
        let width = weight.len();
        let (mut y, mut dx) = (vec![f32::NAN; x.len()], vec![0.0; x.len()]);
        let (mut dweight, mut dbias) = (vec![0.0; width], vec![0.0; width]);
        forward(isa, width, EPS, x, weight, bias, &mut y);
        backward(isa, width, EPS, x, weight, dy, &mut dx, Some((&mut dweight, &mut dbias)));
        vec![y, dx, dweight, dbias]
    }

    /// The formula in f64.
    fn formula(a: &[Vec<f64>]) -> Vec<f64> {
        let (weight, bias) = (&a[1], &a[2]);
        let width = weight.len() as f64;
        let row = |x: &[f64]| {
            let mean = x.iter().sum::<f64>() / width;
            let variance = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / width;
            let root = (variance + f64::from(EPS)).sqrt();
            let normal = x.iter().map(|x| (x - mean) / root);
            normal
                .zip(weight.iter().zip(bias))
                .map(|(z, (weight, bias))| z * weight + bias)
                .collect::<Vec<_>>()
        };
        a[0].chunks(weight.len()).flat_map(row).collect()
    }

    #[test]
    fn its_gradients_are_the_slopes() {
        for width in WIDTHS {
            let given = given(3, width);
            let ours = both(Isa::best(), &given);
            let arguments: &[&[f32]] = &[&given.x, &given.weight, &given.bias];
            let case = Case { what: "layer norm", arguments, dy: &given.dy };
            check_gradients(&case, formula, &[Some(&ours[1]), Some(&ours[2]), Some(&ours[3])]);
        }
    }

    #[test]
    fn it_agrees_with_the_plain_form() {
        for width in WIDTHS {
            let given = given(11, width);
            let ours = both(Isa::best(), &given);
            let arguments =
                [(&given.x[..], &[11, width][..]), (&given.weight, &[width]), (&given.bias, &[width])];
            let operation = |a: &[_]| ops::layer_norm(&a[0], &a[1], &a[2], f64::from(EPS));
            let expected = graph(&arguments, &given.dy, operation);
            close("values", &ours[0], &expected.y, 1e-6);
            for (which, (ours, expected)) in ours[1..].iter().zip(&expected.gradients).enumerate() {
                close(&format!("gradient {which}"), ours, expected, 4e-6);
            }
        }
    }

    #[test]
    fn gradients_are_added_and_groups_of_rows_change_no_bit() {
        let given = given(10, 97);
        let whole = both(Isa::best(), &given);
        let (mut dx, mut dweight, mut dbias) = (vec![0.0; 970], vec![0.0; 97], vec![0.0; 97]);
        for rows in [0..4, 4..10] {
            let part = rows.start * 97..rows.end * 97;
            let (x, dy) = (&given.x[part.clone()], &given.dy[part.clone()]);
            let parameters = Some((&mut dweight[..], &mut dbias[..]));
            backward(Isa::best(), 97, EPS, x, &given.weight, dy, &mut dx[part], parameters);
        }
        assert_eq!([&dx, &dweight, &dbias], [&whole[1], &whole[2], &whole[3]]);
        let mut twice = dx.clone();
        backward(Isa::best(), 97, EPS, &given.x, &given.weight, &given.dy, &mut twice, None);
        assert!(twice.iter().zip(&dx).all(|(twice, once)| *twice == 2.0 * once));
    }

    #[test]
    fn bits_are_the_same_everywhere() {
        for (rows, width) in [(130, 257), (40_000, 1)] {
            let mut given = given(rows, width);
            given.x[width] = f32::NAN;
            same_bits_everywhere("layer norm", |isa| both(isa, &given));
        }
    }
}
