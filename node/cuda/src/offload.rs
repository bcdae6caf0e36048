//! Moments of the optimiser in the host's memory: they come to the device slice by slice while it moves parameters, and go
//! back while the next slice comes.
//!
//! ```text
//! to the device   in 0   in 1   in 2   in 3*  ...            * waits until slice 0 has left the same slot
//! kernels                move 0 move 1 move 2 ...
//! to the host                   out 0  out 1  out 2 ...
//! ```
//! There are three slots, so that all three lanes work at the same time. A slot's use waits for its last one; and what is read
//! from the host waits until it has arrived there, since a small model's next step begins before the last one's copies end.
//! Numbers are the same wherever they are kept: this is a choice of whoever lends the GPU, not of a run.
//!
//! **It has not run on a GPU yet**: tests play what is asked of a device in many orders that its events allow.

use std::sync::{Arc, Mutex, PoisonError};

use talkoot_trainer::{backend::Done, plan::SLOTS};

use crate::{
    buffer::{Lent, Pool},
    cuda::launch::during,
    device::{Argument, Device, DeviceError, Lane},
};

/// Bytes of a word: an f32, or a scale, or four codes.
const WORD: usize = 4;

/// Where slices come and go.
#[derive(Debug)]
pub(crate) struct Offload<D: Device> {
    slots: Vec<Slot<D>>,
    /// Words of each moment that a slot has room for.
    words: usize,
    /// Slices so far. Whoever holds it is asking for a step.
    slices: Mutex<u64>,
}

/// Room on the device for a slice of both moments, and what happened to it last.
#[derive(Debug)]
struct Slot<D: Device> {
    memory: Lent<D>,
    arrived: D::Event,
    moved: D::Event,
    left: D::Event,
}

/// Moments in the host's memory.
#[derive(Debug)]
pub(crate) struct Hosted<D: Device> {
    pub(crate) pinned: D::Pinned,
    /// The last slice of which part of these was; none when nothing was copied to them yet.
    last: Option<u64>,
}

impl<D: Device> Hosted<D> {
    pub(crate) fn new(pinned: D::Pinned) -> Self {
        Self { pinned, last: None }
    }
}

impl<D: Device> Offload<D> {
    /// Takes the slots' memory, each for `words` words of both moments.
    pub(crate) fn new(pool: &Arc<Pool<D>>, words: usize) -> Result<Self, DeviceError> {
        let device = pool.device();
        let slot = || {
            Ok(Slot {
                memory: pool.take(2 * words * WORD)?,
                arrived: device.event()?,
                moved: device.event()?,
                left: device.event()?,
            })
        };
        let slots = (0..SLOTS).map(|_| slot()).collect::<Result<_, DeviceError>>()?;
        // kernels that used this memory before are done: copies do not wait for them
        device.synchronise()?;
        Ok(Self { slots, words, slices: Mutex::new(0) })
    }

    /// Words of each moment that a slice may have.
    pub(crate) fn words(&self) -> usize {
        self.words
    }

    /// Goes through `words` words of both moments in slices of at most `each` words. `launch` starts the kernel that moves
    /// a slice: where both moments are on the device, the word that it begins at, and how many it has.
    pub(crate) fn step(
        &self,
        device: &D,
        operation: &'static str,
        [first, second]: [&mut Hosted<D>; 2],
        words: usize,
        each: usize,
        launch: impl Fn([Argument<'_, D::Memory>; 2], usize, usize) -> Done,
    ) -> Done {
        assert!((1..=self.words).contains(&each), "a slice of {each} words");
        let failed = during(operation);
        let second_at = self.words * WORD;
        let mut slices = self.slices.lock().unwrap_or_else(PoisonError::into_inner);
        let (slots, begun) = (self.slots.len() as u64, *slices);
        let slot_of = |slice: u64| &self.slots[(slice % slots) as usize];
        for start in (0..words).step_by(each) {
            let (count, slice) = (each.min(words - start), *slices);
            let (bytes, at) = (count * WORD, start * WORD);
            let Slot { memory, arrived, moved, left } = slot_of(slice);
            if slice >= slots {
                device.wait(Lane::ToDevice, left).map_err(&failed)?;
            }
            if slice == begun {
                // what left before the slot's last use has arrived with it
                for last in
                    [first.last, second.last].into_iter().flatten().filter(|last| last + slots > slice)
                {
                    device.wait(Lane::ToDevice, &slot_of(last).left).map_err(&failed)?;
                }
            }
            device.copy_to_device(&first.pinned, at, memory.memory(), 0, bytes).map_err(&failed)?;
            device.copy_to_device(&second.pinned, at, memory.memory(), second_at, bytes).map_err(&failed)?;
            device.record(arrived, Lane::ToDevice).map_err(&failed)?;
            device.wait(Lane::Kernels, arrived).map_err(&failed)?;
            let moments = [0, second_at].map(|at| Argument::Memory(memory.memory(), at));
            launch(moments, start, count)?;
            device.record(moved, Lane::Kernels).map_err(&failed)?;
            device.wait(Lane::ToHost, moved).map_err(&failed)?;
            device.copy_to_host(memory.memory(), 0, &first.pinned, at, bytes).map_err(&failed)?;
            device.copy_to_host(memory.memory(), second_at, &second.pinned, at, bytes).map_err(&failed)?;
            device.record(left, Lane::ToHost).map_err(&failed)?;
            (first.last, second.last) = (Some(slice), Some(slice));
            *slices += 1;
        }
        Ok(())
    }
}
