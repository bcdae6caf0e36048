//! What a class of numbers does in its own way: products, attention, head and loss. Everything else is the same in all.

use std::fmt;

use talkoot_trainer::backend::{
    Attention, Columns, ColumnsMut, Done, HeadGradients, LinearShape, Qkv, Store, Targets,
};

use crate::{Cuda, buffer::Buffer, cuda::product::Product, device::Device};

/// A class of numbers on a GPU: [`Exact`], or [`TensorCores`](crate::fast::TensorCores).
///
/// The operations are those of the same names of [`Backend`](talkoot_trainer::backend::Backend).
///
/// # Errors
///
/// As there.
#[expect(clippy::missing_errors_doc, reason = "said once above, for all operations")]
pub trait Class: fmt::Debug + Clone + Send + Sync + Sized {
    /// What it is called.
    const NAME: &'static str;
    /// Whether it decides no bit how the packs of a step are joined into batches.
    const JOINS_FREELY: bool;

    /// A linear map.
    fn linear<D: Device>(
        on: &Cuda<D, Self>,
        shape: LinearShape,
        x: &Buffer<D>,
        weight: &Buffer<D>,
        added: [Option<&Buffer<D>>; 2],
        y: &Buffer<D>,
    ) -> Done;

    /// The gradient of its input.
    fn linear_backward_input<D: Device>(
        on: &Cuda<D, Self>,
        shape: LinearShape,
        dy: &Buffer<D>,
        weight: &Buffer<D>,
        store: Store,
        dx: &Buffer<D>,
    ) -> Done;

    /// The gradient of its weight.
    fn linear_backward_weight<D: Device>(
        on: &Cuda<D, Self>,
        shape: LinearShape,
        x: &Buffer<D>,
        dy: &Buffer<D>,
        store: Store,
        dweight: &Buffer<D>,
    ) -> Done;

    /// Attention; `kept` are its result and its statistics.
    fn attention<D: Device>(
        on: &Cuda<D, Self>,
        attention: Attention<'_>,
        qkv: &Qkv<Columns<'_, Buffer<D>>>,
        kept: [&Buffer<D>; 2],
    ) -> Done;

    /// Its gradients, from its result, its statistics, and the result's gradient.
    fn attention_backward<D: Device>(
        on: &Cuda<D, Self>,
        attention: Attention<'_>,
        qkv: &Qkv<Columns<'_, Buffer<D>>>,
        kept: [&Buffer<D>; 3],
        gradients: &Qkv<ColumnsMut<'_, Buffer<D>>>,
    ) -> Done;

    /// Head and loss.
    fn cross_entropy<D: Device>(
        on: &Cuda<D, Self>,
        shape: LinearShape,
        hidden: &Buffer<D>,
        weight: &Buffer<D>,
        targets: Targets<'_>,
        gradients: Option<HeadGradients<'_, Buffer<D>>>,
    ) -> Done<Vec<f32>>;
}

/// The exact class: f32 in a fixed order, the bits of every processor.
#[derive(Debug, Clone, Copy, Default)]
pub struct Exact;

impl Class for Exact {
    const NAME: &'static str = "exact";
    const JOINS_FREELY: bool = true;

    fn linear<D: Device>(
        on: &Cuda<D>,
        shape: LinearShape,
        x: &Buffer<D>,
        weight: &Buffer<D>,
        [bias, residual]: [Option<&Buffer<D>>; 2],
        y: &Buffer<D>,
    ) -> Done {
        let LinearShape { rows, inputs, outputs } = shape;
        let sizes = Product { rows, depth: inputs, columns: outputs, store: Store::Replace };
        on.product_nt("linear", sizes, x.all(), weight.all(), bias, residual, y.all())
    }

    fn linear_backward_input<D: Device>(
        on: &Cuda<D>,
        shape: LinearShape,
        dy: &Buffer<D>,
        weight: &Buffer<D>,
        store: Store,
        dx: &Buffer<D>,
    ) -> Done {
        let LinearShape { rows, inputs, outputs } = shape;
        let sizes = Product { rows, depth: outputs, columns: inputs, store };
        on.product_nn("linear_backward_input", sizes, dy.all(), outputs, weight.all(), None, dx.all())
    }

    fn linear_backward_weight<D: Device>(
        on: &Cuda<D>,
        shape: LinearShape,
        x: &Buffer<D>,
        dy: &Buffer<D>,
        store: Store,
        dweight: &Buffer<D>,
    ) -> Done {
        let LinearShape { rows, inputs, outputs } = shape;
        let sizes = Product { rows: outputs, depth: rows, columns: inputs, store };
        on.product_tn("linear_backward_weight", sizes, dy.all(), x.all(), dweight.all())
    }

    fn attention<D: Device>(
        on: &Cuda<D>,
        attention: Attention<'_>,
        qkv: &Qkv<Columns<'_, Buffer<D>>>,
        [y, statistics]: [&Buffer<D>; 2],
    ) -> Done {
        on.attention_forward(attention, qkv, y, statistics)
    }

    fn attention_backward<D: Device>(
        on: &Cuda<D>,
        attention: Attention<'_>,
        qkv: &Qkv<Columns<'_, Buffer<D>>>,
        [y, statistics, dy]: [&Buffer<D>; 3],
        gradients: &Qkv<ColumnsMut<'_, Buffer<D>>>,
    ) -> Done {
        on.attention_gradients(attention, qkv, y, statistics, dy, gradients)
    }

    fn cross_entropy<D: Device>(
        on: &Cuda<D>,
        shape: LinearShape,
        hidden: &Buffer<D>,
        weight: &Buffer<D>,
        targets: Targets<'_>,
        gradients: Option<HeadGradients<'_, Buffer<D>>>,
    ) -> Done<Vec<f32>> {
        on.head_and_loss(shape, hidden, weight, targets, gradients)
    }
}
