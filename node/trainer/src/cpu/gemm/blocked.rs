//! One thread's product: blocks that fit the caches, panels, tiles.

#![allow(unsafe_code, reason = "threads write disjoint rectangles of one result, and kernels take pointers")]

use std::{cell::RefCell, marker::PhantomData};

use super::{
    Finish, Isa, Products, Start,
    kernel::{self, Kernel},
    matrix::{Matrix, MatrixMut},
    pack::{pack_rows, packed_len},
};
use crate::cpu::Level;

/// Steps of the inner index that are packed together: a panel of B (16 KiB) stays in the first cache.
const KC: usize = 256;
/// Rows of A that are packed together: about 100 KiB, in the second cache. A multiple of every kernel's rows.
const MC: usize = 84;
/// Columns of B that are packed together: 2 MiB, in the third cache.
const NC: usize = 2048;

/// A rectangle of a result that one thread writes.
///
/// It is a pointer because the rectangles of several threads interleave in memory; [`Rectangle::split`] makes sure that
/// no two share an element.
pub(super) struct Rectangle<'a> {
    start: *mut f32,
    pub(super) rows: usize,
    pub(super) columns: usize,
    stride: usize,
    owner: PhantomData<&'a mut [f32]>,
}

// SAFETY: a rectangle is the only one that reaches its elements, as `&mut` would be.
unsafe impl Send for Rectangle<'_> {}

impl<'a> Rectangle<'a> {
    pub(super) fn new(c: MatrixMut<'a>) -> Self {
        let MatrixMut { numbers, rows, columns, stride } = c;
        Self { start: numbers.as_mut_ptr(), rows, columns, stride, owner: PhantomData }
    }

    /// The first `rows` rows, and the others.
    pub(super) fn split_rows(self, rows: usize) -> (Self, Self) {
        assert!(rows <= self.rows, "a split inside the rectangle");
        // SAFETY: `rows` whole rows further is inside, or one past the end when nothing is left.
        let start = unsafe { self.start.add(if rows == self.rows { 0 } else { rows * self.stride }) };
        (Self { rows, ..self }, Self { start, rows: self.rows - rows, ..self })
    }

    /// The first `columns` columns, and the others.
    pub(super) fn split_columns(self, columns: usize) -> (Self, Self) {
        assert!(columns <= self.columns, "a split inside the rectangle");
        // SAFETY: a row has `self.columns` numbers, and `columns` is not more.
        let start = unsafe { self.start.add(columns) };
        (Self { columns, ..self }, Self { start, columns: self.columns - columns, ..self })
    }

    /// Part of a row.
    fn row(&mut self, i: usize, columns: std::ops::Range<usize>) -> &mut [f32] {
        assert!(i < self.rows && columns.end <= self.columns, "a row of the rectangle");
        // SAFETY: inside the rectangle, which nobody else reaches while `self` is borrowed.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.start.add(i * self.stride + columns.start),
                columns.end - columns.start,
            )
        }
    }
}

/// What the finished chains of a rectangle get, with the rectangle's place in the whole result.
#[derive(Clone, Copy)]
pub(super) struct FinishAt<'a> {
    pub(super) finish: Finish<'a>,
    pub(super) row: usize,
    pub(super) column: usize,
    /// Columns of the whole result.
    pub(super) width: usize,
}

impl FinishAt<'_> {
    fn is_empty(&self) -> bool {
        self.finish.bias.is_none() && self.finish.residual.is_none()
    }

    fn apply(&self, c: &mut Rectangle<'_>, rows: std::ops::Range<usize>, columns: std::ops::Range<usize>) {
        for i in rows {
            let (first, last) = (self.column + columns.start, self.column + columns.end);
            let row = c.row(i, columns.clone());
            if let Some(bias) = self.finish.bias {
                row.iter_mut().zip(&bias[first..last]).for_each(|(c, b)| *c += b);
            }
            if let Some(residual) = self.finish.residual {
                let at = (self.row + i) * self.width;
                row.iter_mut().zip(&residual[at + first..at + last]).for_each(|(c, r)| *c += r);
            }
        }
    }
}

