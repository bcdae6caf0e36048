//! Linear maps: three layouts of one product.

use talkoot_trainer::backend::{Done, Store};

use super::{
    Cuda,
    launch::{Part, count, extent, grid, size},
};
use crate::{
    buffer::Buffer,
    class::Class,
    device::{Argument, Device},
    kernels::{Kernel, PRODUCT_NN, PRODUCT_NN_HALF, PRODUCT_NT, PRODUCT_NT_HALF, PRODUCT_TN},
};

/// Rows and columns of a block of the kernels.
const TILE: usize = 128;
const THREADS: u32 = 256;

/// Sizes of `c [rows, columns]`, how long its chains are, and how it meets what stands there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Product {
    pub(crate) rows: usize,
    pub(crate) depth: usize,
    pub(crate) columns: usize,
    pub(crate) store: Store,
}

/// A matrix of the device: rows of `width`, `stride` apart.
struct Matrix<'a, D: Device> {
    part: Part<'a, D>,
    rows: usize,
    width: usize,
    stride: usize,
}

impl<'a, D: Device> Matrix<'a, D> {
    fn argument(&self) -> Argument<'a, D::Memory> {
        self.part.holding(self.extent())
    }

    fn extent(&self) -> usize {
        extent(self.rows, self.width, self.stride)
    }
}

impl<D: Device, C: Class> Cuda<D, C> {
    /// `c = a [rows, depth] * b [columns, depth]^T`, then `+ bias`, then `+ residual`. `b` may be halves.
    #[expect(clippy::too_many_arguments, reason = "a product takes its operands one by one")]
    pub(crate) fn product_nt(
        &self,
        operation: &'static str,
        sizes: Product,
        a: Part<'_, D>,
        b: Part<'_, D>,
        bias: Option<&Buffer<D>>,
        residual: Option<&Buffer<D>>,
        c: Part<'_, D>,
    ) -> Done {
        let Product { rows, depth, columns, .. } = sizes;
        let a = Matrix { part: a, rows, width: depth, stride: depth };
        let b = Matrix { part: b, rows: columns, width: depth, stride: depth };
        let bias = bias.map_or(Argument::Null, |bias| bias.all().holding(columns));
        let residual = residual.map_or(Argument::Null, |residual| residual.all().holding(rows * columns));
        self.product(operation, [PRODUCT_NT, PRODUCT_NT_HALF], sizes, &a, &b, [bias, residual], c)
    }

    /// `c = a [rows, depth] * b [depth, columns]`, then `+ residual`; rows of `a` are `a_stride` apart. `b` may
    /// be halves.
    #[expect(clippy::too_many_arguments, reason = "a product takes its operands one by one")]
    pub(crate) fn product_nn(
        &self,
        operation: &'static str,
        sizes: Product,
        a: Part<'_, D>,
        a_stride: usize,
        b: Part<'_, D>,
        residual: Option<Part<'_, D>>,
        c: Part<'_, D>,
    ) -> Done {
        let Product { rows, depth, columns, .. } = sizes;
        let a = Matrix { part: a, rows, width: depth, stride: a_stride };
        let b = Matrix { part: b, rows: depth, width: columns, stride: columns };
        let residual = residual.map_or(Argument::Null, |residual| residual.holding(rows * columns));
        self.product(operation, [PRODUCT_NN, PRODUCT_NN_HALF], sizes, &a, &b, [Argument::Null, residual], c)
    }

    /// `c = a [depth, rows]^T * b [depth, columns]`.
    pub(crate) fn product_tn(
        &self,
        operation: &'static str,
        sizes: Product,
        a: Part<'_, D>,
        b: Part<'_, D>,
        c: Part<'_, D>,
    ) -> Done {
        let Product { rows, depth, columns, .. } = sizes;
        let a = Matrix { part: a, rows: depth, width: rows, stride: rows };
        let b = Matrix { part: b, rows: depth, width: columns, stride: columns };
        // no weight is an operand here
        self.product(operation, [PRODUCT_TN; 2], sizes, &a, &b, [Argument::Null, Argument::Null], c)
    }

    #[expect(clippy::too_many_arguments, reason = "a product takes its operands one by one")]
    fn product(
        &self,
        operation: &'static str,
        kernels: [Kernel; 2],
        sizes: Product,
        a: &Matrix<'_, D>,
        b: &Matrix<'_, D>,
        [bias, residual]: [Argument<'_, D::Memory>; 2],
        c: Part<'_, D>,
    ) -> Done {
        let Product { rows, depth, columns, store } = sizes;
        let shape = grid([columns.div_ceil(TILE), rows.div_ceil(TILE)], THREADS);
        let (b_argument, kernel) = b.part.either(b.extent(), kernels);
        let arguments = [
            a.argument(),
            count(a.stride),
            b_argument,
            count(b.stride),
            size(rows),
            size(depth),
            size(columns),
            Argument::U32(u32::from(store == Store::Add)),
            bias,
            residual,
            c.holding(rows * columns),
            count(columns),
        ];
        self.run(operation, kernel, shape, &arguments)
    }
}
