//! The fast class: products and attention on tensor cores, with bf16 operands and sums in f32; everything else is the
//! exact class's.
//!
//! ```text
//! products                                     cuBLASLt, or kernels/fast where it is not found: bf16 in, f32 sums
//! attention, head with loss                    kernels/fast     the same
//! norms, rotary, activations, rows, optimiser  kernels/exact    f32 in a fixed order
//! ```
//! All numbers in memory are f32: weights, the residual stream, gradients, moments. Operands are rounded to bf16 where a
//! kernel reads them into shared memory, so there are no second copies of weights that could be stale, and none that take
//! memory; the price is that products read twice the bytes that bf16 would have.
//!
//! Tiles are fixed, the inner index is never divided among blocks, and nothing is added atomically: the same GPU gives the
//! same bits every time. Another generation of tensor cores rounds otherwise inside, which is why a verifier compares this
//! class within a tolerance. It needs compute capability 8.0; an older GPU trains in the exact class.
//!
//! **None of this has run on a GPU yet.**

mod attention;
mod head;
mod library;
mod product;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use talkoot_trainer::backend::{
    Attention, Columns, ColumnsMut, Done, HeadGradients, LinearShape, Qkv, Store, Targets,
};

use crate::{
    Cuda,
    buffer::Buffer,
    class::Class,
    device::{Device, DeviceError, Missing},
};

/// The oldest generation, by compute capability, whose tensor cores multiply bf16.
pub const OLDEST_CAPABILITY: (u32, u32) = (8, 0);

/// The fast class.
#[derive(Debug, Clone)]
pub struct TensorCores {
    /// Whether products are still given to the library.
    library: Arc<AtomicBool>,
}

impl TensorCores {
    /// Those of a device.
    ///
    /// # Errors
    ///
    /// [`Missing::NoTensorCores`] when its generation has none that multiply bf16.
    pub fn of<D: Device>(device: &D) -> Result<Self, Missing> {
        let (major, minor) = device.capability();
        if (major, minor) < OLDEST_CAPABILITY {
            return Err(Missing::NoTensorCores { name: device.name().to_owned(), major, minor });
        }
        Ok(Self { library: Arc::new(AtomicBool::new(device.multiplies())) })
    }

    /// Whether a library does the products that it has a way for; it is given up when it fails.
    pub fn has_library(&self) -> bool {
        self.library.load(Ordering::Relaxed)
    }

    /// Gives the library up, and says so once.
    fn give_up(&self, error: &DeviceError) {
        if self.library.swap(false, Ordering::Relaxed) {
            tracing::warn!(%error, "the library of products failed: our own kernels multiply from here on");
        }
    }
}

/// A device that trains in the fast class.
pub type Fast<D> = Cuda<D, TensorCores>;

impl Class for TensorCores {
    const NAME: &'static str = "fast";
    const JOINS_FREELY: bool = false;

    fn linear<D: Device>(
        on: &Fast<D>,
        shape: LinearShape,
        x: &Buffer<D>,
        weight: &Buffer<D>,
        added: [Option<&Buffer<D>>; 2],
        y: &Buffer<D>,
    ) -> Done {
        on.forward(shape, x, weight, added, y)
    }

    fn linear_backward_input<D: Device>(
        on: &Fast<D>,
        shape: LinearShape,
        dy: &Buffer<D>,
        weight: &Buffer<D>,
        store: Store,
        dx: &Buffer<D>,
    ) -> Done {
        on.input_gradient(shape, dy.all(), weight.all().into(), store, dx.all())
    }

    fn linear_backward_weight<D: Device>(
        on: &Fast<D>,
        shape: LinearShape,
        x: &Buffer<D>,
        dy: &Buffer<D>,
        store: Store,
        dweight: &Buffer<D>,
    ) -> Done {
        on.weight_gradient(shape, x.all(), dy.all(), store, dweight)
    }

    fn attention<D: Device>(
        on: &Fast<D>,
        attention: Attention<'_>,
        qkv: &Qkv<Columns<'_, Buffer<D>>>,
        [y, statistics]: [&Buffer<D>; 2],
    ) -> Done {
        match attention::kernels_of(attention.width) {
            Some(kernels) => on.attend(kernels, attention, qkv, y, statistics),
            None => on.attention_forward(attention, qkv, y, statistics),
        }
    }

    fn attention_backward<D: Device>(
        on: &Fast<D>,
        attention: Attention<'_>,
        qkv: &Qkv<Columns<'_, Buffer<D>>>,
        [y, statistics, dy]: [&Buffer<D>; 3],
        gradients: &Qkv<ColumnsMut<'_, Buffer<D>>>,
    ) -> Done {
        match attention::kernels_of(attention.width) {
            Some(kernels) => on.attend_backward(kernels, attention, qkv, (y, statistics, dy), gradients),
            None => on.attention_gradients(attention, qkv, y, statistics, dy, gradients),
        }
    }

    fn cross_entropy<D: Device>(
        on: &Fast<D>,
        shape: LinearShape,
        hidden: &Buffer<D>,
        weight: &Buffer<D>,
        targets: Targets<'_>,
        gradients: Option<HeadGradients<'_, Buffer<D>>>,
    ) -> Done<Vec<f32>> {
        on.head_and_loss_in_bf16(shape, hidden, weight, targets, gradients)
    }
}
