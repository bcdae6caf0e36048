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
        Resting, Store, Targets, Turn,
    },
    moments::eight_bit::{BLOCK, BLOCK_WORDS},
    plan::OnHost,
};

use self::launch::{HALF, during};
pub use self::parcel::Parcel;
use crate::{
    buffer::{Buffer, Place, Pool},
    class::{Class, Exact},
    device::{Device, DeviceError},
    offload::{Hosted, Offload},
    rest::Rest,
};

/// A GPU that computes in a class of numbers.
#[derive(Debug)]
pub struct Cuda<D: Device, C = Exact> {
    pool: Arc<Pool<D>>,
    class: C,
    /// What rests in the host's memory.
    on_host: OnHost,
    /// Where numbers of the optimiser that rest there visit the device.
    offload: Option<Arc<Offload<D>>>,
    /// Where other numbers rest there.
    rest: Option<Arc<Rest<D>>>,
    /// GPUs that help it.
    others: Vec<Self>,
}

impl<D: Device> Cuda<D> {
    /// This device, in the exact class.
    pub fn new(device: D) -> Self {
        let pool = Pool::new(Arc::new(device));
        Self { pool, class: Exact, on_host: OnHost::NOTHING, offload: None, rest: None, others: Vec::new() }
    }

    /// The same, with some numbers at rest in the host's memory. The optimiser's come in slices of at most `words` words of
    /// four bytes each, a whole block of moments in eight bits at least; [`SLICE_WORDS`](talkoot_trainer::plan::SLICE_WORDS)
    /// is what is planned with.
    ///
    /// # Errors
    ///
    /// [`DeviceError`] when the device has no room for the slices, before anything else is asked of it.
    pub fn resting(device: D, on_host: OnHost, words: usize) -> Result<Self, DeviceError> {
        let OnHost { moments, gradients, values } = on_host;
        let (pool, words) = (Pool::new(Arc::new(device)), words.max(BLOCK_WORDS));
        // a slice of each; where gradients are of moments in eight bits, a block of all at least
        let parts = 2 * usize::from(moments) + usize::from(gradients);
        let block = 2 * BLOCK_WORDS * usize::from(moments) + BLOCK * usize::from(gradients);
        let bytes = size_of::<f32>() * (parts * words).max(block);
        let offload = if parts > 0 { Some(Arc::new(Offload::new(&pool, bytes)?)) } else { None };
        let rest = (gradients || values).then(|| Rest::new(&pool, words));
        Ok(Self { pool, class: Exact, on_host, offload, rest, others: Vec::new() })
    }
}

impl<D: Device, C: Class> Cuda<D, C> {
    /// The same device and memory in another class: buffers of the one are buffers of the other. So for those that help it.
    pub fn in_class<N: Class>(&self, class: N) -> Cuda<D, N> {
        let Self { pool, on_host, offload, rest, others, .. } = self;
        let others = others.iter().map(|other| other.in_class(class.clone())).collect();
        Cuda {
            pool: Arc::clone(pool),
            class,
            on_host: *on_host,
            offload: offload.clone(),
            rest: rest.clone(),
            others,
        }
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

    /// What rests in the host's memory.
    pub fn on_host(&self) -> OnHost {
        self.on_host
    }

    /// Gives memory that nobody uses back to the device, what numbers on their way to the host have left behind too.
    pub fn trim(&self) {
        if let Some(rest) = &self.rest {
            rest.trim();
        }
        self.pool.trim();
    }
}

impl<D: Device, C: Class> Cuda<D, C> {
    /// Numbers at rest, of any value.
    fn at_rest(&self, len: usize) -> Done<Buffer<D>> {
        let pinned = self.device().pin(len * size_of::<f32>()).map_err(during(AT_REST))?;
        Ok(Buffer { place: Place::Host(Hosted::new(pinned)), len })
    }

    /// Writes bytes of numbers at rest.
    fn put(&self, buffer: &Buffer<D>, at: usize, bytes: &[u8]) -> Done {
        match &buffer.place {
            Place::Host(hosted) => {
                self.device().write_pinned(bytes, &hosted.pinned, at).map_err(during(AT_REST))
            }
            Place::Device(_) | Place::Half(_) | Place::Away(_) => Ok(()),
        }
    }

    /// Halves of any value.
    fn halves(&self, len: usize) -> Done<Buffer<D>> {
        let lent = self.pool.take(len * HALF).map_err(during("an allocation"))?;
        Ok(Buffer { place: Place::Half(lent), len })
    }

