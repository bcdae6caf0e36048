//! Gradients that several devices add to, one after the other and always in the order of the step's batches.
//!
//! ```text
//!            device 1, batch 0                    device 0, batch 1
//! head       add -> parcel on the board ->        unpack, add
//! block 1    add -> parcel on the board ->        unpack, add            each a gradient behind
//! block 0    add -> parcel on the board ->        unpack, add
//! ```
//! An element of a gradient is one chain of operations over all rows of a step, so a device goes on from what the batch
//! before left behind: parts that are computed apart and added would be other bits. What does not touch a gradient of a
//! parameter (forward, and the way of gradients down through the layers) waits for nobody.
//!
//! The [`Board`] says of every gradient how many batches are in it, and holds its parcel while no device has it. Whoever
//! does batch `b` takes it when `b` batches are in it, adds, and puts it back for batch `b + 1`. A gradient that a batch has
//! no part in is passed on as it is. The last batch's device keeps the numbers.

use std::{
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use super::gradients::Slot;
use crate::backend::{Backend, BackendError, Done};

/// Where gradients are between two devices. `P` is what carries the numbers of one.
#[derive(Debug)]
pub(crate) struct Board<P> {
    state: Mutex<State<P>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<P> {
    gradients: Vec<Entry<P>>,
    given_up: bool,
}

/// A gradient on the board.
#[derive(Debug)]
struct Entry<P> {
    /// Batches that are done with it.
    batches: usize,
    carried: Carried<P>,
}

/// A gradient on its way.
#[derive(Debug)]
pub(super) struct Carried<P> {
    /// Whether any batch had a part in it; if not, it is zero and nothing is in the parcel.
    begun: bool,
    /// None before it was first needed.
    parcel: Option<P>,
}

impl<P> Board<P> {
    /// A board at the beginning of a step, with the parcels of an earlier one where there are some.
    pub(crate) fn new(parcels: Vec<Option<P>>) -> Self {
        let entry = |parcel| Entry { batches: 0, carried: Carried { begun: false, parcel } };
        let gradients = parcels.into_iter().map(entry).collect();
        Self { state: Mutex::new(State { gradients, given_up: false }), changed: Condvar::new() }
    }

    /// The parcels, when nobody works with them any more.
    pub(crate) fn into_parcels(self) -> Vec<Option<P>> {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        state.gradients.into_iter().map(|entry| entry.carried.parcel).collect()
    }

    /// A device has failed: whoever waits shall not.
    pub(crate) fn give_up(&self) {
        self.state().given_up = true;
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State<P>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The gradient `place` when so many batches are in it; none where that is not so yet.
    fn take_now(&self, place: usize, batches: usize) -> Option<Carried<P>> {
        take(&mut self.state(), place, batches)
    }

    /// The same, and waits for it.
    fn take(&self, place: usize, batches: usize) -> Done<Carried<P>> {
        let mut state = self.state();
        loop {
            if state.given_up {
                let reason = "another device that works on it failed".to_owned();
                return Err(BackendError::Device { operation: "a step of several devices", reason });
            }
            if let Some(carried) = take(&mut state, place, batches) {
                return Ok(carried);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Puts a gradient back with one batch more.
    fn put(&self, place: usize, carried: Carried<P>) {
        let mut state = self.state();
        if let Some(entry) = state.gradients.get_mut(place) {
            entry.batches += 1;
            entry.carried = carried;
        }
        drop(state);
        self.changed.notify_all();
    }
}

fn take<P>(state: &mut State<P>, place: usize, batches: usize) -> Option<Carried<P>> {
    let entry = state.gradients.get_mut(place).filter(|entry| entry.batches == batches)?;
    let Carried { begun, parcel } = &mut entry.carried;
    Some(Carried { begun: *begun, parcel: parcel.take() })
}

/// Which batches of a step a device does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Turns {
    /// The first one.
    pub(crate) first: usize,
    /// From one to the next.
    pub(crate) stride: usize,
    /// Batches of the step, of all devices.
    pub(crate) of: usize,
}

/// A device's part in a step of several.
#[derive(Debug)]
pub(super) struct Relay<B: Backend> {
    board: Arc<Board<B::Parcel>>,
    turns: Turns,
    /// The batch under way.
    batch: usize,
    /// Of every gradient, where it is during this batch.
    places: Vec<Place<B::Parcel>>,
    /// Gradients that this batch's kernels were just handed.
    open: Vec<usize>,
}

/// Where a gradient is, as a device sees it.
#[derive(Debug)]
enum Place<P> {
    /// On the board, or with a batch before this one.
    Before,
    /// On the device, or on its way there.
    Here(Carried<P>),
    /// This batch is done with it.
    Behind,
}

impl<B: Backend> Relay<B> {
    pub(super) fn new(board: Arc<Board<B::Parcel>>, turns: Turns, gradients: usize) -> Self {
        let places = (0..gradients).map(|_| Place::Before).collect();
        Self { board, turns, batch: turns.first, places, open: Vec::new() }
    }

    /// Waits until the gradients `wanted` hold all batches before this one, so that kernels may add to them.
    ///
    /// What was handed out before goes to the next device: its kernels are under way. What else has come for this device
    /// begins to be copied to it.
    pub(super) fn ready(&mut self, backend: &B, slots: &mut [Slot<B>], wanted: &[usize]) -> Done {
        self.hand_on(backend, slots)?;
        for place in 0..self.places.len() {
            if matches!(self.places[place], Place::Before)
                && let Some(carried) = self.board.take_now(place, self.batch)
            {
                self.fetch(backend, slots, place, carried)?;
            }
        }
        for &place in wanted {
            self.arrive(backend, slots, place)?;
        }
        self.open.extend(wanted);
        Ok(())
    }

    /// Ends a batch: what it had no part in is passed on. What ends the step stays on this device.
    pub(super) fn end_of_batch(&mut self, backend: &B, slots: &mut [Slot<B>]) -> Done {
        self.hand_on(backend, slots)?;
        for place in 0..self.places.len() {
            if matches!(self.places[place], Place::Behind) {
                continue;
            }
            if self.is_last() {
                self.arrive(backend, slots, place)?;
            }
            let carried = match mem::replace(&mut self.places[place], Place::Behind) {
                Place::Here(carried) => carried,
                _ => self.board.take(place, self.batch)?,
            };
            self.board.put(place, carried);
        }
        self.batch += self.turns.stride;
        self.places.iter_mut().for_each(|place| *place = Place::Before);
        Ok(())
    }

    fn is_last(&self) -> bool {
        self.batch + 1 == self.turns.of
    }

    /// Starts the copy of a gradient to this device.
    fn fetch(
        &mut self,
        backend: &B,
        slots: &mut [Slot<B>],
        place: usize,
        mut carried: Carried<B::Parcel>,
    ) -> Done {
        if let (true, Some(parcel)) = (carried.begun, &mut carried.parcel) {
            backend.unpack(parcel, slots[place].begun(backend)?)?;
        }
        self.places[place] = Place::Here(carried);
        Ok(())
    }

    /// What comes next on this device finds the gradient there.
    ///
    /// # Panics
    ///
    /// When a batch adds to a gradient twice: then its parts would have to be gathered apart, as those of a tied head are.
    fn arrive(&mut self, backend: &B, slots: &mut [Slot<B>], place: usize) -> Done {
        if matches!(self.places[place], Place::Before) {
            let carried = self.board.take(place, self.batch)?;
            self.fetch(backend, slots, place, carried)?;
        }
        match &self.places[place] {
            Place::Here(Carried { begun: true, parcel: Some(parcel) }) => backend.arrived(parcel),
            Place::Here(_) => Ok(()),
            Place::Before | Place::Behind => panic!("a batch adds to a gradient once"),
        }
    }

    /// Hands what kernels were given on to the next batch, or keeps it where this is the last.
    fn hand_on(&mut self, backend: &B, slots: &[Slot<B>]) -> Done {
        for place in mem::take(&mut self.open) {
            let Place::Here(Carried { mut parcel, .. }) =
                mem::replace(&mut self.places[place], Place::Behind)
            else {
                unreachable!("what is open is here");
            };
            let slot = &slots[place];
            if let Some(numbers) = slot.numbers().filter(|_| !self.is_last()) {
                let into = match &mut parcel {
                    Some(parcel) => parcel,
                    none => none.insert(backend.parcel(slot.len())?),
                };
                backend.pack(numbers, into)?;
            }
            self.board.put(place, Carried { begun: slot.numbers().is_some(), parcel });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gradient_goes_to_the_next_batch_and_to_no_other() {
        let board: Board<&str> = Board::new(vec![Some("parcel"), None]);
        assert!(board.take_now(0, 1).is_none(), "batch 0 comes first");
        let carried = board.take_now(0, 0).unwrap();
        assert!(!carried.begun);
        board.put(0, Carried { begun: true, ..carried });
        assert!(board.take_now(0, 0).is_none() && board.take_now(0, 2).is_none());
        assert!(board.take(0, 1).unwrap().begun);
        assert!(board.take_now(1, 0).is_some(), "each has a count of its own");
    }

    #[test]
    fn whoever_waits_is_woken_by_what_comes_and_by_a_failure() {
        let board: Board<()> = Board::new(vec![None]);
        std::thread::scope(|scope| {
            let second = scope.spawn(|| board.take(0, 1).map(|carried| carried.begun));
            let carried = board.take(0, 0).unwrap();
            board.put(0, Carried { begun: true, ..carried });
            assert!(second.join().unwrap().unwrap());
            let third = scope.spawn(|| board.take(0, 2).map(|_| ()));
            board.give_up();
            assert!(third.join().unwrap().unwrap_err().to_string().contains("another device"));
        });
    }
}
