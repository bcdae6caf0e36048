//! A GPU as a [`Backend`], in a class of numbers.
//!
//! ```text
//! launch        arguments with their extents checked, shapes of launches, failures
//! product       linear maps
//! parcel        numbers from one GPU to another
//! norms, rotary, attention, elementwise, rows, cross_entropy     the other operations, as in `cpu` of the trainer
//! ```
//!
//! The operations here are those of the exact class, bit for bit what the processor computes; a [`Class`] has its own way
//! of doing some of them. The host only counts and launches; what is computed stands in `kernels/`.

#![allow(
    clippy::needless_pass_by_ref_mut,
    reason = "what a kernel writes is borrowed to be written, as in the trait"
)]

mod attention;
mod cross_entropy;
mod elementwise;
pub(crate) mod launch;
mod norms;
mod parcel;
pub(crate) mod product;
mod rotary;
mod rows;

use std::sync::Arc;

use talkoot_trainer::{
    backend::{
        AdamWStep, Attention, Backend, Columns, ColumnsMut, Done, HeadGradients, HeadShape, LinearShape, Qkv,
        Store, Targets, Turn,
    },
    moments::eight_bit::BLOCK_WORDS,
};

use self::launch::during;
pub use self::parcel::Parcel;
use crate::{
    buffer::{Buffer, Place, Pool},
    class::{Class, Exact},
    device::{Device, DeviceError},
    offload::{Hosted, Offload},
};

/// A GPU that computes in a class of numbers.
#[derive(Debug)]
pub struct Cuda<D: Device, C = Exact> {
    pool: Arc<Pool<D>>,
    class: C,
    /// Where the optimiser's moments rest on the host.
    offload: Option<Arc<Offload<D>>>,
    /// GPUs that help it.
    others: Vec<Self>,
}

impl<D: Device> Cuda<D> {
    /// This device, in the exact class.
    pub fn new(device: D) -> Self {
        Self { pool: Pool::new(Arc::new(device)), class: Exact, offload: None, others: Vec::new() }
    }

    /// The same, with moments of the optimiser in the host's memory. They come in slices of at most `words` words of four
    /// bytes, a whole block of moments in eight bits at least; [`SLICE_WORDS`](talkoot_trainer::plan::SLICE_WORDS) is what is planned with.
    ///
    /// # Errors
    ///
    /// [`DeviceError`] when the device has no room for the slices, before anything else is asked of it.
    pub fn offloading(device: D, words: usize) -> Result<Self, DeviceError> {
        let pool = Pool::new(Arc::new(device));
        let offload = Some(Arc::new(Offload::new(&pool, words.max(BLOCK_WORDS))?));
        Ok(Self { pool, class: Exact, offload, others: Vec::new() })
    }
}

impl<D: Device, C: Class> Cuda<D, C> {
    /// The same device and memory in another class: buffers of the one are buffers of the other. So for those that help it.
    pub fn in_class<N: Class>(&self, class: N) -> Cuda<D, N> {
        let others = self.others.iter().map(|other| other.in_class(class.clone())).collect();
        Cuda { pool: Arc::clone(&self.pool), class, offload: self.offload.clone(), others }
    }

    /// The same device, and others that help it: see [`talkoot_trainer::team`]. They have memory of their own.
    #[must_use]
    pub fn with_others(self, others: Vec<Self>) -> Self {
        Self { others, ..self }
    }

    /// What it computes in.
    pub fn class(&self) -> &C {
        &self.class
    }

    /// The device.
    pub fn device(&self) -> &D {
        self.pool.device()
    }

    /// Gives memory that nobody uses back to the device.
    pub fn trim(&self) {
        self.pool.trim();
    }
}

impl<D: Device, C: Class> Cuda<D, C> {
    /// Numbers at rest, of any value.
    fn on_host(&self, len: usize) -> Done<Buffer<D>> {
        let pinned = self.device().pin(len * size_of::<f32>()).map_err(during(AT_REST))?;
        Ok(Buffer { place: Place::Host(Hosted::new(pinned)), len })
    }

    /// Writes bytes of numbers at rest.
    fn put(&self, buffer: &Buffer<D>, at: usize, bytes: &[u8]) -> Done {
        match &buffer.place {
            Place::Host(hosted) => {
                self.device().write_pinned(bytes, &hosted.pinned, at).map_err(during(AT_REST))
            }
            Place::Device(_) => Ok(()),
        }
    }
}

