//! The fast class: products and attention on tensor cores, with bf16 operands and sums in f32; everything else is the
//! exact class's.
//!
//! ```text
//! Fast --products, attention, head with loss--> kernels/fast    bf16 in, f32 sums
//!   '---norms, rotary, activations, rows, optimiser--> Cuda     f32 in a fixed order
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
mod product;

use std::fmt;

use talkoot_trainer::backend::{
    AdamWStep, Attention, Backend, Columns, ColumnsMut, Done, HeadGradients, HeadShape, LinearShape, Qkv,
    Store, Targets, Turn,
};

use crate::{Cuda, buffer::Buffer, device::Device};

/// The oldest generation, by compute capability, whose tensor cores multiply bf16.
pub const OLDEST_CAPABILITY: (u32, u32) = (8, 0);

/// A device that trains in the fast class.
pub struct Fast<D: Device> {
    exact: Cuda<D>,
}

impl<D: Device> fmt::Debug for Fast<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, fast class", self.exact.device().name())
    }
}

impl<D: Device> Fast<D> {
    /// On a device, with the exact class for what is not a product.
    pub fn new(exact: Cuda<D>) -> Self {
        Self { exact }
    }

    /// The device.
    pub fn device(&self) -> &D {
        self.exact.device()
    }
}

impl<D: Device> Backend for Fast<D> {
    type Buffer = Buffer<D>;

    fn scratch(&self, len: usize) -> Done<Buffer<D>> {
        self.exact.scratch(len)
    }

    fn zeros(&self, len: usize) -> Done<Buffer<D>> {
        self.exact.zeros(len)
    }

    fn upload(&self, values: &[f32]) -> Done<Buffer<D>> {
        self.exact.upload(values)
    }

    fn download(&self, buffer: &Buffer<D>) -> Done<Vec<f32>> {
        self.exact.download(buffer)
    }

    fn zeros_at_rest(&self, len: usize) -> Done<Buffer<D>> {
        self.exact.zeros_at_rest(len)
    }

    fn upload_at_rest(&self, values: &[f32]) -> Done<Buffer<D>> {
        self.exact.upload_at_rest(values)
    }

    fn len(&self, buffer: &Buffer<D>) -> usize {
        self.exact.len(buffer)
    }

    fn linear(
        &self,
        shape: LinearShape,
        x: &Buffer<D>,
        weight: &Buffer<D>,
        bias: Option<&Buffer<D>>,
        residual: Option<&Buffer<D>>,
        y: &mut Buffer<D>,
    ) -> Done {
        self.forward(shape, x, weight, (bias, residual), y)
    }

    fn linear_backward_input(
        &self,
        shape: LinearShape,
        dy: &Buffer<D>,
        weight: &Buffer<D>,
        into: Store,
        dx: &mut Buffer<D>,
    ) -> Done {
        self.input_gradient(shape, dy.all(), weight, into, dx.all())
    }

    fn linear_backward_weight(
        &self,
        shape: LinearShape,
        x: &Buffer<D>,
        dy: &Buffer<D>,
        into: Store,
        dweight: &mut Buffer<D>,
    ) -> Done {
        self.weight_gradient(shape, x.all(), dy.all(), into, dweight)
    }

    fn linear_backward_bias(&self, dy: &Buffer<D>, dbias: &mut Buffer<D>) -> Done {
        self.exact.linear_backward_bias(dy, dbias)
    }

    fn layer_norm(
        &self,
        width: usize,
        eps: f32,
        x: &Buffer<D>,
        weight: &Buffer<D>,
        bias: &Buffer<D>,
        y: &mut Buffer<D>,
    ) -> Done {
        self.exact.layer_norm(width, eps, x, weight, bias, y)
    }

    fn layer_norm_backward(
        &self,
        width: usize,
        eps: f32,
        x: &Buffer<D>,
        weight: &Buffer<D>,
        dy: &Buffer<D>,
        dx: &mut Buffer<D>,
        parameters: Option<(&mut Buffer<D>, &mut Buffer<D>)>,
    ) -> Done {
        self.exact.layer_norm_backward(width, eps, x, weight, dy, dx, parameters)
    }

    fn rms_norm(&self, width: usize, eps: f32, x: &Buffer<D>, weight: &Buffer<D>, y: &mut Buffer<D>) -> Done {
        self.exact.rms_norm(width, eps, x, weight, y)
    }

    fn rms_norm_backward(
        &self,
        width: usize,
        eps: f32,
        x: &Buffer<D>,
        weight: &Buffer<D>,
        dy: &Buffer<D>,
        dx: &mut Buffer<D>,
        dweight: Option<&mut Buffer<D>>,
    ) -> Done {
        self.exact.rms_norm_backward(width, eps, x, weight, dy, dx, dweight)
    }

    fn rotate(&self, shape: HeadShape, turns: &Buffer<D>, turn: Turn, x: ColumnsMut<'_, Buffer<D>>) -> Done {
        self.exact.rotate(shape, turns, turn, x)
    }

