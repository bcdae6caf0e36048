//! A device that computes nothing and remembers everything: which buffers a step takes, when it gives them back, and how
//! many operations it asks for.
//!
//! A plan that is made by running the model's own code cannot forget a buffer or keep one too long. What operations take
//! for themselves, inside, is a device's own affair and comes from its [`Rooms`].

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{rehearsal::Mark, rooms::Rooms};
use crate::backend::{
    AdamWStep, Attention, Backend, Columns, ColumnsMut, Done, HeadGradients, HeadShape, LinearShape, Qkv,
    Segment, Store, Targets, Turn,
};

/// What happened to memory, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// Buffer `id` of so many numbers came into being.
    Take(usize, u64),
    /// Buffer `id` is gone.
    Give(usize),
    /// An operation took so many numbers for itself and gave them back before it returned.
    Room(u64),
    /// The head's loss begins: what forward left for backward is all there.
    Head,
    /// The driver of the rehearsal says where it is.
    Mark(Mark),
}

/// Operations of matrix products and attention; a multiply-add counts two. What is done element by element is left out,
/// as is usual.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Operations {
    /// With attention's scores computed again in backward, as every device here does.
    pub(super) executed: u128,
    /// What the mathematics needs: a backward twice its forward.
    pub(super) model: u128,
}

/// What a rehearsal remembers.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) events: Vec<Event>,
    pub(super) operations: Operations,
    buffers: usize,
}

/// The device.
#[derive(Debug)]
pub(super) struct Dry {
    log: Arc<Mutex<Log>>,
    rooms: Rooms,
}

/// A length, and its entry in the log.
pub(super) struct Length {
    id: usize,
    len: usize,
    log: Arc<Mutex<Log>>,
}

impl Drop for Length {
    fn drop(&mut self) {
        open(&self.log).events.push(Event::Give(self.id));
    }
}

impl fmt::Debug for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} numbers", self.len)
    }
}

