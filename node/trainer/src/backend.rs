//! What a device must be able to do to train the model: about twenty operations, each with its backward.
//!
//! ```text
//! model (written once) --operations--> Backend: cpu (exact on every processor), cuda (planned)
//! ```
//!
//! All numbers are f32, all matrices row-major. Letters: `n` rows, `w` width of a row, `d` width of a head, `V`
//! vocabulary. A backward operation takes what its forward took and the gradient of its result. **Gradients of
//! parameters are added to what stands there**, so that a step may come in several parts; those that a product makes may
//! also replace it, which spares a step's first part the reading of zeros. What happens to the gradient of an input is
//! said at each operation.
//!
//! The class `exact` defines every result to the last bit, so that a laptop can referee a data centre. Its rules:
//!
//! - *Products.* Every element of a matrix product is one chain of fused multiply-adds over the inner index in ascending
//!   order, from 0 or, where an operation adds, from what stands there. How the work is cut into tiles, threads or
//!   vectors cannot change a bit of that.
//! - *Sums along a row* have sixteen running lanes: element `i` goes to lane `i mod 16`, then the lanes are added in
//!   order.
//! - *Sums over rows* (gradients of norms, biases, tables) go through the rows in ascending order.
//! - Exponential, error function and logarithm are the polynomials of [`crate::cpu::math`]; square root and division are
//!   IEEE's. Nothing is contracted or reassociated, subnormals count.

use std::{fmt, ops::Range};

/// Why a device could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// The device has no room left.
    #[error("the device has no room for {bytes} more bytes: lower the packs of a step, or lend more memory")]
    OutOfMemory {
        /// What was asked for.
        bytes: u64,
    },
    /// The device failed or is gone.
    #[error("the device failed in {operation}: {reason}")]
    Device {
        /// The operation.
        operation: &'static str,
        /// What its driver says.
        reason: String,
    },
    /// One of several devices that work as one failed.
    #[error("number {number} of {of} devices that work as one: {source}", number = index + 1)]
    Member {
        /// Its place among them, counted from 0.
        index: usize,
        /// How many they are.
        of: usize,
        /// How it failed.
        source: Box<Self>,
    },
}

/// What every operation returns.
pub type Done<T = ()> = Result<T, BackendError>;

/// Columns of a matrix inside a buffer: row `i` begins at element `start + i * stride`.
#[derive(Debug, Clone, Copy)]
pub struct Columns<'a, T> {
    /// What they are part of.
    pub buffer: &'a T,
    /// Element of the first row's first column.
    pub start: usize,
    /// Elements from one row to the next.
    pub stride: usize,
}

/// As [`Columns`], to be written.
#[derive(Debug)]
pub struct ColumnsMut<'a, T> {
    /// What they are part of.
    pub buffer: &'a mut T,
    /// Element of the first row's first column.
    pub start: usize,
    /// Elements from one row to the next.
    pub stride: usize,
}

/// Rows `queries` that look at rows `keys`, and at nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Rows of the queries.
    pub queries: Range<usize>,
    /// Rows of the keys and values. Under a causal mask the last query sees the last key, the one before it one less.
    pub keys: Range<usize>,
}

impl Segment {
    /// Rows that look at themselves.
    pub fn own(rows: Range<usize>) -> Self {
        Self { queries: rows.clone(), keys: rows }
    }
}

/// Who looks at whom, and in how many heads. Query head `h` reads key head `h / (heads / groups)`.
#[derive(Debug, Clone, Copy)]
pub struct Attention<'a> {
    /// Segments; their query rows ascend, without gaps or overlap.
    pub segments: &'a [Segment],
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub groups: usize,
    /// Width of a head, `d`. Scores are scaled by `1 / sqrt(d)`.
    pub width: usize,
    /// Whether a query sees no key behind its own place.
    pub causal: bool,
}

