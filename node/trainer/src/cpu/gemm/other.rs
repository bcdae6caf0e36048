//! The gemm crate's product behind the same interface, to measure what the fixed order costs.

#![allow(unsafe_code, reason = "the gemm crate takes pointers and strides")]

use gemm::Parallelism;

use super::{
    Finish, Start,
    matrix::{Matrix, MatrixMut},
};

/// Who takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Threads {
    One,
    All,
}

pub(super) fn multiply(
    a: Matrix<'_>,
    b: Matrix<'_>,
    start: Start,
    finish: Finish<'_>,
    c: MatrixMut<'_>,
    threads: Threads,
) {
    let MatrixMut { numbers, rows, columns, stride } = c;
    let parallelism = match threads {
        Threads::One => Parallelism::None,
        Threads::All => Parallelism::Rayon(0),
    };
    // SAFETY: the views checked their extent against their slices when they were made, and `numbers` is ours alone.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            a.columns,
            numbers.as_mut_ptr(),
            1,
            stride as isize,
            start == Start::Continue,
            a.numbers.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.numbers.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
    for (i, row) in numbers.chunks_mut(stride.max(1)).take(rows).enumerate() {
        if let Some(bias) = finish.bias {
            row.iter_mut().zip(bias).for_each(|(c, b)| *c += b);
        }
        if let Some(residual) = finish.residual {
            row.iter_mut().zip(&residual[i * columns..(i + 1) * columns]).for_each(|(c, r)| *c += r);
        }
    }
}
