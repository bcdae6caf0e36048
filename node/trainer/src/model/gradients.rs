//! Gradients of the trained parameters, where every operation adds its part.

use std::{
    collections::BTreeMap,
    ops::{Bound, Range},
    sync::Arc,
};

use super::{
    EMBEDDING, HEAD, ModelError,
    relay::{Board, Relay, Turns},
};
use crate::{
    backend::{Backend, Done, Resting, Store},
    config::ModelConfig,
    modules::Module,
};

/// Gradients by name; parameters without an entry are frozen.
///
/// A buffer comes into being when its first part arrives. A product writes that part over whatever the buffer held,
/// since a chain that begins at zero is the same as one that goes on from a zero; for other operations it is cleared.
///
/// Two gradients are gathered from several places of the model. So that their sums do not depend on how a step's packs
/// are joined into batches, each place has a buffer of its own until [`Self::finish`]: the class token's angles two per
/// block, for queries and keys, and a tied embedding one as head and one as table.
///
/// As backward leaves a block, its gradients may rest elsewhere until the next batch comes to it, or the optimiser: the model
/// says so by `put_away`, and a gradient that is asked for is fetched. A sum goes on from what was put away, so that
/// no bit depends on it.
///
/// Where several devices add to them, each has such gradients of its own, and what stands in a buffer is right for it from when
/// it is asked for until the next is: see `relay`. Then nothing rests elsewhere: it goes from device to device.
#[derive(Debug)]
pub struct Gradients<B: Backend> {
    places: BTreeMap<String, usize>,
    /// Of the parameters, then those of angles and head that are gathered apart.
    slots: Vec<Slot<B>>,
    /// Of a frozen partner in a pair: computed and thrown away.
    spare: Option<B::Buffer>,
    angles: Range<usize>,
    tied_head: Option<usize>,
    /// Where several devices add to them.
    relay: Option<Relay<B>>,
}

/// Where one gradient goes.
#[derive(Debug)]
pub(super) struct Slot<B: Backend> {
    len: usize,
    /// None before the first part.
    buffer: Option<B::Buffer>,
    /// Memory for it that was taken before anything came.
    room: Option<B::Buffer>,
}

impl<B: Backend> Slot<B> {
    fn new(len: usize) -> Self {
        Self { len, buffer: None, room: None }
    }

    /// What is there so far: zeros, if nothing.
    fn sum(&mut self, backend: &B) -> Done<&mut B::Buffer> {
        match &mut self.buffer {
            Some(buffer) => {
                backend.fetch(buffer)?;
                Ok(buffer)
            }
            empty => {
                self.room = None;
                Ok(empty.insert(backend.zeros(self.len)?))
            }
        }
    }

    /// The buffer, and how a product meets what stands in it.
    fn product(&mut self, backend: &B) -> Done<Product<'_, B>> {
        let store = if self.buffer.is_some() { Store::Add } else { Store::Replace };
        Ok((store, self.begun(backend)?))
    }

    /// The buffer with what is there so far, or of any value, to be written.
    pub(super) fn begun(&mut self, backend: &B) -> Done<&mut B::Buffer> {
        match &mut self.buffer {
            Some(buffer) => {
                backend.fetch(buffer)?;
                Ok(buffer)
            }
            empty => {
                let room = self.room.take().map_or_else(|| backend.scratch(self.len), Ok)?;
                Ok(empty.insert(room))
            }
        }
    }

    /// Nothing is added for a while.
    fn put_away(&mut self, backend: &B) -> Done {
        self.buffer.as_mut().map_or(Ok(()), |buffer| backend.put_away(Resting::Gradient, buffer))
    }

    /// What is there so far; none, if nothing.
    pub(super) fn numbers(&self) -> Option<&B::Buffer> {
        self.buffer.as_ref()
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }
}

/// Where a product's gradient goes, and how.
pub(super) type Product<'a, B> = (Store, &'a mut <B as Backend>::Buffer);

/// Gradients of a weight and its bias; none when both are frozen.
pub(super) type Pair<'a, B> = Option<(&'a mut <B as Backend>::Buffer, &'a mut <B as Backend>::Buffer)>;

/// Name of the class token's angles.
pub(super) const ANGLES: &str = "visual.class_pos_emb";

