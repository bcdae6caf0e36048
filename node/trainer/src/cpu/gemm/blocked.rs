//! One thread's product: blocks that fit the caches, panels, tiles.

#![allow(unsafe_code, reason = "threads write disjoint rectangles of one result, and kernels take pointers")]

use std::{cell::RefCell, marker::PhantomData, ops::Range};

use super::{
    Finish, Isa, Products, Start,
    kernel::{self, Kernel, Left},
    matrix::{Matrix, MatrixMut},
    pack::packed_len,
};
use crate::cpu::{Buffer, Level, pool::Pool};

/// Most steps of the inner index that are packed together. A panel of B (36 KiB) is a little more than the first cache
/// holds; that costs less than putting C down and taking it up more often would.
const KC: usize = 576;
/// Most rows of A in a block. Rows that are read as they are lie on a page each, as do the rows of C; more of both than
/// the first translation buffer has entries (64) cost a tenth of the speed.
const MC: usize = 48;
/// Columns of B that are packed together: 4.5 MiB, in the third cache.
const NC: usize = 2048;

/// Bytes of the blocks that a thread packs for operands with at most so many columns.
pub(crate) fn room(widest: usize) -> u64 {
    (size_of::<f32>() * KC * (MC + NC.min(widest))) as u64
}

/// Cuts `depth` steps into equal blocks of at most [`KC`]: a short last block would cost as much reading and writing of C
/// as a long one.
fn blocks(depth: usize) -> impl Iterator<Item = Range<usize>> {
    let count = depth.div_ceil(KC).max(1);
    let each = depth.div_ceil(count).max(1);
    (0..depth).step_by(each).map(move |k| k..(k + each).min(depth))
}