/// Queries, keys and values, or their gradients.
#[derive(Debug)]
pub struct Qkv<T> {
    /// `[n, heads * d]`.
    pub q: T,
    /// `[m, groups * d]`.
    pub k: T,
    /// `[m, groups * d]`.
    pub v: T,
}

/// Sizes of a linear map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinearShape {
    /// Rows of the input, `n`.
    pub rows: usize,
    /// Width of an input row.
    pub inputs: usize,
    /// Width of an output row.
    pub outputs: usize,
}

/// Rows of heads: `n` rows of `heads * width` numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadShape {
    /// `n`.
    pub rows: usize,
    /// Heads in a row.
    pub heads: usize,
    /// Width of a head, `d`; even.
    pub width: usize,
}

/// Which way a rotation turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// By the angle.
    Forward,
    /// By its negative: the backward of a rotation.
    Back,
}

/// How a result meets what stands in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// What stood there is gone.
    Replace,
    /// It is added to what stands there.
    Add,
}

/// Numbers of one AdamW step, the same for all parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWStep {
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Learning rate over the first moment's bias correction.
    pub step_size: f32,
    /// Root of the second moment's bias correction.
    pub root_correction: f32,
    /// Factor on gradients, from clipping.
    pub gradient_factor: f32,
}

/// What a row of a linear map followed by cross-entropy is to predict.
#[derive(Debug, Clone, Copy)]
pub struct Targets<'a> {
    /// A token for every row, each below the vocabulary.
    pub tokens: &'a [u32],
    /// Factor on every row's gradient.
    pub scales: &'a [f32],
}

/// Gradients that [`Backend::cross_entropy`] is to compute.
#[derive(Debug)]
pub struct HeadGradients<'a, T> {
    /// Of the hidden rows, `[n, w]`; replaced.
    pub hidden: &'a mut T,
    /// Of the head, `[V, w]`, where it is trained.
    pub weight: Option<(Store, &'a mut T)>,
}

/// Numbers that are not used for a while, and may be elsewhere meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resting {
    /// A gradient, until the next batch of the step adds to it or the optimiser takes it.
    Gradient,
    /// What forward left for backward.
    Value,
}

/// A device that trains.
///
/// Lengths and shapes are the caller's business: an operation may panic on a buffer that is too short, since they come
/// from the model's code and never from outside.
///
/// # Errors
///
/// Every operation fails with a [`BackendError`] when the device has no room or is gone, and for no other reason.
#[expect(clippy::missing_errors_doc, reason = "said once above, for all operations")]
pub trait Backend: fmt::Debug + Send + Sync {
    /// Numbers on the device.
    type Buffer: fmt::Debug + Send + Sync;
    /// What carries numbers from one device to another.
    type Parcel: fmt::Debug + Send + Sync;

