//! Linear maps: one product forward, two backward.

use talkoot_trainer::backend::{Done, LinearShape, Store};

use super::{
    Fast,
    library::{Into, Operand},
};
use crate::{
    buffer::Buffer,
    cuda::launch::{Part, grid, size},
    device::{Argument, Device},
    kernels::{
        FAST_PRODUCT_NN, FAST_PRODUCT_NN_HALF, FAST_PRODUCT_NT, FAST_PRODUCT_NT_HALF, FAST_PRODUCT_TN,
    },
    multiply::{Description, Layout},
};

/// Rows and columns of the result that a block makes, as the kernel has it.
const TILE: usize = 128;
const THREADS: u32 = 256;

/// What is added to a product: nothing, what stands there, a number for each column, a matrix.
struct Finish<'a, D: Device> {
    store: Store,
    bias: Option<&'a Buffer<D>>,
    residual: Option<&'a Buffer<D>>,
}

impl<D: Device> Finish<'_, D> {
    fn plain(store: Store) -> Self {
        Self { store, bias: None, residual: None }
    }
}

impl<D: Device> Fast<D> {
    pub(super) fn forward(
        &self,
        shape: LinearShape,
        x: &Buffer<D>,
        weight: &Buffer<D>,
        [bias, residual]: [Option<&Buffer<D>>; 2],
        y: &Buffer<D>,
    ) -> Done {
        let finish = Finish { store: Store::Replace, bias, residual };
        self.product_in_bf16(Layout::Nt, sizes(shape), x.all().into(), weight.all().into(), finish, y.all())
    }

    /// Logits of rows: a forward without anything added.
    pub(super) fn logits(
        &self,
        shape: LinearShape,
        x: Part<'_, D>,
        weight: Operand<'_, D>,
        y: &Buffer<D>,
    ) -> Done {
        let finish = Finish::plain(Store::Replace);
        self.product_in_bf16(Layout::Nt, sizes(shape), x.into(), weight, finish, y.all())
    }

    pub(super) fn input_gradient(
        &self,
        shape: LinearShape,
        dy: Part<'_, D>,
        weight: Operand<'_, D>,
        store: Store,
        dx: Part<'_, D>,
    ) -> Done {
        let [rows, outputs, inputs] = sizes(shape);
        let finish = Finish::plain(store);
        self.product_in_bf16(Layout::Nn, [rows, inputs, outputs], dy.into(), weight, finish, dx)
    }

    pub(super) fn weight_gradient(
        &self,
        shape: LinearShape,
        x: Part<'_, D>,
        dy: Part<'_, D>,
        store: Store,
        dweight: &Buffer<D>,
    ) -> Done {
        let [rows, outputs, inputs] = sizes(shape);
        let finish = Finish::plain(store);
        self.product_in_bf16(Layout::Tn, [outputs, inputs, rows], dy.into(), x.into(), finish, dweight.all())
    }

    /// `c [rows, columns]` over an inner index of `depth`: by the library where it can, otherwise by our own kernels.
    fn product_in_bf16(
        &self,
        layout: Layout,
        [rows, columns, depth]: [usize; 3],
        a: Operand<'_, D>,
        b: Operand<'_, D>,
        finish: Finish<'_, D>,
        c: Part<'_, D>,
    ) -> Done {
        let Finish { store, bias, residual } = finish;
        let bias = bias.map(Buffer::all);
        let added = residual.map(Buffer::all).or((store == Store::Add).then_some(c));
        let product = Description::of(layout, [rows, columns, depth], added.is_some(), bias.is_some());
        let operands = [(a, rows * depth), (b, columns * depth)];
        if self.by_library(&product, operands, &Into { bias, added, result: c })? {
            return Ok(());
        }
        let kernels = match layout {
            Layout::Nt => [FAST_PRODUCT_NT, FAST_PRODUCT_NT_HALF],
            Layout::Nn => [FAST_PRODUCT_NN, FAST_PRODUCT_NN_HALF],
            // no weight is an operand here
            Layout::Tn => [FAST_PRODUCT_TN; 2],
        };
        let (b_argument, kernel) = b.part.either(columns * depth, kernels);
        let arguments = [
            a.part.holding(rows * depth),
            b_argument,
            size(rows),
            size(columns),
            size(depth),
            Argument::U32(u32::from(store == Store::Add)),
            bias.map_or(Argument::Null, |bias| bias.holding(columns)),
            residual.map_or(Argument::Null, |residual| residual.all().holding(rows * columns)),
            c.holding(rows * columns),
        ];
        let shape = grid([columns.div_ceil(TILE), rows.div_ceil(TILE)], THREADS);
        self.run("a product", kernel, shape, &arguments)
    }
}

fn sizes(shape: LinearShape) -> [usize; 3] {
    [shape.rows, shape.outputs, shape.inputs]
}
