//! Copies of operands in the order in which a micro-kernel reads them.
//!
//! A panel of `width` rows (or columns) holds, for each step of the inner index, `width` numbers in a row. What is
//! missing in the last panel is zero; the tile's surplus is computed and thrown away.

use super::matrix::Matrix;

/// Packs `a [rows, depth]` in panels of `width` rows: `panels[p][k][i] = a[p * width + i, k]`.
pub(super) fn pack_rows(a: Matrix<'_>, width: usize, panels: &mut [f32]) {
    let depth = a.columns;
    for (p, panel) in panels.chunks_exact_mut(width * depth.max(1)).enumerate() {
        let first = p * width;
        let here = width.min(a.rows.saturating_sub(first));
        if here == 0 {
            break;
        }
        let part = a.rows(first..first + here);
        if part.row_stride == 1 {
            pack_side_by_side(part, width, panel);
        } else {
            pack_apart(part, width, panel);
        }
    }
}

/// The numbers of a step lie beside each other: each step is one copy.
fn pack_side_by_side(part: Matrix<'_>, width: usize, panel: &mut [f32]) {
    for (k, step) in panel.chunks_exact_mut(width).enumerate() {
        let at = k * part.column_stride;
        let (there, missing) = step.split_at_mut(part.rows);
        there.copy_from_slice(&part.numbers[at..at + part.rows]);
        missing.fill(0.0);
    }
}

/// The numbers of a row lie beside each other: rows are read in pieces of eight steps, so that what is written stays in
/// the nearest cache.
fn pack_apart(part: Matrix<'_>, width: usize, panel: &mut [f32]) {
    const STEPS: usize = 8;
    if part.rows < width {
        panel.fill(0.0);
    }
    let depth = part.columns;
    if part.column_stride != 1 {
        for (k, step) in panel.chunks_exact_mut(width).enumerate() {
            for (i, slot) in step[..part.rows].iter_mut().enumerate() {
                *slot = part.numbers[i * part.row_stride + k * part.column_stride];
            }
        }
        return;
    }
    let whole = depth / STEPS * STEPS;
    for k in (0..whole).step_by(STEPS) {
        let steps = &mut panel[k * width..(k + STEPS) * width];
        for i in 0..part.rows {
            let at = i * part.row_stride + k;
            let row: &[f32; STEPS] = part.numbers[at..].first_chunk().expect("eight steps are there");
            for (step, &number) in row.iter().enumerate() {
                steps[step * width + i] = number;
            }
        }
    }
    for k in whole..depth {
        for i in 0..part.rows {
            panel[k * width + i] = part.numbers[i * part.row_stride + k];
        }
    }
}

/// Numbers that panels of `width` take for `rows` rows and `depth` steps.
pub(super) fn packed_len(rows: usize, depth: usize, width: usize) -> usize {
    rows.div_ceil(width) * width * depth
}