    /// Runs `work` where starting operations costs least, for work that starts many.
    fn inside<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        work()
    }

    // --- memory

    /// `len` numbers of any value, to be written before they are read.
    fn scratch(&self, len: usize) -> Done<Self::Buffer>;
    /// `len` zeros.
    fn zeros(&self, len: usize) -> Done<Self::Buffer>;
    /// A copy of `values` on the device.
    fn upload(&self, values: &[f32]) -> Done<Self::Buffer>;
    /// A copy of a buffer on the host.
    fn download(&self, buffer: &Self::Buffer) -> Done<Vec<f32>>;
    /// As [`Self::zeros`], for numbers that are used once a step, by the optimiser: a device may keep them elsewhere. No other
    /// operation takes them but [`Self::download`] and [`Self::len`].
    fn zeros_at_rest(&self, len: usize) -> Done<Self::Buffer> {
        self.zeros(len)
    }
    /// As [`Self::upload`], for such numbers.
    fn upload_at_rest(&self, values: &[f32]) -> Done<Self::Buffer> {
        self.upload(values)
    }
    /// As [`Self::upload`], for weights that are not trained: a device may hold them in fewer bytes, as long as every
    /// operation that reads a weight or rows of a table gives the same bits. No operation writes them.
    fn upload_frozen(&self, values: &[f32]) -> Done<Self::Buffer> {
        self.upload(values)
    }
    /// As [`Self::scratch`], for weights that are not trained and whose numbers bf16 holds, to plan with.
    fn scratch_frozen(&self, len: usize) -> Done<Self::Buffer> {
        self.scratch(len)
    }
    /// Numbers in a buffer.
    fn len(&self, buffer: &Self::Buffer) -> usize;

    // --- numbers that rest between their uses

    /// Says that numbers are not used for a while: a device may put them elsewhere. Until they are fetched, no operation takes
    /// them but [`Self::len`], [`Self::download`] and, where they are gradients, [`Self::sum_of_squares`] and the optimiser.
    fn put_away(&self, _kind: Resting, _buffer: &mut Self::Buffer) -> Done {
        Ok(())
    }
    /// Says that numbers which may have been put away are fetched soon: they begin to come back.
    fn send_for(&self, _buffer: &mut Self::Buffer) -> Done {
        Ok(())
    }
    /// Numbers that may have been put away can be used again.
    fn fetch(&self, _buffer: &mut Self::Buffer) -> Done {
        Ok(())
    }

    // --- several devices as one

    /// Devices that help this one with its steps, see [`crate::team`]; each is used by a thread of its own.
    fn others(&self) -> &[Self]
    where
        Self: Sized,
    {
        &[]
    }
    /// Whether it decides no bit how the packs of a step are joined into batches, as in the class exact.
    fn joins_freely(&self) -> bool {
        true
    }
    /// A parcel for `len` numbers.
    fn parcel(&self, len: usize) -> Done<Self::Parcel>;
    /// Puts numbers into a parcel, behind everything that was to be done with either before. This may return before it is
    /// done: the buffer has to stay as it is until the parcel's numbers are used elsewhere, or this device has settled.
    fn pack(&self, from: &Self::Buffer, parcel: &mut Self::Parcel) -> Done;
    /// Starts the copy of a parcel's numbers, whichever device they are from, to this device. Before [`Self::arrived`] the
    /// buffer is not to be used.
    fn unpack(&self, parcel: &mut Self::Parcel, into: &mut Self::Buffer) -> Done;
    /// What is asked of this device from here on comes after the parcel's last [`Self::unpack`], which has to have been its.
    fn arrived(&self, parcel: &Self::Parcel) -> Done;
    /// Waits until the device has done everything that it was asked.
    fn settle(&self) -> Done {
        Ok(())
    }

    // --- linear maps

    /// `y [n, out] = x [n, in] * weight [out, in]^T`, then `+ bias [out]`, then `+ residual [n, out]`.
    fn linear(
        &self,
        shape: LinearShape,
        x: &Self::Buffer,
        weight: &Self::Buffer,
        bias: Option<&Self::Buffer>,
        residual: Option<&Self::Buffer>,
        y: &mut Self::Buffer,
    ) -> Done;

    /// `dx [n, in] = dy [n, out] * weight [out, in]`; with [`Store::Add`] the chain of each element goes on from what
    /// stands there.
    fn linear_backward_input(
        &self,
        shape: LinearShape,
        dy: &Self::Buffer,
        weight: &Self::Buffer,
        into: Store,
        dx: &mut Self::Buffer,
    ) -> Done;

    /// `dweight [out, in] = dy^T * x`, a chain over the rows; with [`Store::Add`] it goes on from what stands there.
    fn linear_backward_weight(
        &self,
        shape: LinearShape,
        x: &Self::Buffer,
        dy: &Self::Buffer,
        into: Store,
        dweight: &mut Self::Buffer,
    ) -> Done;

    /// `dbias [out] +=` the column sums of `dy [n, out]`.
    fn linear_backward_bias(&self, dy: &Self::Buffer, dbias: &mut Self::Buffer) -> Done;

    // --- norms, over the last axis; `width` numbers a row

    /// `y = (x - mean) / sqrt(variance + eps) * weight + bias`.
    fn layer_norm(
        &self,
        width: usize,
        eps: f32,
        x: &Self::Buffer,
        weight: &Self::Buffer,
        bias: &Self::Buffer,
        y: &mut Self::Buffer,
    ) -> Done;

    /// Adds to `dx`. `parameters` are the gradients of weight and bias where they are trained.
    #[expect(
        clippy::too_many_arguments,
        reason = "a backward takes what its forward took, and the gradients"
    )]
    fn layer_norm_backward(
        &self,
        width: usize,
        eps: f32,
        x: &Self::Buffer,
        weight: &Self::Buffer,
        dy: &Self::Buffer,
        dx: &mut Self::Buffer,
        parameters: Option<(&mut Self::Buffer, &mut Self::Buffer)>,
    ) -> Done;

    /// `y = x / sqrt(mean(x^2) + eps) * weight`.
    fn rms_norm(
        &self,
        width: usize,
        eps: f32,
        x: &Self::Buffer,
        weight: &Self::Buffer,
        y: &mut Self::Buffer,
    ) -> Done;

    /// Adds to `dx`; `dweight` where it is trained.
    #[expect(
        clippy::too_many_arguments,
        reason = "a backward takes what its forward took, and the gradients"
    )]
    fn rms_norm_backward(
        &self,
        width: usize,
        eps: f32,
        x: &Self::Buffer,
        weight: &Self::Buffer,
        dy: &Self::Buffer,
        dx: &mut Self::Buffer,
        dweight: Option<&mut Self::Buffer>,
    ) -> Done;

    // --- rotary positions, half-split form: the pair of element `i` of a head is `i + d / 2`

    /// Turns every head of `x` by its row's angles; `turns [n, d]` holds `d / 2` cosines, then `d / 2` sines.
    fn rotate(
        &self,
        shape: HeadShape,
        turns: &Self::Buffer,
        turn: Turn,
        x: ColumnsMut<'_, Self::Buffer>,
    ) -> Done;

    /// Gradient of angles that are parameters: for every row of `rows` and every head, with turned values `y` and their
    /// gradient `dy`, `dangles[i] += dy[i + d/2] * y[i] - dy[i] * y[i + d/2]`, rows and heads in ascending order.
    fn angle_gradient(
        &self,
        shape: HeadShape,
        rows: &[u32],
        y: Columns<'_, Self::Buffer>,
        dy: Columns<'_, Self::Buffer>,
        dangles: &mut Self::Buffer,
    ) -> Done;

    /// RMSNorm over every head with one `weight [d]`, then the rotation: what Qwen3 does to queries and keys.
    fn norm_and_rotate(
        &self,
        shape: HeadShape,
        eps: f32,
        x: &Self::Buffer,
        weight: &Self::Buffer,
        turns: &Self::Buffer,
        y: &mut Self::Buffer,
    ) -> Done;

    /// Turns `dy` into the gradient of `x`, in place; `dweight` where it is trained.
    #[expect(
        clippy::too_many_arguments,
        reason = "a backward takes what its forward took, and the gradients"
    )]
    fn norm_and_rotate_backward(
        &self,
        shape: HeadShape,
        eps: f32,
        x: &Self::Buffer,
        weight: &Self::Buffer,
        turns: &Self::Buffer,
        dy: &mut Self::Buffer,
        dweight: Option<&mut Self::Buffer>,
    ) -> Done;

    // --- attention

    /// `y [n, heads * d] = softmax(q k^T / sqrt(d)) v` inside every segment. `statistics [n, heads, 2]` keeps each row's
    /// largest scaled score and one over its sum of exponentials, for the backward.
    fn attention(
        &self,
        attention: Attention<'_>,
        qkv: Qkv<Columns<'_, Self::Buffer>>,
        y: &mut Self::Buffer,
        statistics: &mut Self::Buffer,
    ) -> Done;

    /// Gradients of queries, keys and values; all replaced.
    fn attention_backward(
        &self,
        attention: Attention<'_>,
        qkv: Qkv<Columns<'_, Self::Buffer>>,
        y: &Self::Buffer,
        statistics: &Self::Buffer,
        dy: &Self::Buffer,
        gradients: Qkv<ColumnsMut<'_, Self::Buffer>>,
    ) -> Done;

    // --- activations, elementwise

    /// `y = x * Phi(x)`, the exact GELU.
    fn gelu(&self, x: &Self::Buffer, y: &mut Self::Buffer) -> Done;
    /// Turns `dy` into the gradient of `x`, in place.
    fn gelu_backward(&self, x: &Self::Buffer, dy: &mut Self::Buffer) -> Done;
    /// `y = silu(gate) * up`.
    fn swiglu(&self, gate: &Self::Buffer, up: &Self::Buffer, y: &mut Self::Buffer) -> Done;
    /// Turns `gate` and `up` into their gradients, in place.
    fn swiglu_backward(&self, gate: &mut Self::Buffer, up: &mut Self::Buffer, dy: &Self::Buffer) -> Done;

    // --- rows of tables

    /// `to[to_rows[i]] = from[from_rows[i]]` for every `i`; no row is written twice. Rows have `width` numbers.
    fn copy_rows(
        &self,
        width: usize,
        from: &Self::Buffer,
        from_rows: &[u32],
        to: &mut Self::Buffer,
        to_rows: &[u32],
    ) -> Done;

    /// `to[to_rows[i]] += from[from_rows[i]]`, in ascending order of `i` for every row that is written.
    fn add_rows(
        &self,
        width: usize,
        from: &Self::Buffer,
        from_rows: &[u32],
        to: &mut Self::Buffer,
        to_rows: &[u32],
    ) -> Done;

    /// `y += x`, elementwise.
    fn add(&self, x: &Self::Buffer, y: &mut Self::Buffer) -> Done;

    // --- loss

    /// Head and loss together, in parts of a few rows, so that `n x V` logits never exist: the negative log-likelihood
    /// in nats of every row's target under `softmax(hidden [n, w] * weight [V, w]^T)`, and the gradients of the sum of
    /// `scales[i] * losses[i]`.
    fn cross_entropy(
        &self,
        shape: LinearShape,
        hidden: &Self::Buffer,
        weight: &Self::Buffer,
        targets: Targets<'_>,
        gradients: Option<HeadGradients<'_, Self::Buffer>>,
    ) -> Done<Vec<f32>>;

    // --- optimiser

    /// Sum of squares in f64: every 65,536 numbers in sixteen lanes which are added in order, the parts in order.
    fn sum_of_squares(&self, x: &Self::Buffer) -> Done<f64>;

    /// One AdamW step in place: `g = factor * gradient`, `m = beta1 m + (1 - beta1) g`, `v = beta2 v + (1 - beta2) g g`,
    /// `parameter = parameter * keep - step_size * (m / (sqrt(v) / root_correction + epsilon))`, nothing fused.
    ///
    /// `keep` is one minus learning rate times weight decay for parameters that decay, and one for the others.
    fn adamw(
        &self,
        step: AdamWStep,
        keep: f32,
        gradient: &Self::Buffer,
        first: &mut Self::Buffer,
        second: &mut Self::Buffer,
        parameter: &mut Self::Buffer,
    ) -> Done;

    /// The same with moments in eight bits, as [`crate::moments::eight_bit`] packs them; they are made numbers, moved, and
    /// packed again. The step is held to `most`: `m / (sqrt(v) / root_correction + epsilon)` counts as at least `-most` and at
    /// most `most`.
    #[expect(clippy::too_many_arguments, reason = "as for numbers, and the bound")]
    fn adamw_eight_bit(
        &self,
        step: AdamWStep,
        keep: f32,
        most: f32,
        gradient: &Self::Buffer,
        first: &mut Self::Buffer,
        second: &mut Self::Buffer,
        parameter: &mut Self::Buffer,
    ) -> Done;
}
