//! The processor as a [`Backend`]: the exact class, equal to the bit on every machine with fused multiply-add.
//!
//! ```text
//! cpu.rs            which operation is whose
//!   isa, pool       vector instructions found at run time; buffers used again
//!   math, lanes     exponential, error function, logarithm; sums of a fixed shape
//!   gemm            the fixed-order matrix product: packing, micro-kernels
//!   linear, attention, cross_entropy, dots                      on the product
//!   layer_norm, rms_norm, rotary, norm_rotate, gelu, swiglu     row by row
//!   rows, squares, adamw, adamw_eight_bit                       tables, norm, optimiser
//! ```
//!
//! Every operation is a file: formula, forward, backward, tests by finite differences and against the reference model's
//! plain form. Threads are rayon's; how many there are changes no bit.

mod adamw;
mod adamw_eight_bit;
mod attention;
mod cross_entropy;
mod dots;
mod gelu;
mod gemm;
mod isa;
mod lanes;
mod layer_norm;
mod linear;
pub mod math;
mod norm_rotate;
mod pool;
mod rms_norm;
mod rotary;
mod rows;
mod squares;
mod swiglu;
#[cfg(test)]
mod testkit;

pub(crate) use attention::TILE as ATTENTION_TILE;
pub(crate) use cross_entropy::room as head_room;
pub use dots::PackedRows;
pub use gemm::Products;
pub(crate) use gemm::room as product_room;
pub use isa::{Isa, Level};
pub use pool::Buffer;
pub(crate) use pool::WASTE;

use self::pool::Pool;
use crate::backend::{
    AdamWStep, Attention, Backend, Columns, ColumnsMut, Done, HeadGradients, HeadShape, LinearShape, Qkv,
    Store, Targets, Turn,
};

/// The processor.
#[derive(Debug, Clone)]
pub struct Cpu {
    isa: Isa,
    products: Products,
    pool: Pool,
}

impl Default for Cpu {
    fn default() -> Self {
        Self::new(Isa::best(), Products::FixedOrder)
    }
}

impl Cpu {
    /// With these instructions, and products of this kind.
    pub fn new(isa: Isa, products: Products) -> Self {
        Self { isa, products, pool: Pool::default() }
    }

    /// The instructions in use.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Gives the memory of buffers that nobody uses back to the system.
    pub fn trim(&self) {
        self.pool.clear();
    }
}

impl Backend for Cpu {
    type Buffer = Buffer;
    type Parcel = Vec<f32>;

