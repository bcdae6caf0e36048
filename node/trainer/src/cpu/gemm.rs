//! The matrix product of the exact class: every element is one chain of fused multiply-adds.
//!
//! ```text
//! C[i, j] = fma(A[i, K-1], B[K-1, j], ... fma(A[i, 1], B[1, j], fma(A[i, 0], B[0, j], C0)))
//! ```
//! with `C0` zero or what stands in `C`. A sum that is cut along `K` is put down in `C` and taken up again, which loses
//! nothing, so tiles, vectors and threads may be of any shape without changing a bit. Products of other libraries add
//! up partial sums, and cut `K` by the sizes of the caches that they find.
//!
//! ```text
//! rectangle of C per thread                                  split
//!   for KC of K, for NC of N:  pack B in panels of NR        pack
//!     for MC of M:             pack A in panels of MR        pack
//!       for each panel of B and A: MR x NR tile of C         kernel
//! ```
//! The loops are those of Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008.

mod blocked;
mod kernel;
mod matrix;
mod other;
mod pack;
mod split;

pub(crate) use self::blocked::room;
pub(super) use self::{
    blocked::{Packed, Panels},
    matrix::{Matrix, MatrixMut},
};
use super::Isa;
use crate::backend::Store;

/// Whose matrix products are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Products {
    /// Ours, in fixed order: the exact class.
    #[default]
    FixedOrder,
    /// Those of the gemm crate, whose bits depend on caches and vector width: to measure what the exact class costs.
    GemmCrate,
}

/// What an element's chain begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// Zero.
    Zero,
    /// What stands in the result.
    Continue,
}

impl From<Store> for Start {
    fn from(store: Store) -> Self {
        match store {
            Store::Replace => Self::Zero,
            Store::Add => Self::Continue,
        }
    }
}

/// What is added to the finished chains, in this order: a bias per column, then a matrix.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Finish<'a> {
    /// One number per column.
    pub(super) bias: Option<&'a [f32]>,
    /// Row-major, as large as the result, without gaps.
    pub(super) residual: Option<&'a [f32]>,
}

/// `c = a * b`, or `c += a * b`, on all threads.
pub(super) fn multiply(
    isa: Isa,
    products: Products,
    a: Matrix<'_>,
    b: Matrix<'_>,
    start: Start,
    finish: Finish<'_>,
    c: MatrixMut<'_>,
) {
    assert_eq!((a.rows, a.columns, b.columns), (c.rows, b.rows, c.columns), "shapes of a product");
    match products {
        Products::FixedOrder => split::multiply(isa, a, b, start, finish, c),
        Products::GemmCrate => other::multiply(a, b, start, finish, c, other::Threads::All),
    }
}

/// The same on the calling thread alone.
pub(super) fn multiply_alone(
    isa: Isa,
    products: Products,
    a: Matrix<'_>,
    b: Matrix<'_>,
    start: Start,
    c: MatrixMut<'_>,
) {
    assert_eq!((a.rows, a.columns, b.columns), (c.rows, b.rows, c.columns), "shapes of a product");
    match products {
        Products::FixedOrder => split::alone(isa, a, b, start, c),
        Products::GemmCrate => other::multiply(a, b, start, Finish::default(), c, other::Threads::One),
    }
}

/// The same on the calling thread alone, with a `b` that was packed before; of `b` only the first rows and columns are
/// used, as many as `a` has columns and `c` has.
pub(super) fn multiply_packed(isa: Isa, a: Matrix<'_>, b: &Packed<'_>, start: Start, c: MatrixMut<'_>) {
    assert!(a.rows == c.rows && a.columns <= b.rows() && c.columns <= b.columns(), "shapes of a product");
    match b {
        Packed::Ours(panels) => multiply_panels(isa, a, panels, start, c),
        Packed::Other(b) => {
            let b = b.rows(0..a.columns).columns(0..c.columns);
            other::multiply(a, b, start, Finish::default(), c, other::Threads::One);
        }
    }
}

/// The same in fixed order, whatever products are chosen elsewhere.
pub(super) fn multiply_panels(isa: Isa, a: Matrix<'_>, b: &Panels, start: Start, c: MatrixMut<'_>) {
    assert!(a.rows == c.rows && a.columns <= b.rows() && c.columns <= b.columns(), "shapes of a product");
    blocked::multiply_packed(isa, a, b, start, c);
}

#[cfg(test)]
mod tests;
