//! Rotary positions, half-split form, and the gradient of angles that are learned.
//!
//! ```text
//! x [n, heads, d]   turns [n, d]: d/2 cosines, then d/2 sines      the pair of a = x[i] is b = x[i + d/2]
//! forward:  a' = a cos - b sin      back:  a' = a cos + b sin
//!           b' = b cos + a sin             b' = b cos - a sin      nothing fused
//! ```
//!
//! Source: Su et al., arXiv 2104.09864; halves instead of neighbours as in the published weights.

use rayon::prelude::*;

use super::{
    isa::{Isa, for_each_isa},
    rows::parallel::rows_of_task,
};
use crate::backend::{HeadShape, Turn};

/// Turns every head of `x` by its row's angles. Row `i` of `x` begins at `i * stride`.
pub(super) fn rotate(isa: Isa, shape: HeadShape, turns: &[f32], turn: Turn, x: &mut [f32], stride: usize) {
    let HeadShape { rows, heads, width } = shape;
    if rows == 0 || width == 0 {
        return;
    }
    let task = rows_of_task(heads * width, rows * heads * width);
    let parts = x.par_chunks_mut(task * stride).zip(turns[..rows * width].par_chunks(task * width));
    parts.for_each(|(x, turns)| rotate_rows(isa, heads, width, turns, turn, x, stride));
}

/// `dangles[i] += dy[i + d/2] * y[i] - dy[i] * y[i + d/2]`, over `rows` and all heads in ascending order; `y` are turned
/// values, each operand with its stride.
pub(super) fn angle_gradient(
    shape: HeadShape,
    rows: &[u32],
    (y, y_stride): (&[f32], usize),
    (dy, dy_stride): (&[f32], usize),
    dangles: &mut [f32],
) {
    let (width, half) = (shape.width, shape.width / 2);
    for &row in rows {
        for head in 0..shape.heads {
            let [y_start, dy_start] =
                [y_stride, dy_stride].map(|stride| row as usize * stride + head * width);
            let (y_a, y_b) = y[y_start..y_start + width].split_at(half);
            let (dy_a, dy_b) = dy[dy_start..dy_start + width].split_at(half);
            let pairs = y_a.iter().zip(y_b).zip(dy_a.iter().zip(dy_b));
            for (dangle, ((y_a, y_b), (dy_a, dy_b))) in dangles.iter_mut().zip(pairs) {
                *dangle += dy_b * y_a - dy_a * y_b;
            }
        }
    }
}

/// Turns one head by `turns`, its cosines and then its sines.
#[inline(always)]
pub(super) fn turn_head(head: &mut [f32], turns: &[f32], turn: Turn) {
    // times minus one is exact: both ways share one loop
    let sign = if turn == Turn::Forward { 1.0 } else { -1.0 };
    let half = head.len() / 2;
    let (cosines, sines) = turns.split_at(half);
    let (a, b) = head.split_at_mut(half);
    for (((a, b), cosine), sine) in a.iter_mut().zip(b).zip(cosines).zip(sines) {
        let sine = sign * sine;
        (*a, *b) = (*a * cosine - *b * sine, *b * cosine + *a * sine);
    }
}

