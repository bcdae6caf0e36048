//! Rows of scores: largest, exponentials, sums.

use std::ops::Range;

use crate::{
    backend::Attention,
    cpu::{isa::for_each_isa, lanes, math},
};

/// How a tile of queries looks at its segment's keys.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sight {
    /// Keys that the tile's first query sees, and one more for each following one, at most `keys`.
    first: usize,
    step: usize,
    keys: usize,
}

impl Sight {
    /// Of the queries `tile`, counted in their segment.
    pub(super) fn new(attention: &Attention<'_>, queries: usize, keys: usize, tile: &Range<usize>) -> Self {
        if attention.causal {
            Self { first: (keys + tile.start + 1).saturating_sub(queries), step: 1, keys }
        } else {
            Self { first: keys, step: 0, keys }
        }
    }

    /// Keys that query `i` of the tile sees.
    pub(super) fn of(&self, i: usize) -> usize {
        (self.first + self.step * i).min(self.keys)
    }
}

for_each_isa! {
    /// Turns scores `[rows, width]` into `exp(scale * s - m)`, not yet divided by their sums, and keeps `m` and one over
    /// the sum per row; what a query doesn't see becomes zero.
    pub(super) fn exponentials(
        scores: &mut [f32],
        width: usize,
        scale: f32,
        sight: Sight,
        statistics: &mut [[f32; 2]],
    ) {
        for (i, (row, statistics)) in scores.chunks_exact_mut(width).zip(statistics).enumerate() {
            let (seen, unseen) = row.split_at_mut(sight.of(i).min(width));
            let largest = scale * lanes::largest(seen);
            for s in seen.iter_mut() {
                *s = math::exp(s.mul_add(scale, -largest));
            }
            unseen.fill(0.0);
            *statistics = [largest, 1.0 / lanes::sum(seen, |lane: f32, p| lane + p)];
        }
    }
}

for_each_isa! {
    /// The weights again, from scores and kept statistics.
    pub(super) fn weights(
        scores: &mut [f32],
        width: usize,
        scale: f32,
        sight: Sight,
        statistics: &[[f32; 2]],
    ) {
        for (i, (row, &[largest, share])) in scores.chunks_exact_mut(width).zip(statistics).enumerate() {
            let (seen, unseen) = row.split_at_mut(sight.of(i).min(width));
            for s in seen.iter_mut() {
                *s = math::exp(s.mul_add(scale, -largest)) * share;
            }
            unseen.fill(0.0);
        }
    }
}

for_each_isa! {
    /// `rows [n, width]` times a factor each.
    pub(super) fn scale_rows(rows: &mut [f32], width: usize, statistics: &[[f32; 2]]) {
        for (row, &[_, share]) in rows.chunks_exact_mut(width).zip(statistics) {
            row.iter_mut().for_each(|y| *y *= share);
        }
    }
}

for_each_isa! {
    /// Turns `dp` into `ds = p (dp - d) scale`, row by row with its `d`.
    pub(super) fn score_gradients(p: &[f32], dp: &mut [f32], width: usize, scale: f32, d: &[f32]) {
        for ((p, dp), &d) in p.chunks_exact(width).zip(dp.chunks_exact_mut(width)).zip(d) {
            for (p, dp) in p.iter().zip(dp) {
                *dp = p * (*dp - d) * scale;
            }
        }
    }
}

for_each_isa! {
    /// `a . b` for rows of `width` numbers, `a` and `b` with strides of their own.
    pub(super) fn row_products(
        a: &[f32],
        a_stride: usize,
        b: &[f32],
        b_stride: usize,
        width: usize,
        products: &mut [f32],
    ) {
        for (i, product) in products.iter_mut().enumerate() {
            let (a, b) = (&a[i * a_stride..][..width], &b[i * b_stride..][..width]);
            *product = lanes::sum2(a, b, |lane, a, b| lane + a * b);
        }
    }
}
