//! Playing a rehearsal's takes and gives against the processor's way of handing out memory.

use std::collections::{BTreeMap, HashMap};

use super::{
    dry::Event,
    rehearsal::{Mark, Rehearsal, Role},
};
use crate::cpu;

/// The processor's shelf: the smallest of the buffers that are given back and at most [`cpu::WASTE`] times too large, or
/// a new one.
#[derive(Default)]
struct Shelf {
    free: BTreeMap<u64, u64>,
    sizes: HashMap<usize, u64>,
    held: u64,
}

impl Shelf {
    fn take(&mut self, id: usize, bytes: u64) {
        let most = bytes.saturating_mul(cpu::WASTE as u64);
        let size = match self.free.range_mut(bytes..=most).next() {
            Some((&size, count)) => {
                *count -= 1;
                if *count == 0 {
                    self.free.remove(&size);
                }
                size
            }
            None => {
                self.held += bytes;
                bytes
            }
        };
        self.sizes.insert(id, size);
    }

    fn give(&mut self, id: usize) {
        if let Some(size) = self.sizes.remove(&id) {
            *self.free.entry(size).or_default() += 1;
        }
    }
}

/// Bytes by what they are for, when most are in use; and what fragments add to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Peak {
    pub(super) weights: u64,
    pub(super) moments: u64,
    pub(super) gradients: u64,
    pub(super) kept: u64,
    pub(super) working: u64,
    /// Inside operations.
    pub(super) rooms: u64,
    /// Held by the shelf beyond what is ever in use at once.
    pub(super) slack: u64,
}

impl Peak {
    fn sum(&self) -> u64 {
        let Self { weights, moments, gradients, kept, working, rooms, slack } = *self;
        weights + moments + gradients + kept + working + rooms + slack
    }

    fn of(&mut self, role: Role) -> &mut u64 {
        match role {
            Role::Weight => &mut self.weights,
            Role::Moment => &mut self.moments,
            Role::Gradient => &mut self.gradients,
            Role::Kept => &mut self.kept,
            Role::Working => &mut self.working,
        }
    }
}

/// How many bytes so many numbers take.
pub(super) type Bytes<'a> = &'a dyn Fn(Role, u64) -> u64;

/// The peak on the processor's shelf.
pub(super) fn on_shelf(rehearsal: &Rehearsal, bytes: Bytes<'_>) -> Peak {
    let mut memory = Shelf::default();
    let mut sizes: HashMap<usize, u64> = HashMap::new();
    let (mut now, mut peak) = (Peak::default(), Peak::default());
    let mut rooms = rehearsal.roles.len();
    for event in &rehearsal.events {
        match *event {
            Event::Take(id, numbers) => {
                let role = rehearsal.roles[id];
                let size = bytes(role, numbers);
                sizes.insert(id, size);
                *now.of(role) += size;
                if size > 0 {
                    memory.take(id, size);
                }
            }
            Event::Give(id) => {
                *now.of(rehearsal.roles[id]) -= sizes.remove(&id).unwrap_or(0);
                memory.give(id);
            }
            Event::Room(numbers) => {
                // in f32 whatever the setting: sums and scores are
                now.rooms = 4 * numbers;
                memory.take(rooms, now.rooms);
                memory.give(rooms);
                rooms += 1;
            }
            Event::Head | Event::Mark(Mark::Step | Mark::Gradients | Mark::Moved) => {}
        }
        if now.sum() > peak.sum() {
            peak = now;
        }
        now.rooms = 0;
    }
    peak.slack = memory.held.saturating_sub(peak.sum());
    peak
}