fn open(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Dry {
    pub(super) fn new(rooms: Rooms) -> Self {
        Self { log: Arc::default(), rooms }
    }

    pub(super) fn mark(&self, mark: Mark) {
        open(&self.log).events.push(Event::Mark(mark));
    }

    /// Operations since the last call.
    pub(super) fn count(&self) -> Operations {
        std::mem::take(&mut open(&self.log).operations)
    }

    /// What was remembered.
    pub(super) fn events(&self) -> Vec<Event> {
        open(&self.log).events.clone()
    }

    fn take(&self, len: usize) -> Length {
        let mut log = open(&self.log);
        let id = log.buffers;
        log.buffers += 1;
        log.events.push(Event::Take(id, len as u64));
        Length { id, len, log: self.log.clone() }
    }

    fn room(&self, numbers: usize) {
        if numbers > 0 {
            open(&self.log).events.push(Event::Room(numbers as u64));
        }
    }

    fn product(&self, LinearShape { rows, inputs, outputs }: LinearShape) {
        let each = 2 * rows as u128 * inputs as u128 * outputs as u128;
        self.counted(each, each);
    }

    fn counted(&self, executed: u128, model: u128) {
        let operations = &mut open(&self.log).operations;
        operations.executed += executed;
        operations.model += model;
    }
}

/// Pairs of a query and a key that it sees, over all heads, times the width of a head.
fn seen(attention: &Attention<'_>) -> u128 {
    let pairs = |segment: &Segment| {
        let (queries, keys) = (segment.queries.len() as u128, segment.keys.len() as u128);
        // the last query sees all keys, each one before it one less
        let hidden = if attention.causal { queries * queries.saturating_sub(1) / 2 } else { 0 };
        (queries * keys).saturating_sub(hidden)
    };
    let pairs: u128 = attention.segments.iter().map(pairs).sum();
    pairs * attention.heads as u128 * attention.width as u128
}

impl Backend for Dry {
    type Buffer = Length;
    type Parcel = ();

    fn scratch(&self, len: usize) -> Done<Length> {
        Ok(self.take(len))
    }

    fn zeros(&self, len: usize) -> Done<Length> {
        Ok(self.take(len))
    }

    fn upload(&self, values: &[f32]) -> Done<Length> {
        Ok(self.take(values.len()))
    }

    fn download(&self, buffer: &Length) -> Done<Vec<f32>> {
        Ok(vec![0.0; buffer.len])
    }

    fn len(&self, buffer: &Length) -> usize {
        buffer.len
    }

    fn parcel(&self, _: usize) -> Done {
        Ok(())
    }

    fn pack(&self, _: &Length, (): &mut ()) -> Done {
        Ok(())
    }

    fn unpack(&self, (): &mut (), _: &mut Length) -> Done {
        Ok(())
    }

    fn arrived(&self, (): &()) -> Done {
        Ok(())
    }

    fn linear(
        &self,
        shape: LinearShape,
        _: &Length,
        _: &Length,
        _: Option<&Length>,
        _: Option<&Length>,
        _: &mut Length,
    ) -> Done {
        self.product(shape);
        Ok(())
    }

    fn linear_backward_input(
        &self,
        shape: LinearShape,
        _: &Length,
        _: &Length,
        _: Store,
        _: &mut Length,
    ) -> Done {
        self.product(shape);
        Ok(())
    }

    fn linear_backward_weight(
        &self,
        shape: LinearShape,
        _: &Length,
        _: &Length,
        _: Store,
        _: &mut Length,
    ) -> Done {
        self.product(shape);
        Ok(())
    }

    fn linear_backward_bias(&self, _: &Length, _: &mut Length) -> Done {
        Ok(())
    }

    fn layer_norm(&self, _: usize, _: f32, _: &Length, _: &Length, _: &Length, _: &mut Length) -> Done {
        Ok(())
    }

    fn layer_norm_backward(
        &self,
        _: usize,
        _: f32,
        _: &Length,
        _: &Length,
        _: &Length,
        _: &mut Length,
        _: Option<(&mut Length, &mut Length)>,
    ) -> Done {
        Ok(())
    }

    fn rms_norm(&self, _: usize, _: f32, _: &Length, _: &Length, _: &mut Length) -> Done {
        Ok(())
    }

    fn rms_norm_backward(
        &self,
        _: usize,
        _: f32,
        _: &Length,
        _: &Length,
        _: &Length,
        _: &mut Length,
        _: Option<&mut Length>,
    ) -> Done {
        Ok(())
    }

    fn rotate(&self, _: HeadShape, _: &Length, _: Turn, _: ColumnsMut<'_, Length>) -> Done {
        Ok(())
    }

    fn angle_gradient(
        &self,
        _: HeadShape,
        _: &[u32],
        _: Columns<'_, Length>,
        _: Columns<'_, Length>,
        _: &mut Length,
    ) -> Done {
        Ok(())
    }

    fn norm_and_rotate(
        &self,
        _: HeadShape,
        _: f32,
        _: &Length,
        _: &Length,
        _: &Length,
        _: &mut Length,
    ) -> Done {
        Ok(())
    }

    fn norm_and_rotate_backward(
        &self,
        _: HeadShape,
        _: f32,
        _: &Length,
        _: &Length,
        _: &Length,
        _: &mut Length,
        _: Option<&mut Length>,
    ) -> Done {
        Ok(())
    }

    fn attention(
        &self,
        attention: Attention<'_>,
        _: Qkv<Columns<'_, Length>>,
        y: &mut Length,
        statistics: &mut Length,
    ) -> Done {
        // scores and mixed values: two products
        let each = 4 * seen(&attention);
        self.counted(each, each);
        self.room(self.rooms.attention(&attention, y.len + statistics.len));
        Ok(())
    }

    fn attention_backward(
        &self,
        attention: Attention<'_>,
        qkv: Qkv<Columns<'_, Length>>,
        y: &Length,
        _: &Length,
        _: &Length,
        _: Qkv<ColumnsMut<'_, Length>>,
    ) -> Done {
        // scores again, and the gradients of weights, queries, keys and values: five products, four of them needed
        let each = seen(&attention);
        self.counted(10 * each, 8 * each);
        let keys = 2 * qkv.k.buffer.len.min(y.len / attention.heads * attention.groups);
        self.room(self.rooms.attention_backward(&attention, y.len + keys));
        Ok(())
    }

    fn gelu(&self, _: &Length, _: &mut Length) -> Done {
        Ok(())
    }

    fn gelu_backward(&self, _: &Length, _: &mut Length) -> Done {
        Ok(())
    }

    fn swiglu(&self, _: &Length, _: &Length, _: &mut Length) -> Done {
        Ok(())
    }

    fn swiglu_backward(&self, _: &mut Length, _: &mut Length, _: &Length) -> Done {
        Ok(())
    }

    fn copy_rows(&self, _: usize, _: &Length, _: &[u32], _: &mut Length, _: &[u32]) -> Done {
        Ok(())
    }

    fn add_rows(&self, _: usize, _: &Length, _: &[u32], _: &mut Length, _: &[u32]) -> Done {
        Ok(())
    }

    fn add(&self, _: &Length, _: &mut Length) -> Done {
        Ok(())
    }

    fn cross_entropy(
        &self,
        shape: LinearShape,
        _: &Length,
        _: &Length,
        targets: Targets<'_>,
        gradients: Option<HeadGradients<'_, Length>>,
    ) -> Done<Vec<f32>> {
        open(&self.log).events.push(Event::Head);
        self.product(shape);
        if let Some(gradients) = &gradients {
            self.product(shape);
            if gradients.weight.is_some() {
                self.product(shape);
            }
        }
        self.room(self.rooms.head(shape));
        Ok(vec![0.0; targets.tokens.len()])
    }

    fn sum_of_squares(&self, _: &Length) -> Done<f64> {
        Ok(0.0)
    }

    fn adamw(
        &self,
        _: AdamWStep,
        _: f32,
        _: &Length,
        _: &mut Length,
        _: &mut Length,
        _: &mut Length,
    ) -> Done {
        Ok(())
    }

    fn adamw_eight_bit(
        &self,
        _: AdamWStep,
        _: f32,
        _: f32,
        _: &Length,
        _: &mut Length,
        _: &mut Length,
        _: &mut Length,
    ) -> Done {
        Ok(())
    }
}