impl<B: Backend> Gradients<B> {
    pub(super) fn new(config: &ModelConfig, trainable: &[String]) -> Result<Self, ModelError> {
        let shapes = config.parameter_shapes();
        let mut gradients = Self {
            places: BTreeMap::new(),
            slots: Vec::new(),
            spare: None,
            angles: 0..0,
            tied_head: None,
            relay: None,
        };
        for name in trainable {
            let shape =
                shapes.get(name).ok_or_else(|| ModelError::UnknownParameter { name: name.clone() })?;
            if gradients.places.insert(name.clone(), gradients.slots.len()).is_none() {
                gradients.slots.push(Slot::new(shape.iter().product()));
            }
        }
        if gradients.places.contains_key(ANGLES) {
            let (first, half) = (gradients.slots.len(), config.vision.head_dim() / 2);
            gradients.slots.extend((0..2 * config.vision.depth).map(|_| Slot::new(half)));
            gradients.angles = first..gradients.slots.len();
        }
        if config.text.tie_word_embeddings && gradients.places.contains_key(EMBEDDING) {
            gradients.tied_head = Some(gradients.slots.len());
            gradients.slots.push(Slot::new(config.text.vocab_size * config.text.hidden_size));
        }
        Ok(gradients)
    }

    /// The same with memory for all of them taken now: when parts come from other devices decides nothing about where they are
    /// put, so that what a step takes is known before it.
    pub(crate) fn reserved(mut self, backend: &B) -> Result<Self, ModelError> {
        for slot in &mut self.slots {
            slot.room = Some(backend.scratch(slot.len)?);
        }
        Ok(self)
    }

    /// Gradients on a board, those that are gathered apart among them.
    pub(crate) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// From here on other devices add to them too.
    pub(crate) fn join(&mut self, board: Arc<Board<B::Parcel>>, turns: Turns) {
        self.relay = Some(Relay::new(board, turns, self.slots.len()));
    }

    /// Ends a batch of several devices' step.
    pub(crate) fn end_of_batch(&mut self, backend: &B) -> Done {
        match &mut self.relay {
            Some(relay) => relay.end_of_batch(backend, &mut self.slots),
            None => Ok(()),
        }
    }

    /// From here on no other device adds to them.
    pub(crate) fn leave(&mut self) {
        self.relay = None;
    }

    /// Waits until other devices have added to these what comes before this batch.
    fn ready(&mut self, backend: &B, wanted: &[usize]) -> Done {
        match &mut self.relay {
            Some(relay) => relay.ready(backend, &mut self.slots, wanted),
            None => Ok(()),
        }
    }

    /// Puts together what was gathered apart, and zeros where nothing came; to be called once, behind the last batch of a
    /// step.
    ///
    /// # Errors
    ///
    /// [`ModelError::Backend`] when the device fails.
    pub fn finish(&mut self, backend: &B) -> Result<(), ModelError> {
        let head = self.tied_head.take().and_then(|_| self.slots.pop()).and_then(|head| head.buffer);
        for part in self.slots.split_off(self.places.len()) {
            if let (Some(part), Some(total)) = (part.buffer, self.sum(backend, ANGLES)?) {
                backend.add(&part, total)?;
            }
        }
        self.angles = 0..0;
        if let Some(mut head) = head
            && let Some(total) = self.sum(backend, EMBEDDING)?
        {
            backend.fetch(&mut head)?;
            backend.add(&head, total)?;
        }
        for slot in &mut self.slots {
            if slot.buffer.is_none() {
                slot.sum(backend)?;
            }
            slot.put_away(backend)?;
        }
        Ok(())
    }

