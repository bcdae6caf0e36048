//! Copies of operands in the order in which a micro-kernel reads them.
//!
//! A panel of `W` rows (or columns) holds, for each step of the inner index, `W` numbers in a row. What is missing in the
//! last panel is zero; the tile's surplus is computed and thrown away.

use std::ops::Range;

use super::matrix::Matrix;

/// Packs `a [rows, depth]` in panels of `W` rows: `panels[p][k][i] = a[p * W + i, k]`.
#[inline(always)]
pub(super) fn pack_rows<const W: usize>(a: Matrix<'_>, panels: &mut [f32], turn: impl Turn) {
    let depth = a.columns;
    for (p, panel) in panels.chunks_exact_mut(W * depth.max(1)).enumerate() {
        let first = p * W;
        let here = W.min(a.rows.saturating_sub(first));
        if here == 0 {
            break;
        }
        let part = a.rows(first..first + here);
        let steps = panel.as_chunks_mut::<W>().0;
        if here < W {
            pack_torn(part, steps);
        } else if part.row_stride == 1 {
            pack_side_by_side(part, steps);
        } else if part.column_stride == 1 {
            pack_apart(part, steps, turn);
        } else {
            pack_torn(part, steps);
        }
    }
}

/// The numbers of a step lie beside each other: each step is one copy.
#[inline(always)]
fn pack_side_by_side<const W: usize>(part: Matrix<'_>, steps: &mut [[f32; W]]) {
    for (k, step) in steps.iter_mut().enumerate() {
        *step = *part.numbers[k * part.column_stride..].first_chunk().expect("a whole panel");
    }
}

/// The numbers of a row lie beside each other: squares of eight by eight are turned, eight rows all along and then the
/// next, so that no more rows are open than a cache has ways.
#[inline(always)]
fn pack_apart<const W: usize>(part: Matrix<'_>, steps: &mut [[f32; W]], turn: impl Turn) {
    let depth = steps.len();
    for first in (0..W / SQUARE * SQUARE).step_by(SQUARE) {
        for k in (0..depth / SQUARE * SQUARE).step_by(SQUARE) {
            let mut square = [[0.0f32; SQUARE]; SQUARE];
            for (i, row) in square.iter_mut().enumerate() {
                let at = (first + i) * part.row_stride + k;
                *row = *part.numbers[at..].first_chunk().expect("a whole square");
            }
            // the panel's next rows, or the next panel's first ones, come after this row's end
            let ahead = part.numbers.as_ptr().wrapping_add((first + SQUARE) * part.row_stride + k);
            turn(&mut square, ahead, part.row_stride);
            for (step, row) in steps[k..].iter_mut().zip(&square) {
                step[first..first + SQUARE].copy_from_slice(row);
            }
        }
    }
    // rows that make no square, and the last steps
    let copy = |steps: &mut [[f32; W]], rows: Range<usize>, from: usize| {
        for (k, step) in steps.iter_mut().enumerate().skip(from) {
            for i in rows.clone() {
                step[i] = part.numbers[i * part.row_stride + k];
            }
        }
    };
    copy(steps, W / SQUARE * SQUARE..W, 0);
    copy(steps, 0..W / SQUARE * SQUARE, depth / SQUARE * SQUARE);
}

/// Side of the squares that are turned.
pub(super) const SQUARE: usize = 8;

/// Turns rows into columns, and may ask the caches for the square that comes next: the numbers that its rows begin with
/// lie at a pointer and so many numbers apart.
pub(super) trait Turn: Fn(&mut [[f32; SQUARE]; SQUARE], *const f32, usize) + Copy {}

impl<F: Fn(&mut [[f32; SQUARE]; SQUARE], *const f32, usize) + Copy> Turn for F {}

/// Turns rows into columns in plain code, and asks for nothing.
pub(super) fn turn_plainly(square: &mut [[f32; SQUARE]; SQUARE], _: *const f32, _: usize) {
    let rows = *square;
    for (i, column) in square.iter_mut().enumerate() {
        for (slot, row) in column.iter_mut().zip(&rows) {
            *slot = row[i];
        }
    }
}

/// Any strides, and the last panel, in which rows are missing.
fn pack_torn<const W: usize>(part: Matrix<'_>, steps: &mut [[f32; W]]) {
    for (k, step) in steps.iter_mut().enumerate() {
        let (there, missing) = step.split_at_mut(part.rows);
        for (i, slot) in there.iter_mut().enumerate() {
            *slot = part.numbers[i * part.row_stride + k * part.column_stride];
        }
        missing.fill(0.0);
    }
}

/// Numbers that panels of `width` take for `rows` rows and `depth` steps.
pub(super) fn packed_len(rows: usize, depth: usize, width: usize) -> usize {
    rows.div_ceil(width) * width * depth
}
