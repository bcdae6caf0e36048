//! One slab of device memory, handed out in pieces by a rule that a plan can follow.
//!
//! ```text
//! | weights | moments | hole | gradient | hole | working set ...     | free up to the slab's end
//!                        ^ the smallest hole that is large enough, the lowest of equal ones
//! ```
//! Drivers' own allocators fragment in ways that nobody can foretell. This one is bookkeeping alone: the same sequence of
//! takes and gives makes the same places, on a device, in an emulation and in [`crate::plan`], so that the highest place
//! that a plan finds is the highest that the device reaches, and what does not fit is known before a step begins.

use std::collections::{BTreeMap, BTreeSet};

/// Where a piece begins is a multiple of this many bytes: what vector loads, tensor cores and copies want at most.
pub const ALIGNMENT: u64 = 256;

/// A piece of the slab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// Bytes from the slab's begin; a multiple of [`ALIGNMENT`].
    pub start: u64,
    /// Bytes, a multiple of [`ALIGNMENT`] and at least one of them.
    pub bytes: u64,
}

/// No hole is large enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "no room for {asked} bytes: {free} of {capacity} bytes are free, the largest piece in a row is {largest}; lower the \
     packs of a step or their length, compute blocks again, or lend more memory (`talkoot plan` says what fits)"
)]
pub struct Full {
    /// What was asked for, rounded up to whole alignments.
    pub asked: u64,
    /// Free bytes, in holes of any size.
    pub free: u64,
    /// The largest hole.
    pub largest: u64,
    /// The slab.
    pub capacity: u64,
}

/// Which parts of a slab are taken.
#[derive(Debug, Clone)]
pub struct Arena {
    capacity: u64,
    taken: u64,
    highest: u64,
    /// The end of the highest piece that is taken. What lies above is used only when no hole below will do, so that
    /// places don't depend on the slab's size.
    top: u64,
    /// Holes below the top by where they begin; no two touch.
    holes: BTreeMap<u64, u64>,
    /// The same as `(bytes, start)`, to find the smallest that is large enough.
    by_size: BTreeSet<(u64, u64)>,
}

impl Arena {
    /// A slab of `capacity` bytes, of which whole alignments are used.
    pub fn new(capacity: u64) -> Self {
        let capacity = capacity / ALIGNMENT * ALIGNMENT;
        Self { capacity, taken: 0, highest: 0, top: 0, holes: BTreeMap::new(), by_size: BTreeSet::new() }
    }

    /// Takes `bytes` in a row, rounded up to whole alignments.
    ///
    /// # Errors
    ///
    /// [`Full`] when no hole is large enough; nothing has changed then.
    pub fn take(&mut self, bytes: u64) -> Result<Place, Full> {
        let asked = bytes.max(1).checked_next_multiple_of(ALIGNMENT).unwrap_or(u64::MAX);
        let start = match self.by_size.range((asked, 0)..).next() {
            Some(&(size, start)) => {
                self.close(start, size);
                if size > asked {
                    self.open(start + asked, size - asked);
                }
                start
            }
            None if asked <= self.capacity - self.top => {
                self.top += asked;
                self.top - asked
            }
            None => {
                let largest = self.by_size.last().map_or(0, |&(size, _)| size).max(self.capacity - self.top);
                let (free, capacity) = (self.capacity - self.taken, self.capacity);
                return Err(Full { asked, free, largest, capacity });
            }
        };
        self.taken += asked;
        self.highest = self.highest.max(self.top);
        Ok(Place { start, bytes: asked })
    }

    /// Gives a piece back.
    ///
    /// # Panics
    ///
    /// When the piece is not one that was taken and not given back since: the caller has lost count of its own memory.
    pub fn give(&mut self, place: Place) {
        let Place { mut start, bytes } = place;
        let mut end = start + bytes;
        let before = self.holes.range(..start).next_back().map(|(&at, &size)| (at, size));
        let after = self.holes.range(start..).next().map(|(&at, &size)| (at, size));
        let clear = before.is_none_or(|(at, size)| at + size <= start)
            && after.is_none_or(|(at, _)| end <= at)
            && end <= self.top;
        assert!(clear, "{place:?} was not taken");
        self.taken -= bytes;
        if let Some((at, size)) = before.filter(|&(at, size)| at + size == start) {
            self.close(at, size);
            start = at;
        }
        if let Some((at, size)) = after.filter(|&(at, _)| end == at) {
            self.close(at, size);
            end += size;
        }
        if end == self.top {
            self.top = start;
        } else {
            self.open(start, end - start);
        }
    }

    /// Bytes that are taken.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// The end of the highest piece that was ever taken: what the slab has to be at least, for this sequence.
    pub fn highest(&self) -> u64 {
        self.highest
    }