for_each_isa! {
    fn rotate_rows(heads: usize, width: usize, turns: &[f32], turn: Turn, x: &mut [f32], stride: usize) {
        // the last row may be shorter than the stride
        for (x, turns) in x.chunks_mut(stride).zip(turns.chunks_exact(width)) {
            for head in x[..heads * width].chunks_exact_mut(width) {
                turn_head(head, turns, turn);
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

    /// Angles and the table made of them.
    fn table(rows: usize, width: usize) -> (Vec<f32>, Vec<f32>) {
        let angles = random(rows * width / 2, 5);
        let row = |angles: &[f32]| {
            let both = angles.iter().map(|a| a.cos()).chain(angles.iter().map(|a| a.sin()));
            both.collect::<Vec<_>>()
        };
        let turns = angles.chunks(width / 2).flat_map(row).collect();
        (angles, turns)
    }

    fn halves(turns: &[f32], width: usize) -> [Vec<f32>; 2] {
        let half = width / 2;
        [0, half].map(|at| turns.chunks(width).flat_map(|row| row[at..at + half].to_vec()).collect())
    }

    fn turned(isa: Isa, shape: HeadShape, turns: &[f32], turn: Turn, x: &[f32]) -> Vec<f32> {
        let mut y = x.to_vec();
        rotate(isa, shape, turns, turn, &mut y, shape.heads * shape.width);
        y
    }

    /// The formula in f64, of values and angles; row `i` turns by angles `i % angle_rows`.
    fn formula(shape: HeadShape) -> impl Fn(&[Vec<f64>]) -> Vec<f64> {
        let HeadShape { heads, width, .. } = shape;
        let half = width / 2;
        move |a| {
            let mut y = a[0].clone();
            let angle_rows = a[1].len() / half;
            for (i, head) in y.chunks_mut(width).enumerate() {
                for j in 0..half {
                    let (sine, cosine) = a[1][i / heads % angle_rows * half + j].sin_cos();
                    let (first, second) = (head[j], head[half + j]);
                    head[j] = first * cosine - second * sine;
                    head[half + j] = second * cosine + first * sine;
                }
            }
            y
        }
    }

    #[test]
    fn turning_back_is_the_gradient() {
        for (rows, heads, width) in [(1, 1, 2), (4, 3, 10), (3, 2, 64)] {
            let shape = HeadShape { rows, heads, width };
            let (angles, turns) = table(rows, width);
            let len = rows * heads * width;
            let (x, dy) = (random(len, 1), random(len, 2));
            let dx = turned(Isa::best(), shape, &turns, Turn::Back, &dy);
            let case = Case { what: "rotate", arguments: &[&x, &angles], dy: &dy };
            check_gradients(&case, formula(shape), &[Some(&dx), None]);
        }
    }

    #[test]
    fn it_agrees_with_the_plain_form() {
        for (rows, heads, width) in [(1, 1, 2), (5, 3, 14), (7, 2, 96)] {
            let shape = HeadShape { rows, heads, width };
            let (_, turns) = table(rows, width);
            let [cosines, sines] = halves(&turns, width);
            let len = rows * heads * width;
            let (x, dy) = (random(len, 1), random(len, 2));
            let (whole, half) = (&[rows, heads, width][..], &[rows, width / 2][..]);
            let arguments = [(&x[..], whole), (&cosines, half), (&sines, half)];
            let expected = graph(&arguments, &dy, |a| ops::rotate(&a[0], &a[1], &a[2]));
            close("values", &turned(Isa::best(), shape, &turns, Turn::Forward, &x), &expected.y, 1e-6);
            let dx = turned(Isa::best(), shape, &turns, Turn::Back, &dy);
            close("gradient", &dx, &expected.gradients[0], 1e-6);
        }
    }

    #[test]
    fn learned_angles_get_the_sum_of_their_rows_and_heads() {
        let shape = HeadShape { rows: 3, heads: 2, width: 6 };
        let angles = random(3, 5);
        let row: Vec<f32> = angles.iter().map(|a| a.cos()).chain(angles.iter().map(|a| a.sin())).collect();
        let (x, dy) = (random(36, 1), random(36, 2));
        let y = turned(Isa::best(), shape, &row.repeat(3), Turn::Forward, &x);
        let mut dangles = vec![0.0; 3];
        angle_gradient(shape, &[0], (&y, 12), (&dy, 12), &mut dangles);
        angle_gradient(shape, &[1, 2], (&y, 12), (&dy, 12), &mut dangles);
        let case = Case { what: "angles", arguments: &[&x, &angles], dy: &dy };
        check_gradients(&case, formula(shape), &[None, Some(&dangles)]);
    }

    #[test]
    fn columns_of_a_wider_matrix_are_turned_and_the_others_left_alone() {
        let shape = HeadShape { rows: 1500, heads: 3, width: 8 };
        let (_, turns) = table(1500, 8);
        let whole = random(1500 * 70, 1);
        let columns: Vec<f32> = whole.chunks(70).flat_map(|row| row[46..].to_vec()).collect();
        let mut ours = whole.clone();
        rotate(Isa::best(), shape, &turns, Turn::Forward, &mut ours[46..], 70);
        let expected = turned(Isa::best(), shape, &turns, Turn::Forward, &columns);
        for ((ours, before), expected) in ours.chunks(70).zip(whole.chunks(70)).zip(expected.chunks(24)) {
            assert_eq!(ours[..46], before[..46]);
            assert_eq!(ours[46..], *expected);
        }
    }

    #[test]
    fn bits_are_the_same_everywhere() {
        let shape = HeadShape { rows: 700, heads: 3, width: 34 };
        let (_, turns) = table(700, 34);
        let x = random(700 * 3 * 34, 1);
        same_bits_everywhere("rotate", |isa| {
            [Turn::Forward, Turn::Back].map(|turn| turned(isa, shape, &turns, turn, &x)).to_vec()
        });
    }
}
