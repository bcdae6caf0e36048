//! Numbers of the optimiser in the host's memory: they come to the device slice by slice while it moves parameters, and moments
//! go back while the next slice comes.
//!
//! ```text
//! to the device   in 0   in 1   in 2   in 3*  ...            * waits until slice 0 has left the same slot
//! kernels                move 0 move 1 move 2 ...
//! to the host                   out 0  out 1  out 2 ...
//! ```
//! There are three slots, so that all three lanes work at the same time. A slot's use waits for its last one; and what is read
//! from the host waits until it has arrived there: moments, since a small model's next step begins before the last one's copies
//! end, and gradients, which [`rest`](crate::rest) puts there. Numbers are the same wherever they are kept: this is a choice
//! of whoever lends the GPU, not of a run.
//!
//! **It has not run on a GPU yet**: tests play what is asked of a device in many orders that its events allow.

use std::sync::{Arc, Mutex, PoisonError};

use talkoot_trainer::{backend::Done, plan::SLOTS};

use crate::{
    buffer::{Lent, Pool},
    cuda::launch::during,
    device::{Device, DeviceError, Lane},
    rest::Away,
};

/// Where slices come and go.
#[derive(Debug)]
pub(crate) struct Offload<D: Device> {
    slots: Vec<Slot<D>>,
    /// Bytes of a slot.
    bytes: usize,
    /// Slices so far. Whoever holds it is asking for a step.
    slices: Mutex<u64>,
}

/// Room on the device for a slice, and what happened to it last.
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

/// Numbers that come slice by slice.
#[derive(Debug)]
pub(crate) struct Visitor<'a, D: Device> {
    who: Who<'a, D>,
    /// Bytes of a block; the last may be shorter.
    block: usize,
    /// Bytes of all.
    bytes: usize,
}

#[derive(Debug)]
enum Who<'a, D: Device> {
    /// They go back.
    Moment(&'a mut Hosted<D>),
    /// They are read.
    Gradient(&'a Away<D>),
}

impl<'a, D: Device> Visitor<'a, D> {
    /// A moment of `bytes` bytes in blocks of `block`.
    pub(crate) fn moment(moment: &'a mut Hosted<D>, block: usize, bytes: usize) -> Self {
        Self { who: Who::Moment(moment), block, bytes }
    }

    /// A gradient of `bytes` bytes, of which `block` go with a block of moments.
    pub(crate) fn gradient(gradient: &'a Away<D>, block: usize, bytes: usize) -> Self {
        Self { who: Who::Gradient(gradient), block, bytes }
    }

    fn pinned(&self) -> &D::Pinned {
        match &self.who {
            Who::Moment(hosted) => &hosted.pinned,
            Who::Gradient(away) => away.pinned(),
        }
    }
}

impl<D: Device> Offload<D> {
    /// Takes the slots' memory, each of `bytes` bytes.
    pub(crate) fn new(pool: &Arc<Pool<D>>, bytes: usize) -> Result<Self, DeviceError> {
        let device = pool.device();
        let slot = || {
            Ok(Slot {
                memory: pool.take(bytes)?,
                arrived: device.event()?,
                moved: device.event()?,
                left: device.event()?,
            })
        };
        let slots = (0..SLOTS).map(|_| slot()).collect::<Result<_, DeviceError>>()?;
        // kernels that used this memory before are done: copies do not wait for them
        device.synchronise()?;
        Ok(Self { slots, bytes, slices: Mutex::new(0) })
    }

    /// Goes through `blocks` blocks of all visitors in slices. `launch` starts the kernel that moves a slice: where the visitors
    /// are on the device, the block that it begins at, and how many it has.
    ///
    /// # Panics
    ///
    /// When a slot has no room for a block of each.
    pub(crate) fn step(
        &self,
        device: &D,
        operation: &'static str,
        mut visitors: Vec<Visitor<'_, D>>,
        blocks: usize,
        launch: impl Fn(&[usize], &D::Memory, usize, usize) -> Done,
    ) -> Done {
        let failed = during(operation);
        let each = self.bytes / visitors.iter().map(|visitor| visitor.block).sum::<usize>();
        assert!(each > 0, "a slot has room for a block of each");
        let mut end = 0;
        let place = |visitor: &Visitor<'_, D>| {
            end += each * visitor.block;
            end - each * visitor.block
        };
        let places: Vec<usize> = visitors.iter().map(place).collect();
        let mut slices = self.slices.lock().unwrap_or_else(PoisonError::into_inner);
        let (slots, begun) = (self.slots.len() as u64, *slices);
        let slot_of = |slice: u64| &self.slots[(slice % slots) as usize];
        for start in (0..blocks).step_by(each) {
            let (count, slice) = (each.min(blocks - start), *slices);
            let range = |visitor: &Visitor<'_, D>| {
                let from = start * visitor.block;
                (from, visitor.bytes.min(from + count * visitor.block) - from)
            };
            let Slot { memory, arrived, moved, left } = slot_of(slice);
            if slice >= slots {
                device.wait(Lane::ToDevice, left).map_err(&failed)?;
            }
            if slice == begun {
                for visitor in &visitors {
                    match &visitor.who {
                        Who::Gradient(away) => device.wait(Lane::ToDevice, away.left()).map_err(&failed)?,
                        // what left before the slot's last use has arrived with it
                        Who::Moment(Hosted { last: Some(last), .. }) if last + slots > slice => {
                            device.wait(Lane::ToDevice, &slot_of(*last).left).map_err(&failed)?;
                        }
                        Who::Moment(_) => {}
                    }
                }
            }
            for (visitor, &place) in visitors.iter().zip(&places) {
                let (from, bytes) = range(visitor);
                device
                    .copy_to_device(visitor.pinned(), from, memory.memory(), place, bytes)
                    .map_err(&failed)?;
            }
            device.record(arrived, Lane::ToDevice).map_err(&failed)?;
            device.wait(Lane::Kernels, arrived).map_err(&failed)?;
            launch(&places, memory.memory(), start, count)?;
            device.record(moved, Lane::Kernels).map_err(&failed)?;
            device.wait(Lane::ToHost, moved).map_err(&failed)?;
            for (visitor, &place) in visitors.iter_mut().zip(&places) {
                let (from, bytes) = range(visitor);
                if let Who::Moment(hosted) = &mut visitor.who {
                    device
                        .copy_to_host(memory.memory(), place, &hosted.pinned, from, bytes)
                        .map_err(&failed)?;
                    hosted.last = Some(slice);
                }
            }
            device.record(left, Lane::ToHost).map_err(&failed)?;
            *slices += 1;
        }
        Ok(())
    }
}