/// What fails when there is no room on the host.
const AT_REST: &str = "an allocation on the host";

impl<D: Device, C: Class> Backend for Cuda<D, C> {
    type Buffer = Buffer<D>;
    type Parcel = Parcel<D>;

    fn scratch(&self, len: usize) -> Done<Buffer<D>> {
        let lent = self.pool.take(len * size_of::<f32>()).map_err(during("an allocation"))?;
        Ok(Buffer { place: Place::Device(lent), len })
    }

    fn zeros(&self, len: usize) -> Done<Buffer<D>> {
        let buffer = self.scratch(len)?;
        if len > 0 {
            let cleared = self.device().clear(buffer.memory(), 0, len * size_of::<f32>());
            cleared.map_err(during("an allocation"))?;
        }
        Ok(buffer)
    }

    fn upload(&self, values: &[f32]) -> Done<Buffer<D>> {
        let buffer = self.scratch(values.len())?;
        let bytes = bytemuck::cast_slice(values);
        if !bytes.is_empty() {
            self.device().upload(bytes, buffer.memory(), 0).map_err(during("a copy to the device"))?;
        }
        Ok(buffer)
    }

    fn download(&self, buffer: &Buffer<D>) -> Done<Vec<f32>> {
        let mut values = vec![0.0f32; buffer.len];
        let bytes = bytemuck::cast_slice_mut(&mut values);
        if bytes.is_empty() {
            return Ok(values);
        }
        let copied = match &buffer.place {
            Place::Device(lent) => self.device().download(lent.memory(), 0, bytes),
            Place::Host(hosted) => self.device().read_pinned(&hosted.pinned, 0, bytes),
        };
        copied.map_err(during("a copy from the device"))?;
        Ok(values)
    }

    fn zeros_at_rest(&self, len: usize) -> Done<Buffer<D>> {
        /// As many zeros as are written at a time.
        static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
        if self.offload.is_none() {
            return self.zeros(len);
        }
        let (buffer, bytes) = (self.on_host(len)?, len * size_of::<f32>());
        for at in (0..bytes).step_by(ZEROS.len()) {
            self.put(&buffer, at, &ZEROS[..ZEROS.len().min(bytes - at)])?;
        }
        Ok(buffer)
    }

    fn upload_at_rest(&self, values: &[f32]) -> Done<Buffer<D>> {
        if self.offload.is_none() {
            return self.upload(values);
        }
        let buffer = self.on_host(values.len())?;
        self.put(&buffer, 0, bytemuck::cast_slice(values))?;
        Ok(buffer)
    }

    fn len(&self, buffer: &Buffer<D>) -> usize {
        buffer.len
    }

    fn others(&self) -> &[Self] {
        &self.others
    }

    fn joins_freely(&self) -> bool {
        C::JOINS_FREELY
    }

    fn parcel(&self, len: usize) -> Done<Parcel<D>> {
        self.new_parcel(len)
    }

    fn pack(&self, from: &Buffer<D>, parcel: &mut Parcel<D>) -> Done {
        self.pack_parcel(from, parcel)
    }

    fn unpack(&self, parcel: &mut Parcel<D>, into: &mut Buffer<D>) -> Done {
        self.unpack_parcel(parcel, into)
    }

    fn arrived(&self, parcel: &Parcel<D>) -> Done {
        self.parcel_arrived(parcel)
    }

    fn settle(&self) -> Done {
        self.device().synchronise().map_err(during("a wait for the device"))
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
        C::linear(self, shape, x, weight, [bias, residual], y)
    }

    fn linear_backward_input(
        &self,
        shape: LinearShape,
        dy: &Buffer<D>,
        weight: &Buffer<D>,
        store: Store,
        dx: &mut Buffer<D>,
    ) -> Done {
        C::linear_backward_input(self, shape, dy, weight, store, dx)
    }

    fn linear_backward_weight(
        &self,
        shape: LinearShape,
        x: &Buffer<D>,
        dy: &Buffer<D>,
        store: Store,
        dweight: &mut Buffer<D>,
    ) -> Done {
        C::linear_backward_weight(self, shape, x, dy, store, dweight)
    }

