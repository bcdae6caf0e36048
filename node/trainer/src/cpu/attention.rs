//! Attention inside segments, without a mask or a matrix of all scores.
//!
//! ```text
//! y_i = sum_j p_ij v_j      p_ij = exp(s_ij - m_i) / sum_j exp(s_ij - m_i)      s_ij = q_i . k_j / sqrt(d)
//! ```
//! `m_i` is the largest score of row `i`. Under a causal mask query `i` of `n` sees the first `m - n + i + 1` of `m`
//! keys. Queries go in tiles of [`TILE`] rows of a segment, and a tile holds its scores against *all* keys of the
//! segment, so there is no running maximum and the result doesn't depend on a block size of keys: memory is
//! `TILE x m` per thread. Chains over keys go up to the last key that any query of the tile sees, with weight zero
//! where a query does not.
//!
//! Backward, with `D_i = dy_i . y_i` and `dp_ij = dy_i . v_j`:
//! ```text
//! ds_ij = p_ij (dp_ij - D_i) / sqrt(d)     dq_i = sum_j ds_ij k_j     dk_j = sum_i ds_ij q_i     dv_j = sum_i p_ij dy_i
//! ```
//! Sums over queries go through the heads of a group in order, and the queries of a head in order.
//!
//! Source: Dao, "FlashAttention-2", arXiv 2307.08691, for keeping a row's statistics instead of its weights.

mod backward;
mod forward;
mod tile;

use std::ops::Range;

use rayon::prelude::*;

pub(super) use self::{backward::backward, forward::forward};
use super::{Buffer, gemm::Matrix};
use crate::backend::{Attention, Columns, Segment};

/// Queries that are looked at together; a multiple of every kernel's rows. Part of the exact class.
pub(crate) const TILE: usize = 84;

/// One group of one segment: the unit of work, which owns its keys.
#[derive(Debug, Clone, Copy)]
struct Task<'a> {
    segment: &'a Segment,
    group: usize,
}

/// All units of work, longest segments first so that threads end together.
fn tasks<'a>(attention: &Attention<'a>) -> Vec<Task<'a>> {
    let mut segments: Vec<&Segment> = attention.segments.iter().collect();
    segments.sort_by_key(|segment| std::cmp::Reverse(segment.queries.len() * segment.keys.len()));
    let of_segment = |segment| (0..attention.groups).map(move |group| Task { segment, group });
    segments.into_iter().flat_map(of_segment).collect()
}

/// One head of some rows, as a matrix `[rows, width]`.
fn head_of<'a>(columns: &Columns<'a, Buffer>, rows: &Range<usize>, head: usize, width: usize) -> Matrix<'a> {
    let numbers: &'a [f32] = columns.buffer;
    let start = columns.start + rows.start * columns.stride + head * width;
    Matrix::strided(numbers.get(start..).unwrap_or(&[]), rows.len(), width, columns.stride)
}

/// The query heads that read the keys of a group.
fn heads_of(attention: &Attention<'_>, group: usize) -> Range<usize> {
    let each = attention.heads / attention.groups;
    group * each..(group + 1) * each
}

/// Tiles of a segment's queries.
fn tiles(queries: usize) -> impl Iterator<Item = Range<usize>> {
    (0..queries).step_by(TILE).map(move |start| start..(start + TILE).min(queries))
}

/// `1 / sqrt(d)`.
fn scale_of(attention: &Attention<'_>) -> f32 {
    (1.0 / (attention.width as f64).sqrt()) as f32
}

/// Numbers that a task made apart: rows of some width, and where they belong.
struct Block<'a> {
    row: usize,
    column: usize,
    numbers: &'a [f32],
}

/// Copies blocks of `width` columns to their places in rows of `stride` numbers. Tasks write apart and this puts
/// together, because two of them own different columns of the same rows.
fn put_down(mut blocks: Vec<Block<'_>>, width: usize, to: &mut [f32], stride: usize) {
    const ROWS: usize = 64;
    blocks.retain(|block| !block.numbers.is_empty());
    blocks.sort_unstable_by_key(|block| (block.row, block.column));
    to.par_chunks_mut(ROWS * stride).enumerate().for_each(|(chunk, to)| {
        let rows = chunk * ROWS..(chunk + 1) * ROWS;
        for block in blocks.iter().take_while(|block| block.row < rows.end) {
            let end = block.row + block.numbers.len() / width;
            for row in block.row.max(rows.start)..end.min(rows.end) {
                let from = &block.numbers[(row - block.row) * width..][..width];
                to[(row - rows.start) * stride + block.column..][..width].copy_from_slice(from);
            }
        }
    });
}

#[cfg(test)]
mod tests;