    /// On one of the threads that do the work: from outside, each operation would wake one and wait for it.
    fn inside<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        rayon::scope(|_| work())
    }

    fn scratch(&self, len: usize) -> Done<Buffer> {
        Ok(self.pool.take(len))
    }

    fn zeros(&self, len: usize) -> Done<Buffer> {
        Ok(self.pool.zeros(len))
    }

    fn upload(&self, values: &[f32]) -> Done<Buffer> {
        let mut buffer = self.pool.take(values.len());
        buffer.copy_from_slice(values);
        Ok(buffer)
    }

    fn download(&self, buffer: &Buffer) -> Done<Vec<f32>> {
        Ok(buffer.to_vec())
    }

    fn len(&self, buffer: &Buffer) -> usize {
        buffer.len()
    }

    /// A library's sums depend on how many rows there are.
    fn joins_freely(&self) -> bool {
        self.products == Products::FixedOrder
    }

    fn parcel(&self, len: usize) -> Done<Vec<f32>> {
        Ok(vec![0.0; len])
    }

    fn pack(&self, from: &Buffer, parcel: &mut Vec<f32>) -> Done {
        parcel.copy_from_slice(from);
        Ok(())
    }

    fn unpack(&self, parcel: &mut Vec<f32>, into: &mut Buffer) -> Done {
        into.copy_from_slice(parcel);
        Ok(())
    }

    fn arrived(&self, _: &Vec<f32>) -> Done {
        Ok(())
    }

    fn linear(
        &self,
        shape: LinearShape,
        x: &Buffer,
        weight: &Buffer,
        bias: Option<&Buffer>,
        residual: Option<&Buffer>,
        y: &mut Buffer,
    ) -> Done {
        linear::forward(self, shape, x, weight, bias.map(|b| &**b), residual.map(|r| &**r), y);
        Ok(())
    }

    fn linear_backward_input(
        &self,
        shape: LinearShape,
        dy: &Buffer,
        weight: &Buffer,
        store: Store,
        dx: &mut Buffer,
    ) -> Done {
        linear::backward_input(self, shape, dy, weight, store, dx);
        Ok(())
    }

    fn linear_backward_weight(
        &self,
        shape: LinearShape,
        x: &Buffer,
        dy: &Buffer,
        into: Store,
        dweight: &mut Buffer,
    ) -> Done {
        linear::backward_weight(self, shape, x, dy, into, dweight);
        Ok(())
    }

    fn linear_backward_bias(&self, dy: &Buffer, dbias: &mut Buffer) -> Done {
        rows::add_column_sums(self.isa, dy, dbias);
        Ok(())
    }

    fn layer_norm(
        &self,
        width: usize,
        eps: f32,
        x: &Buffer,
        weight: &Buffer,
        bias: &Buffer,
        y: &mut Buffer,
    ) -> Done {
        layer_norm::forward(self.isa, width, eps, x, weight, bias, y);
        Ok(())
    }

    fn layer_norm_backward(
        &self,
        width: usize,
        eps: f32,
        x: &Buffer,
        weight: &Buffer,
        dy: &Buffer,
        dx: &mut Buffer,
        parameters: Option<(&mut Buffer, &mut Buffer)>,
    ) -> Done {
        let parameters = parameters.map(|(weight, bias)| (&mut **weight, &mut **bias));
        layer_norm::backward(self.isa, width, eps, x, weight, dy, dx, parameters);
        Ok(())
    }

    fn rms_norm(&self, width: usize, eps: f32, x: &Buffer, weight: &Buffer, y: &mut Buffer) -> Done {
        rms_norm::forward(self.isa, width, eps, x, weight, y);
        Ok(())
    }

    fn rms_norm_backward(
        &self,
        width: usize,
        eps: f32,
        x: &Buffer,
        weight: &Buffer,
        dy: &Buffer,
        dx: &mut Buffer,
        dweight: Option<&mut Buffer>,
    ) -> Done {
        rms_norm::backward(self.isa, width, eps, x, weight, dy, dx, dweight.map(|d| &mut **d));
        Ok(())
    }

    fn rotate(&self, shape: HeadShape, turns: &Buffer, turn: Turn, x: ColumnsMut<'_, Buffer>) -> Done {
        rotary::rotate(self.isa, shape, turns, turn, &mut x.buffer[x.start..], x.stride);
        Ok(())
    }

    fn angle_gradient(
        &self,
        shape: HeadShape,
        rows: &[u32],
        y: Columns<'_, Buffer>,
        dy: Columns<'_, Buffer>,
        dangles: &mut Buffer,
    ) -> Done {
        rotary::angle_gradient(
            shape,
            rows,
            (&y.buffer[y.start..], y.stride),
            (&dy.buffer[dy.start..], dy.stride),
            dangles,
        );
        Ok(())
    }

    fn norm_and_rotate(
        &self,
        shape: HeadShape,
        eps: f32,
        x: &Buffer,
        weight: &Buffer,
        turns: &Buffer,
        y: &mut Buffer,
    ) -> Done {
        norm_rotate::forward(self.isa, shape, eps, x, weight, turns, y);
        Ok(())
    }

    fn norm_and_rotate_backward(
        &self,
        shape: HeadShape,
        eps: f32,
        x: &Buffer,
        weight: &Buffer,
        turns: &Buffer,
        dy: &mut Buffer,
        dweight: Option<&mut Buffer>,
    ) -> Done {
        norm_rotate::backward(self.isa, shape, eps, x, weight, turns, dy, dweight.map(|d| &mut **d));
        Ok(())
    }

    fn attention(
        &self,
        attention: Attention<'_>,
        qkv: Qkv<Columns<'_, Buffer>>,
        y: &mut Buffer,
        statistics: &mut Buffer,
    ) -> Done {
        attention::forward(self, attention, &qkv, y, statistics);
        Ok(())
    }

    fn attention_backward(
        &self,
        attention: Attention<'_>,
        qkv: Qkv<Columns<'_, Buffer>>,
        y: &Buffer,
        statistics: &Buffer,
        dy: &Buffer,
        gradients: Qkv<ColumnsMut<'_, Buffer>>,
    ) -> Done {
        attention::backward(self, attention, &qkv, y, statistics, dy, gradients);
        Ok(())
    }

    fn gelu(&self, x: &Buffer, y: &mut Buffer) -> Done {
        gelu::forward(self.isa, x, y);
        Ok(())
    }

    fn gelu_backward(&self, x: &Buffer, dy: &mut Buffer) -> Done {
        gelu::backward(self.isa, x, dy);
        Ok(())
    }

    fn swiglu(&self, gate: &Buffer, up: &Buffer, y: &mut Buffer) -> Done {
        swiglu::forward(self.isa, gate, up, y);
        Ok(())
    }

    fn swiglu_backward(&self, gate: &mut Buffer, up: &mut Buffer, dy: &Buffer) -> Done {
        swiglu::backward(self.isa, gate, up, dy);
        Ok(())
    }

    fn copy_rows(
        &self,
        width: usize,
        from: &Buffer,
        from_rows: &[u32],
        to: &mut Buffer,
        to_rows: &[u32],
    ) -> Done {
        rows::copy(width, from, from_rows, to, to_rows);
        Ok(())
    }

    fn add_rows(
        &self,
        width: usize,
        from: &Buffer,
        from_rows: &[u32],
        to: &mut Buffer,
        to_rows: &[u32],
    ) -> Done {
        rows::add(self.isa, width, from, from_rows, to, to_rows);
        Ok(())
    }

    fn add(&self, x: &Buffer, y: &mut Buffer) -> Done {
        rows::add_all(self.isa, x, y);
        Ok(())
    }

    fn cross_entropy(
        &self,
        shape: LinearShape,
        hidden: &Buffer,
        weight: &Buffer,
        targets: Targets<'_>,
        gradients: Option<HeadGradients<'_, Buffer>>,
    ) -> Done<Vec<f32>> {
        Ok(cross_entropy::forward_backward(self, shape, hidden, weight, targets, gradients))
    }

    fn sum_of_squares(&self, x: &Buffer) -> Done<f64> {
        Ok(squares::sum(self.isa, x))
    }

    fn adamw(
        &self,
        step: AdamWStep,
        keep: f32,
        gradient: &Buffer,
        first: &mut Buffer,
        second: &mut Buffer,
        parameter: &mut Buffer,
    ) -> Done {
        adamw::step(self.isa, step, keep, gradient, first, second, parameter);
        Ok(())
    }

    fn adamw_eight_bit(
        &self,
        step: AdamWStep,
        keep: f32,
        most: f32,
        gradient: &Buffer,
        first: &mut Buffer,
        second: &mut Buffer,
        parameter: &mut Buffer,
    ) -> Done {
        let step = adamw_eight_bit::Step { step, keep, most };
        adamw_eight_bit::step(self.isa, step, gradient, first, second, parameter);
        Ok(())
    }
}