/// Whole panels of rows, as many as a block may have.
const fn block_rows<K: Kernel>() -> usize {
    MC / K::MR * K::MR
}

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
    fn row(&mut self, i: usize, columns: Range<usize>) -> &mut [f32] {
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

    fn apply(&self, c: &mut Rectangle<'_>, rows: Range<usize>, columns: Range<usize>) {
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

/// `len` numbers of a buffer, from the start of a cache line: a vector that lies across two costs two loads.
fn aligned(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    const LINE: usize = 64;
    if buffer.len() < len + LINE / 4 {
        buffer.resize(len + LINE / 4, 0.0);
    }
    let start = buffer.as_ptr().align_offset(LINE).min(LINE / 4);
    &mut buffer[start..start + len]
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
        for steps in blocks(b.rows) {
            let depth = steps.len();
            let last = steps.end == b.rows;
            let fresh = steps.start == 0 && start == Start::Zero;
            for j in (0..b.columns).step_by(NC) {
                let width = NC.min(b.columns - j);
                let block = b.rows(steps.clone()).columns(j..j + width).transposed();
                let columns = aligned(columns, packed_len(width, depth, K::NR));
                // SAFETY: `Isa` vouches for the instructions of `K`.
                unsafe { K::pack_right(block, columns) };
                for i in (0..a.rows).step_by(block_rows::<K>()) {
                    let height = block_rows::<K>().min(a.rows - i);
                    let a = Rows::ready::<K>(a.rows(i..i + height).columns(steps.clone()), rows);
                    let b = Columns { panels: columns, depth };
                    block_product::<K>(a, b, &mut c, (i, height), (j, width), fresh);
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

/// A block of A. Where the numbers of a row lie beside each other, tiles read it as it is, but for a last panel in which
/// rows are missing; otherwise it is packed.
#[derive(Clone, Copy)]
struct Rows<'a> {
    /// The block from its first number on, or all its panels.
    numbers: &'a [f32],
    /// Steps of the inner index.
    depth: usize,
    /// Numbers from one row of a panel to the next, from one step to the next, from one panel to the next.
    row: usize,
    step: usize,
    panel: usize,
    /// The last panel, packed, when it isn't whole.
    torn: Option<(usize, &'a [f32])>,
}

impl<'a> Rows<'a> {
    /// Makes `block` ready for tiles of `K`; what has to be packed goes to `room`.
    fn ready<K: Kernel>(block: Matrix<'a>, room: &'a mut Vec<f32>) -> Self {
        let (height, depth) = (block.rows, block.columns);
        if block.column_stride != 1 {
            let panels = aligned(room, packed_len(height, depth, K::MR));
            // SAFETY: `Isa` vouches for the instructions of `K`.
            unsafe { K::pack_left(block, panels) };
            return Self { numbers: panels, depth, row: 1, step: K::MR, panel: K::MR * depth, torn: None };
        }
        let whole = height / K::MR * K::MR;
        let torn = (whole < height).then(|| {
            let panel = aligned(room, K::MR * depth);
            // SAFETY: as above.
            unsafe { K::pack_left(block.rows(whole..height), panel) };
            (whole, &*panel)
        });
        let stride = block.row_stride;
        Self { numbers: block.numbers, depth, row: stride, step: 1, panel: K::MR * stride, torn }
    }

    /// Where the panel lies that begins with row `i` of the block.
    fn panel<K: Kernel>(&self, i: usize) -> Left {
        match self.torn {
            Some((row, panel)) if row == i => Left { start: panel.as_ptr(), row: 1, step: K::MR },
            _ => {
                let panel = &self.numbers[i / K::MR * self.panel..];
                assert!((K::MR - 1) * self.row + (self.depth - 1) * self.step < panel.len(), "a whole panel");
                Left { start: panel.as_ptr(), row: self.row, step: self.step }
            }
        }
    }
}

/// A packed block of B: panels of so many steps.
#[derive(Clone, Copy)]
struct Columns<'a> {
    panels: &'a [f32],
    depth: usize,
}

/// All tiles of a block of A with the first steps, as many as it has, of a packed block of B.
fn block_product<K: Kernel>(
    a: Rows<'_>,
    b: Columns<'_>,
    c: &mut Rectangle<'_>,
    (top, height): (usize, usize),
    (left, width): (usize, usize),
    fresh: bool,
) {
    assert!(top + height <= c.rows && left + width <= c.columns, "a block inside the rectangle");
    assert!(0 < a.depth && a.depth <= b.depth, "as many steps as were packed");
    for (panel, j) in b.panels.chunks_exact(K::NR * b.depth).zip((0..width).step_by(K::NR)) {
        for i in (0..height).step_by(K::MR) {
            let (rows, columns) = (K::MR.min(height - i), K::NR.min(width - j));
            let left_rows = a.panel::<K>(i);
            if rows == K::MR && columns == K::NR {
                // SAFETY: the tile is whole and inside the block, which is inside the rectangle; both panels have
                // `a.depth` steps, which `panel` and the assertion above made sure of; `Isa` vouches for the
                // instructions of `K`.
                unsafe {
                    let tile = c.start.add((top + i) * c.stride + left + j);
                    K::tile(a.depth, left_rows, panel.as_ptr(), tile, c.stride, fresh);
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
            unsafe { K::tile(a.depth, left_rows, panel.as_ptr(), tile.as_mut_ptr(), K::NR, fresh) };
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
    numbers: Buffer,
    rows: usize,
    columns: usize,
}

impl Panels {
    /// Packs `b` for the kernel of these instructions.
    pub(in crate::cpu) fn new(isa: Isa, pool: &Pool, b: Matrix<'_>) -> Self {
        match isa.level() {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => Self::pack::<kernel::Avx512>(b, pool),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => Self::pack::<kernel::Avx2>(b, pool),
            _ => Self::pack::<kernel::Portable>(b, pool),
        }
    }

    /// Rows that were packed.
    pub(in crate::cpu) const fn rows(&self) -> usize {
        self.rows
    }

    /// Columns that were packed.
    pub(in crate::cpu) const fn columns(&self) -> usize {
        self.columns
    }

    fn pack<K: Kernel>(b: Matrix<'_>, pool: &Pool) -> Self {
        let mut numbers = pool.take(packed_len(b.columns, b.rows, K::NR));
        let mut rest: &mut [f32] = &mut numbers;
        for steps in blocks(b.rows) {
            let (block, more) = rest.split_at_mut(packed_len(b.columns, steps.len(), K::NR));
            // SAFETY: `Isa` vouches for the instructions of `K`.
            unsafe { K::pack_right(b.rows(steps).transposed(), block) };
            rest = more;
        }
        Self { numbers, rows: b.rows, columns: b.columns }
    }
}

impl<'a> Packed<'a> {
    /// Packs `b`, or keeps the view when the products are another library's.
    pub(in crate::cpu) fn new(isa: Isa, products: Products, pool: &Pool, b: Matrix<'a>) -> Self {
        if products == Products::GemmCrate {
            return Self::Other(b);
        }
        Self::Ours(Panels::new(isa, pool, b))
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
        let mut rest: &[f32] = &b.numbers;
        for steps in blocks(b.rows).take_while(|steps| steps.start < a.columns) {
            let (packed, steps) = (steps.len(), steps.start..steps.end.min(a.columns));
            let fresh = steps.start == 0 && start == Start::Zero;
            let (panels, more) = rest.split_at(packed_len(b.columns, packed, K::NR));
            for i in (0..a.rows).step_by(block_rows::<K>()) {
                let height = block_rows::<K>().min(a.rows - i);
                let a = Rows::ready::<K>(a.rows(i..i + height).columns(steps.clone()), rows);
                let (b, across) = (Columns { panels, depth: packed }, (0, c.columns));
                block_product::<K>(a, b, &mut c, (i, height), across, fresh);
            }
            rest = more;
        }
    });
}
