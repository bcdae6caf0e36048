//! Linear maps: one product forward, two backward.

use talkoot_trainer::backend::{Done, LinearShape, Store};

use super::Fast;
use crate::{
    buffer::Buffer,
    cuda::launch::{Part, grid, size},
    device::{Argument, Device},
    kernels::{FAST_PRODUCT_NN, FAST_PRODUCT_NT, FAST_PRODUCT_TN, Kernel},
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
        self.product_in_bf16(FAST_PRODUCT_NT, sizes(shape), x.all(), weight.all(), finish, y.all())
    }

    /// Logits of rows: a forward without anything added.
    pub(super) fn logits(
        &self,
        shape: LinearShape,
        x: Part<'_, D>,
        weight: &Buffer<D>,
        y: &Buffer<D>,
    ) -> Done {
        let finish = Finish::plain(Store::Replace);
        self.product_in_bf16(FAST_PRODUCT_NT, sizes(shape), x, weight.all(), finish, y.all())
    }

    pub(super) fn input_gradient(
        &self,
        shape: LinearShape,
        dy: Part<'_, D>,
        weight: &Buffer<D>,
        store: Store,
        dx: Part<'_, D>,
    ) -> Done {
        let [rows, outputs, inputs] = sizes(shape);
        let finish = Finish::plain(store);
        self.product_in_bf16(FAST_PRODUCT_NN, [rows, inputs, outputs], dy, weight.all(), finish, dx)
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
        self.product_in_bf16(FAST_PRODUCT_TN, [outputs, inputs, rows], dy, x, finish, dweight.all())
    }

    /// `c [rows, columns]` over an inner index of `depth`.
    fn product_in_bf16(
        &self,
        kernel: Kernel,
        [rows, columns, depth]: [usize; 3],
        a: Part<'_, D>,
        b: Part<'_, D>,
        finish: Finish<'_, D>,
        c: Part<'_, D>,
    ) -> Done {
        let Finish { store, bias, residual } = finish;
        let arguments = [
            a.holding(rows * depth),
            b.holding(columns * depth),
            size(rows),
            size(columns),
            size(depth),
            Argument::U32(u32::from(store == Store::Add)),
            bias.map_or(Argument::Null, |bias| bias.all().holding(columns)),
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
