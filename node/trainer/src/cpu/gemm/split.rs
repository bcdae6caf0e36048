//! A product on all threads: the result is cut into rectangles, and each thread packs what it needs by itself.

use super::{
    Finish, Isa, Start,
    blocked::{self, FinishAt, Rectangle},
    matrix::{Matrix, MatrixMut},
};

/// Multiply-adds below which a product is not worth a second thread.
const SMALL: usize = 1 << 17;
/// Cuts fall on multiples of this, so that no thread gets a torn panel: a multiple of every kernel's rows and columns.
const ROWS: usize = 84;
const COLUMNS: usize = 32;

/// A part of the product: views of the operands and the rectangle that they make.
struct Part<'a> {
    a: Matrix<'a>,
    b: Matrix<'a>,
    c: Rectangle<'a>,
    finish: FinishAt<'a>,
}

pub(super) fn multiply(
    isa: Isa,
    a: Matrix<'_>,
    b: Matrix<'_>,
    start: Start,
    finish: Finish<'_>,
    c: MatrixMut<'_>,
) {
    let finish = FinishAt { finish, row: 0, column: 0, width: c.columns };
    let part = Part { a, b, c: Rectangle::new(c), finish };
    let work = a.rows * a.columns * b.columns;
    let threads = if work < SMALL { 1 } else { rayon::current_num_threads() };
    halve(isa, start, part, threads);
}

/// The whole product on this thread.
pub(super) fn alone(isa: Isa, a: Matrix<'_>, b: Matrix<'_>, start: Start, c: MatrixMut<'_>) {
    let finish = FinishAt { finish: Finish::default(), row: 0, column: 0, width: c.columns };
    blocked::multiply(isa, a, b, start, finish, Rectangle::new(c));
}

/// Cuts along the longer side, in proportion to the threads of both halves.
fn halve(isa: Isa, start: Start, part: Part<'_>, threads: usize) {
    let Part { a, b, c, finish } = part;
    let (rows, columns) = (c.rows, c.columns);
    let cut = |length: usize, of: usize| (length * (threads / 2) / threads).next_multiple_of(of).min(length);
    let (row, column) = (cut(rows, ROWS), cut(columns, COLUMNS));
    if threads < 2 || (row == rows && column == columns) {
        return blocked::multiply(isa, a, b, start, finish, c);
    }
    let (first, second) = if row < rows && (rows >= columns || column == columns) {
        let (top, bottom) = c.split_rows(row);
        let below = FinishAt { row: finish.row + row, ..finish };
        (
            Part { a: a.rows(0..row), b, c: top, finish },
            Part { a: a.rows(row..rows), b, c: bottom, finish: below },
        )
    } else {
        let (left, right) = c.split_columns(column);
        let beside = FinishAt { column: finish.column + column, ..finish };
        (
            Part { a, b: b.columns(0..column), c: left, finish },
            Part { a, b: b.columns(column..columns), c: right, finish: beside },
        )
    };
    let half = threads / 2;
    rayon::join(|| halve(isa, start, first, half), || halve(isa, start, second, threads - half));
}