    /// Starts numbers' way to the host.
    fn send_away(&self, rest: &Arc<Rest<D>>, kind: Resting, buffer: &mut Buffer<D>) -> Done {
        const NAME: &str = "a copy to the host";
        let bytes = buffer.len * size_of::<f32>();
        let squares = match kind {
            Resting::Gradient => Some(self.parts_of_squares(NAME, buffer)?),
            Resting::Value => None,
        };
        let Place::Device(numbers) = &buffer.place else { return Ok(()) };
        let sums = squares.as_ref().and_then(|sums| match &sums.place {
            Place::Device(lent) => Some((lent, sums.len * size_of::<f32>())),
            _ => None,
        });
        let away = rest.copy_out(numbers, bytes, sums).map_err(during(NAME))?;
        let places =
            [Some(std::mem::replace(&mut buffer.place, Place::Away(away))), squares.map(|s| s.place)];
        let memory = places.into_iter().flatten().filter_map(|place| match place {
            Place::Device(lent) => Some(lent),
            _ => None,
        });
        let Place::Away(away) = &buffer.place else { return Ok(()) };
        rest.hold(away, memory.collect()).map_err(during(NAME))
    }
}

/// What fails when there is no room for what comes back.
const FETCHING: &str = "a copy from the host";

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
        let failed = during("a copy from the device");
        match &buffer.place {
            Place::Device(lent) => self.device().download(lent.memory(), 0, bytes),
            Place::Half(lent) => {
                let mut halves = vec![0u16; buffer.len];
                let copied = self.device().download(lent.memory(), 0, bytemuck::cast_slice_mut(&mut halves));
                copied.map_err(failed)?;
                return Ok(halves.into_iter().map(|half| f32::from_bits(u32::from(half) << 16)).collect());
            }
            Place::Host(hosted) => self.device().read_pinned(&hosted.pinned, 0, bytes),
            Place::Away(away) => self.device().read_pinned(away.pinned(), 0, bytes),
        }
        .map_err(failed)?;
        Ok(values)
    }

    /// Halves, if nothing is lost by it.
    fn upload_frozen(&self, values: &[f32]) -> Done<Buffer<D>> {
        let lossless = |value: &f32| value.to_bits() & 0xffff == 0;
        if values.is_empty() || !values.iter().all(lossless) {
            return self.upload(values);
        }
        let buffer = self.halves(values.len())?;
        let halves: Vec<u16> = values.iter().map(|value| (value.to_bits() >> 16) as u16).collect();
        if let Place::Half(lent) = &buffer.place {
            let copied = self.device().upload(bytemuck::cast_slice(&halves), lent.memory(), 0);
            copied.map_err(during("a copy to the device"))?;
        }
        Ok(buffer)
    }

    fn scratch_frozen(&self, len: usize) -> Done<Buffer<D>> {
        if len == 0 { self.scratch(len) } else { self.halves(len) }
    }

    fn put_away(&self, kind: Resting, buffer: &mut Buffer<D>) -> Done {
        let wanted = match kind {
            Resting::Gradient => self.on_host.gradients,
            Resting::Value => self.on_host.values,
        };
        match (&self.rest, &buffer.place) {
            (Some(rest), Place::Device(_)) if wanted && rest.takes(buffer.len * size_of::<f32>()) => {
                self.send_away(rest, kind, buffer)
            }
            _ => Ok(()),
        }
    }

    fn send_for(&self, buffer: &mut Buffer<D>) -> Done {
        match &mut buffer.place {
            Place::Away(away) => away.send_for().map_err(during(FETCHING)),
            _ => Ok(()),
        }
    }

    fn fetch(&self, buffer: &mut Buffer<D>) -> Done {
        if let Place::Away(away) = &mut buffer.place {
            buffer.place = Place::Device(away.fetch().map_err(during(FETCHING))?);
        }
        Ok(())
    }

    fn zeros_at_rest(&self, len: usize) -> Done<Buffer<D>> {
        /// As many zeros as are written at a time.
        static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
        if !self.on_host.moments {
            return self.zeros(len);
        }
        let (buffer, bytes) = (self.at_rest(len)?, len * size_of::<f32>());
        for at in (0..bytes).step_by(ZEROS.len()) {
            self.put(&buffer, at, &ZEROS[..ZEROS.len().min(bytes - at)])?;
        }
        Ok(buffer)
    }

    fn upload_at_rest(&self, values: &[f32]) -> Done<Buffer<D>> {
        if !self.on_host.moments {
            return self.upload(values);
        }
        let buffer = self.at_rest(values.len())?;
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