    /// Names and gradients in canonical order, once they are finished; before that, those that have come.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &B::Buffer)> {
        let found =
            self.places.iter().map(|(name, &place)| (name.as_str(), self.slots[place].buffer.as_ref()));
        found.filter_map(|(name, buffer)| Some((name, buffer?)))
    }

    /// Whether a parameter is trained.
    pub(super) fn wants(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// The gradient of a parameter so far; none when it is frozen.
    pub(super) fn sum(&mut self, backend: &B, name: &str) -> Done<Option<&mut B::Buffer>> {
        let Some(&place) = self.places.get(name) else { return Ok(None) };
        self.ready(backend, &[place])?;
        self.slots[place].sum(backend).map(Some)
    }

    /// Where the gradient of a linear map's weight goes; none when it is frozen.
    pub(super) fn product(&mut self, backend: &B, name: &str) -> Done<Option<Product<'_, B>>> {
        let Some(&place) = self.places.get(name) else { return Ok(None) };
        self.ready(backend, &[place])?;
        self.slots[place].product(backend).map(Some)
    }

    /// Gradients of a norm's weight and its bias, both so wide.
    pub(super) fn pair(&mut self, backend: &B, weight: &str, bias: &str, width: usize) -> Done<Pair<'_, B>> {
        let places = (self.places.get(weight).copied(), self.places.get(bias).copied());
        let wanted: Vec<usize> = [places.0, places.1].into_iter().flatten().collect();
        self.ready(backend, &wanted)?;
        Ok(match places {
            (None, None) => None,
            (Some(weight), Some(bias)) => {
                let slots = self.slots.get_disjoint_mut([weight, bias]);
                let [weight, bias] = slots.expect("two parameters have two places");
                Some((weight.sum(backend)?, bias.sum(backend)?))
            }
            (Some(weight), None) => {
                let spare = self.spare.insert(backend.zeros(width)?);
                Some((self.slots[weight].sum(backend)?, spare))
            }
            (None, Some(bias)) => {
                let spare = self.spare.insert(backend.zeros(width)?);
                Some((spare, self.slots[bias].sum(backend)?))
            }
        })
    }

    /// Where the head's gradient goes.
    pub(super) fn head(&mut self, backend: &B) -> Done<Option<Product<'_, B>>> {
        let Some(head) = self.tied_head else { return self.product(backend, HEAD) };
        self.ready(backend, &[head])?;
        self.slots[head].product(backend).map(Some)
    }

    /// Where the gradients of the class token's angles in a block go: of its queries, and of its keys.
    pub(super) fn angles(&mut self, backend: &B, block: usize) -> Done<Option<[&mut B::Buffer; 2]>> {
        let queries = self.angles.start + 2 * block;
        if queries + 1 >= self.angles.end {
            return Ok(None);
        }
        self.ready(backend, &[queries, queries + 1])?;
        match &mut self.slots[queries..] {
            [queries, keys, ..] => Ok(Some([queries.sum(backend)?, keys.sum(backend)?])),
            _ => Ok(None),
        }
    }

    /// Says that nothing is added for a while to the gradients of parameters whose names begin so: they may rest elsewhere.
    pub(super) fn put_away(&mut self, backend: &B, prefix: &str) -> Done {
        if self.stays() {
            return Ok(());
        }
        self.of(prefix).into_iter().try_for_each(|place| self.slots[place].put_away(backend))
    }

    /// The same of the head's.
    pub(super) fn put_away_head(&mut self, backend: &B) -> Done {
        match self.tied_head {
            Some(head) if !self.stays() => self.slots[head].put_away(backend),
            Some(_) => Ok(()),
            None => self.put_away(backend, HEAD),
        }
    }

    /// Says that something is added soon to the gradients of parameters whose names begin so.
    pub(super) fn send_for(&mut self, backend: &B, prefix: &str) -> Done {
        if self.stays() {
            return Ok(());
        }
        for place in self.of(prefix) {
            if let Some(buffer) = &mut self.slots[place].buffer {
                backend.send_for(buffer)?;
            }
        }
        Ok(())
    }

    /// Whether they stay where they are, as other devices are about to get them.
    const fn stays(&self) -> bool {
        self.relay.is_some()
    }

    /// Places of parameters whose names begin so.
    fn of(&self, prefix: &str) -> Vec<usize> {
        let from = self.places.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        from.take_while(|(name, _)| name.starts_with(prefix)).map(|(_, &place)| place).collect()
    }

    fn trains(&self, module: Module) -> bool {
        self.places.keys().any(|name| Module::of(name) == module)
    }

    /// Whether anything of the vision tower is trained.
    pub(super) fn trains_tower(&self) -> bool {
        self.trains(Module::Vision)
    }

    /// Whether anything of the merger is trained.
    pub(super) fn trains_merger(&self) -> bool {
        self.trains(Module::Merger)
    }

    /// Whether anything in front of the final norm is trained, so that gradients go through the layers.
    pub(super) fn trains_below_head(&self) -> bool {
        self.places.keys().any(|name| name != HEAD && name != "model.norm.weight")
    }
}