thread_local! {
    /// Where a thread packs its blocks of A and B; kept, as every product needs them.
    static BLOCKS: RefCell<(Vec<f32>, Vec<f32>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// `c = a * b` with the kernel of these instructions.
pub(super) fn multiply(
    isa: Isa,
    a: Matrix<'_>,
    b: Matrix<'_>,
    start: Start,
    finish: FinishAt<'_>,
    c: Rectangle<'_>,
) {
    match isa.level() {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => run::<kernel::Avx512>(a, b, start, finish, c),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => run::<kernel::Avx2>(a, b, start, finish, c),
        _ => run::<kernel::Portable>(a, b, start, finish, c),
    }
}

fn run<K: Kernel>(a: Matrix<'_>, b: Matrix<'_>, start: Start, finish: FinishAt<'_>, mut c: Rectangle<'_>) {
    if b.rows == 0 {
        begin(&mut c, start);
        finish.apply(&mut c, 0..a.rows, 0..b.columns);
        return;
    }
    BLOCKS.with_borrow_mut(|(rows, columns)| {
        for k in (0..b.rows).step_by(KC) {
            let depth = KC.min(b.rows - k);
            let last = k + depth == b.rows;
            let fresh = k == 0 && start == Start::Zero;
            for j in (0..b.columns).step_by(NC) {
                let width = NC.min(b.columns - j);
                let block = b.rows(k..k + depth).columns(j..j + width).transposed();
                columns.resize(packed_len(width, depth, K::NR), 0.0);
                pack_rows(block, K::NR, columns);
                for i in (0..a.rows).step_by(MC) {
                    let height = MC.min(a.rows - i);
                    let block = a.rows(i..i + height).columns(k..k + depth);
                    rows.resize(packed_len(height, depth, K::MR), 0.0);
                    pack_rows(block, K::MR, rows);
                    let b = Columns { panels: columns, depth };
                    block_product::<K>(depth, rows, b, &mut c, (i, height), (j, width), fresh);
                    if last && !finish.is_empty() {
                        finish.apply(&mut c, i..i + height, j..j + width);
                    }
                }
            }
        }
    });
}

fn begin(c: &mut Rectangle<'_>, start: Start) {
    if start == Start::Zero {
        for i in 0..c.rows {
            c.row(i, 0..c.columns).fill(0.0);
        }
    }
}

/// Largest tile of any kernel.
const TILE: usize = 14 * 32;

/// A packed block of B: panels of so many steps.
#[derive(Clone, Copy)]
struct Columns<'a> {
    panels: &'a [f32],
    depth: usize,
}

/// All tiles of a packed block of A with the first `depth` steps of a packed block of B.
fn block_product<K: Kernel>(
    depth: usize,
    a: &[f32],
    b: Columns<'_>,
    c: &mut Rectangle<'_>,
    (top, height): (usize, usize),
    (left, width): (usize, usize),
    fresh: bool,
) {
    assert!(top + height <= c.rows && left + width <= c.columns, "a block inside the rectangle");
    assert!(depth <= b.depth, "as many steps as were packed");
    for (b, j) in b.panels.chunks_exact(K::NR * b.depth).zip((0..width).step_by(K::NR)) {
        for (a, i) in a.chunks_exact(K::MR * depth).zip((0..height).step_by(K::MR)) {
            let (rows, columns) = (K::MR.min(height - i), K::NR.min(width - j));
            if rows == K::MR && columns == K::NR {
                // SAFETY: the tile is whole and inside the block, which is inside the rectangle; the panels have `depth`
                // groups; `Isa` vouches for the instructions of `K`.
                unsafe {
                    let tile = c.start.add((top + i) * c.stride + left + j);
                    K::tile(depth, a.as_ptr(), b.as_ptr(), tile, c.stride, fresh);
                }
                continue;
            }
            let mut tile = [0.0f32; TILE];
            if !fresh {
                for r in 0..rows {
                    tile[r * K::NR..][..columns]
                        .copy_from_slice(c.row(top + i + r, left + j..left + j + columns));
                }
            }
            // SAFETY: as above, with a tile of our own that is large enough for every kernel.
            unsafe { K::tile(depth, a.as_ptr(), b.as_ptr(), tile.as_mut_ptr(), K::NR, fresh) };
            for r in 0..rows {
                c.row(top + i + r, left + j..left + j + columns)
                    .copy_from_slice(&tile[r * K::NR..][..columns]);
            }
        }
    }
}

/// A right operand, packed once for many products.
pub(in crate::cpu) enum Packed<'a> {
    /// In panels of our kernel.
    Ours(Panels),
    /// As it is, for the gemm crate.
    Other(Matrix<'a>),
}

/// Blocks of `KC` rows, each in panels of the kernel's columns.
pub(in crate::cpu) struct Panels {
    numbers: Vec<f32>,
    rows: usize,
    columns: usize,
}

fn columns_of_kernel(isa: Isa) -> usize {
    match isa.level() {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => kernel::Avx512::NR,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => kernel::Avx2::NR,
        _ => kernel::Portable::NR,
    }
}

impl<'a> Packed<'a> {
    /// Packs `b`, or keeps the view when the products are another library's.
    pub(in crate::cpu) fn new(isa: Isa, products: Products, b: Matrix<'a>) -> Self {
        if products == Products::GemmCrate {
            return Self::Other(b);
        }
        let width = columns_of_kernel(isa);
        let mut numbers = vec![0.0; packed_len(b.columns, b.rows, width)];
        let mut rest = numbers.as_mut_slice();
        for k in (0..b.rows).step_by(KC) {
            let depth = KC.min(b.rows - k);
            let (block, more) = rest.split_at_mut(packed_len(b.columns, depth, width));
            pack_rows(b.rows(k..k + depth).transposed(), width, block);
            rest = more;
        }
        Self::Ours(Panels { numbers, rows: b.rows, columns: b.columns })
    }

    pub(super) fn rows(&self) -> usize {
        match self {
            Self::Ours(panels) => panels.rows,
            Self::Other(matrix) => matrix.rows,
        }
    }

    pub(super) fn columns(&self) -> usize {
        match self {
            Self::Ours(panels) => panels.columns,
            Self::Other(matrix) => matrix.columns,
        }
    }
}

/// `c = a * b` with the first rows and columns of a packed `b`, on this thread.
pub(super) fn multiply_packed(isa: Isa, a: Matrix<'_>, b: &Panels, start: Start, c: MatrixMut<'_>) {
    let c = Rectangle::new(c);
    match isa.level() {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => run_packed::<kernel::Avx512>(a, b, start, c),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => run_packed::<kernel::Avx2>(a, b, start, c),
        _ => run_packed::<kernel::Portable>(a, b, start, c),
    }
}

fn run_packed<K: Kernel>(a: Matrix<'_>, b: &Panels, start: Start, mut c: Rectangle<'_>) {
    if a.columns == 0 {
        return begin(&mut c, start);
    }
    BLOCKS.with_borrow_mut(|(rows, _)| {
        let mut rest = b.numbers.as_slice();
        for k in (0..a.columns).step_by(KC) {
            let (depth, packed) = (KC.min(a.columns - k), KC.min(b.rows - k));
            let fresh = k == 0 && start == Start::Zero;
            let (panels, more) = rest.split_at(packed_len(b.columns, packed, K::NR));
            for i in (0..a.rows).step_by(MC) {
                let height = MC.min(a.rows - i);
                rows.resize(packed_len(height, depth, K::MR), 0.0);
                pack_rows(a.rows(i..i + height).columns(k..k + depth), K::MR, rows);
                let (b, across) = (Columns { panels, depth: packed }, (0, c.columns));
                block_product::<K>(depth, rows, b, &mut c, (i, height), across, fresh);
            }
            rest = more;
        }
    });
}