    /// Bytes of the slab.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    fn open(&mut self, start: u64, bytes: u64) {
        self.holes.insert(start, bytes);
        self.by_size.insert((bytes, start));
    }

    fn close(&mut self, start: u64, bytes: u64) {
        self.holes.remove(&start);
        self.by_size.remove(&(bytes, start));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn live_pieces_never_overlap_and_nothing_is_lost(
            steps in prop::collection::vec((any::<bool>(), 0u64..5000, any::<prop::sample::Index>()), 1..300),
            capacity in 0u64..200_000,
        ) {
            let mut arena = Arena::new(capacity);
            let mut live: Vec<Place> = Vec::new();
            let mut highest = 0;
            for (give, bytes, which) in steps {
                if give && !live.is_empty() {
                    arena.give(live.swap_remove(which.index(live.len())));
                    continue;
                }
                match arena.take(bytes) {
                    Ok(place) => {
                        prop_assert!(place.start.is_multiple_of(ALIGNMENT) && place.bytes >= bytes.max(1));
                        prop_assert!(place.bytes < bytes.max(1) + ALIGNMENT);
                        prop_assert!(place.start + place.bytes <= arena.capacity());
                        for other in &live {
                            let apart = place.start + place.bytes <= other.start
                                || other.start + other.bytes <= place.start;
                            prop_assert!(apart, "{:?} and {:?}", place, other);
                        }
                        highest = highest.max(place.start + place.bytes);
                        live.push(place);
                    }
                    Err(full) => prop_assert!(full.largest < full.asked && full.largest <= full.free),
                }
                prop_assert_eq!(arena.taken(), live.iter().map(|place| place.bytes).sum::<u64>());
                prop_assert_eq!(arena.highest(), highest);
            }
            for place in live {
                arena.give(place);
            }
            // everything has come together again: one hole, as large as the slab
            prop_assert_eq!(arena.taken(), 0);
            if arena.capacity() > 0 {
                prop_assert_eq!(arena.take(arena.capacity()).map(|place| place.start), Ok(0));
            }
        }

        #[test]
        fn a_larger_slab_places_what_fits_in_the_same_places(
            steps in prop::collection::vec((any::<bool>(), 0u64..5000, any::<prop::sample::Index>()), 1..200),
        ) {
            // a plan is made in a slab without end; a device's has one
            let run = |capacity: u64| {
                let (mut arena, mut live, mut places) = (Arena::new(capacity), Vec::new(), Vec::new());
                for (give, bytes, which) in &steps {
                    if *give && !live.is_empty() {
                        arena.give(live.swap_remove(which.index(live.len())));
                    } else {
                        let place = arena.take(*bytes).unwrap();
                        places.push(place);
                        live.push(place);
                    }
                }
                (places, arena.highest())
            };
            let (planned, highest) = run(1 << 40);
            prop_assert_eq!(run(highest), (planned, highest));
        }
    }

    #[test]
    fn the_smallest_hole_that_is_large_enough_is_taken_and_the_lowest_of_equal_ones() {
        let mut arena = Arena::new(16 * ALIGNMENT);
        let places: Vec<Place> = [3, 1, 2, 1, 2, 1].map(|n| arena.take(n * ALIGNMENT).unwrap()).to_vec();
        for at in [0, 2, 4] {
            arena.give(places[at]);
        }
        assert_eq!(arena.take(2 * ALIGNMENT).unwrap(), places[2], "not the larger one before it");
        assert_eq!(arena.take(ALIGNMENT + 1).unwrap(), places[4]);
        assert_eq!(arena.take(1).unwrap(), Place { start: 0, bytes: ALIGNMENT });
    }

    #[test]
    fn what_does_not_fit_is_named_and_changes_nothing() {
        let mut arena = Arena::new(10 * ALIGNMENT + 7);
        let first = arena.take(4 * ALIGNMENT).unwrap();
        let _second = arena.take(2 * ALIGNMENT).unwrap();
        arena.give(first);
        let full = arena.take(5 * ALIGNMENT).unwrap_err();
        let expected =
            Full { asked: 1280, free: 8 * ALIGNMENT, largest: 4 * ALIGNMENT, capacity: 10 * ALIGNMENT };
        assert_eq!(full, expected);
        assert!(arena.take(u64::MAX).is_err());
        assert_eq!(arena.take(4 * ALIGNMENT).unwrap(), first);
    }

    #[test]
    #[should_panic(expected = "was not taken")]
    fn giving_back_twice_is_an_error_of_the_caller() {
        let mut arena = Arena::new(10 * ALIGNMENT);
        let place = arena.take(1).unwrap();
        arena.give(place);
        arena.give(place);
    }
}