    fn linear_backward_bias(&self, dy: &Buffer<D>, dbias: &mut Buffer<D>) -> Done {
        self.add_column_sums(dy, dbias)
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
        self.layer_norm_forward(width, eps, x, weight, bias, y)
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
        self.layer_norm_gradients(width, eps, x, weight, dy, dx, parameters)
    }

    fn rms_norm(&self, width: usize, eps: f32, x: &Buffer<D>, weight: &Buffer<D>, y: &mut Buffer<D>) -> Done {
        self.rms_norm_forward("rms_norm", width, eps, x, weight, y)
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
        self.rms_norm_gradients(width, eps, x, weight, dy, dx, dweight)
    }

    fn rotate(&self, shape: HeadShape, turns: &Buffer<D>, turn: Turn, x: ColumnsMut<'_, Buffer<D>>) -> Done {
        self.turn("rotate", shape, turns, turn, x)
    }

    fn angle_gradient(
        &self,
        shape: HeadShape,
        rows: &[u32],
        y: Columns<'_, Buffer<D>>,
        dy: Columns<'_, Buffer<D>>,
        dangles: &mut Buffer<D>,
    ) -> Done {
        self.gradient_of_angles(shape, rows, y, dy, dangles)
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
        let HeadShape { heads, width, .. } = shape;
        self.rms_norm_forward("norm_and_rotate", width, eps, x, weight, y)?;
        let heads = ColumnsMut { buffer: y, start: 0, stride: heads * width };
        self.turn("norm_and_rotate", shape, turns, Turn::Forward, heads)
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
        let HeadShape { heads, width, .. } = shape;
        let columns = ColumnsMut { buffer: &mut *dy, start: 0, stride: heads * width };
        self.turn("norm_and_rotate_backward", shape, turns, Turn::Back, columns)?;
        self.rms_norm_gradients_in_place(width, eps, x, weight, dy, dweight)
    }

    fn attention(
        &self,
        attention: Attention<'_>,
        qkv: Qkv<Columns<'_, Buffer<D>>>,
        y: &mut Buffer<D>,
        statistics: &mut Buffer<D>,
    ) -> Done {
        C::attention(self, attention, &qkv, [y, statistics])
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
        C::attention_backward(self, attention, &qkv, [y, statistics, dy], &gradients)
    }

    fn gelu(&self, x: &Buffer<D>, y: &mut Buffer<D>) -> Done {
        self.activate(x, y)
    }

    fn gelu_backward(&self, x: &Buffer<D>, dy: &mut Buffer<D>) -> Done {
        self.activate_backward(x, dy)
    }

    fn swiglu(&self, gate: &Buffer<D>, up: &Buffer<D>, y: &mut Buffer<D>) -> Done {
        self.gate(gate, up, y)
    }

    fn swiglu_backward(&self, gate: &mut Buffer<D>, up: &mut Buffer<D>, dy: &Buffer<D>) -> Done {
        self.gate_backward(gate, up, dy)
    }

    fn copy_rows(
        &self,
        width: usize,
        from: &Buffer<D>,
        from_rows: &[u32],
        to: &mut Buffer<D>,
        to_rows: &[u32],
    ) -> Done {
        self.copy_table_rows(width, from, from_rows, to, to_rows)
    }

    fn add_rows(
        &self,
        width: usize,
        from: &Buffer<D>,
        from_rows: &[u32],
        to: &mut Buffer<D>,
        to_rows: &[u32],
    ) -> Done {
        self.add_table_rows(width, from, from_rows, to, to_rows)
    }

    fn add(&self, x: &Buffer<D>, y: &mut Buffer<D>) -> Done {
        self.add_all(x, y)
    }

    fn cross_entropy(
        &self,
        shape: LinearShape,
        hidden: &Buffer<D>,
        weight: &Buffer<D>,
        targets: Targets<'_>,
        gradients: Option<HeadGradients<'_, Buffer<D>>>,
    ) -> Done<Vec<f32>> {
        C::cross_entropy(self, shape, hidden, weight, targets, gradients)
    }

    fn sum_of_squares(&self, x: &Buffer<D>) -> Done<f64> {
        self.squares(x)
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
        self.optimise(step, keep, gradient, [first, second], parameter)
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
        self.optimise_eight_bit((step, keep, most), gradient, [first, second], parameter)
    }
}