    fn angle_gradient(
        &self,
        shape: HeadShape,
        rows: &[u32],
        y: Columns<'_, Buffer<D>>,
        dy: Columns<'_, Buffer<D>>,
        dangles: &mut Buffer<D>,
    ) -> Done {
        self.exact.angle_gradient(shape, rows, y, dy, dangles)
    }

    fn norm_and_rotate(
        &self,
        shape: HeadShape,
        eps: f32,
        x: &Buffer<D>,
        weight: &Buffer<D>,
        turns: &Buffer<D>,
        y: &mut Buffer<D>,
    ) -> Done {
        self.exact.norm_and_rotate(shape, eps, x, weight, turns, y)
    }

    fn norm_and_rotate_backward(
        &self,
        shape: HeadShape,
        eps: f32,
        x: &Buffer<D>,
        weight: &Buffer<D>,
        turns: &Buffer<D>,
        dy: &mut Buffer<D>,
        dweight: Option<&mut Buffer<D>>,
    ) -> Done {
        self.exact.norm_and_rotate_backward(shape, eps, x, weight, turns, dy, dweight)
    }

    fn attention(
        &self,
        attention: Attention<'_>,
        qkv: Qkv<Columns<'_, Buffer<D>>>,
        y: &mut Buffer<D>,
        statistics: &mut Buffer<D>,
    ) -> Done {
        match attention::kernels_of(attention.width) {
            Some(kernels) => self.attend(kernels, attention, &qkv, y, statistics),
            None => self.exact.attention(attention, qkv, y, statistics),
        }
    }

    fn attention_backward(
        &self,
        attention: Attention<'_>,
        qkv: Qkv<Columns<'_, Buffer<D>>>,
        y: &Buffer<D>,
        statistics: &Buffer<D>,
        dy: &Buffer<D>,
        gradients: Qkv<ColumnsMut<'_, Buffer<D>>>,
    ) -> Done {
        match attention::kernels_of(attention.width) {
            Some(kernels) => self.attend_backward(kernels, attention, &qkv, (y, statistics, dy), &gradients),
            None => self.exact.attention_backward(attention, qkv, y, statistics, dy, gradients),
        }
    }

    fn gelu(&self, x: &Buffer<D>, y: &mut Buffer<D>) -> Done {
        self.exact.gelu(x, y)
    }

    fn gelu_backward(&self, x: &Buffer<D>, dy: &mut Buffer<D>) -> Done {
        self.exact.gelu_backward(x, dy)
    }

    fn swiglu(&self, gate: &Buffer<D>, up: &Buffer<D>, y: &mut Buffer<D>) -> Done {
        self.exact.swiglu(gate, up, y)
    }

    fn swiglu_backward(&self, gate: &mut Buffer<D>, up: &mut Buffer<D>, dy: &Buffer<D>) -> Done {
        self.exact.swiglu_backward(gate, up, dy)
    }

    fn copy_rows(
        &self,
        width: usize,
        from: &Buffer<D>,
        from_rows: &[u32],
        to: &mut Buffer<D>,
        to_rows: &[u32],
    ) -> Done {
        self.exact.copy_rows(width, from, from_rows, to, to_rows)
    }

    fn add_rows(
        &self,
        width: usize,
        from: &Buffer<D>,
        from_rows: &[u32],
        to: &mut Buffer<D>,
        to_rows: &[u32],
    ) -> Done {
        self.exact.add_rows(width, from, from_rows, to, to_rows)
    }

    fn add(&self, x: &Buffer<D>, y: &mut Buffer<D>) -> Done {
        self.exact.add(x, y)
    }

    fn cross_entropy(
        &self,
        shape: LinearShape,
        hidden: &Buffer<D>,
        weight: &Buffer<D>,
        targets: Targets<'_>,
        gradients: Option<HeadGradients<'_, Buffer<D>>>,
    ) -> Done<Vec<f32>> {
        self.head_and_loss(shape, hidden, weight, targets, gradients)
    }

    fn sum_of_squares(&self, x: &Buffer<D>) -> Done<f64> {
        self.exact.sum_of_squares(x)
    }

    fn adamw(
        &self,
        step: AdamWStep,
        keep: f32,
        gradient: &Buffer<D>,
        first: &mut Buffer<D>,
        second: &mut Buffer<D>,
        parameter: &mut Buffer<D>,
    ) -> Done {
        self.exact.adamw(step, keep, gradient, first, second, parameter)
    }

    fn adamw_eight_bit(
        &self,
        step: AdamWStep,
        keep: f32,
        most: f32,
        gradient: &Buffer<D>,
        first: &mut Buffer<D>,
        second: &mut Buffer<D>,
        parameter: &mut Buffer<D>,
    ) -> Done {
        self.exact.adamw_eight_bit(step, keep, most, gradient, first, second, parameter)
    }
}
