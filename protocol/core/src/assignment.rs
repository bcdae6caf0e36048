//! Which packs a seat trains on: a pure function of the manifest and the rounds before.
//!
//! The packs of a stage are put into an order by a keyed permutation, anew for every pass over the data. Rounds
//! take them from the front. What a vanished or excluded member was to do goes to a later round.

use std::collections::VecDeque;

use minicbor::{Decode, Encode};

use crate::{canonical, digest::Digest, event::Seat, identity::MemberId, manifest::RunId};

/// Positions `start .. end` in the endless order of a stage's packs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Positions {
    /// First position.
    #[n(0)]
    pub start: u64,
    /// One after the last.
    #[n(1)]
    pub end: u64,
}

impl Positions {
    const fn len(self) -> u64 {
        self.end.saturating_sub(self.start)
    }
}

/// What a seat is to train on: for each inner step the packs of its batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// Whose seat it is.
    pub member: MemberId,
    /// Positions in the stage's order, as they were taken.
    pub positions: Vec<Positions>,
    /// Pack indices of every inner step; each has as many as the stage's batch.
    pub steps: Vec<Vec<u64>>,
}

impl Work {
    /// Hash of the first `steps` steps' packs, which a commit names.
    pub fn digest(&self, steps: u32) -> Digest {
        let taken: Vec<&Vec<u64>> = self.steps.iter().take(steps as usize).collect();
        Digest::of(&canonical::to_bytes(&taken))
    }
}

/// How far a stage has been read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cursor {
    next: u64,
    backlog: VecDeque<Positions>,
}

impl Cursor {
    /// Takes `count` positions, left-over work first.
    fn take(&mut self, mut count: u64) -> Vec<Positions> {
        let mut taken = Vec::new();
        while count > 0 {
            let Some(front) = self.backlog.pop_front() else {
                let end = self.next.saturating_add(count);
                taken.push(Positions { start: self.next, end });
                self.next = end;
                break;
            };
            let cut = front.start.saturating_add(count).min(front.end);
            taken.push(Positions { start: front.start, end: cut });
            count = count.saturating_sub(cut.saturating_sub(front.start));
            if cut < front.end {
                self.backlog.push_front(Positions { start: cut, end: front.end });
            }
        }
        taken
    }

    /// Gives back what was not trained on: all positions after the first `done`.
    pub(crate) fn give_back(&mut self, positions: &[Positions], mut done: u64) {
        for range in positions {
            let skip = done.min(range.len());
            done = done.saturating_sub(skip);
            let rest = Positions { start: range.start.saturating_add(skip), end: range.end };
            if rest.len() > 0 {
                self.backlog.push_back(rest);
            }
        }
    }
}

/// Deals a round's packs to its seats, in an order that follows from the start state, so that nobody chooses
/// their data by choosing their name.
pub(crate) fn deal(
    order: &PackOrder,
    cursor: &mut Cursor,
    seats: &[Seat],
    packs_per_step: u32,
    start_state: &Digest,
) -> Vec<Work> {
    let mut turn: Vec<(Digest, usize)> = seats
        .iter()
        .enumerate()
        .map(|(i, seat)| {
            let hash = blake3::Hasher::new_derive_key("talkoot seat order v1")
                .update(order.key.as_bytes())
                .update(start_state.as_bytes())
                .update(seat.member.as_bytes())
                .finalize();
            (Digest::from_bytes(*hash.as_bytes()), i)
        })
        .collect();
    turn.sort_unstable();
    let mut dealt: Vec<(usize, Work)> = turn
        .into_iter()
        .map(|(_, i)| {
            let seat = &seats[i];
            let count = u64::from(seat.steps).saturating_mul(u64::from(packs_per_step));
            let positions = cursor.take(count);
            let packs: Vec<u64> =
                positions.iter().flat_map(|range| range.start..range.end).map(|p| order.pack(p)).collect();
            let steps = packs.chunks(packs_per_step.max(1) as usize).map(<[u64]>::to_vec).collect();
            (i, Work { member: seat.member, positions, steps })
        })
        .collect();
    dealt.sort_unstable_by_key(|(i, _)| *i);
    dealt.into_iter().map(|(_, work)| work).collect()
}

/// The order of a stage's packs.
///
/// Pass `p` over the data is a permutation of the packs: a four-round Feistel network on the smallest even number
/// of bits that holds them, walked until it lands inside (Black and Rogaway 2002), keyed by run, stage and pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackOrder {
    key: Digest,
    packs: u64,
}

impl PackOrder {
    /// The order of stage `stage` of `run`, which has `packs` packs.
    pub fn new(run: &RunId, seed: u64, stage: u32, packs: u64) -> Self {
        let hash = blake3::Hasher::new_derive_key("talkoot pack order v1")
            .update(run.as_bytes())
            .update(&seed.to_be_bytes())
            .update(&stage.to_be_bytes())
            .finalize();
        Self { key: Digest::from_bytes(*hash.as_bytes()), packs: packs.max(1) }
    }

    /// The pack at `position`.
    pub fn pack(&self, position: u64) -> u64 {
        let pass = position / self.packs;
        let half_bits = (64 - (self.packs - 1).leading_zeros()).div_ceil(2).max(1);
        let mut value = position % self.packs;
        loop {
            value = self.feistel(pass, value, half_bits);
            if value < self.packs {
                return value;
            }
        }
    }

    fn feistel(&self, pass: u64, value: u64, half_bits: u32) -> u64 {
        let mask = (1u64 << half_bits) - 1;
        let (mut left, mut right) = (value >> half_bits, value & mask);
        for round in 0u8..4 {
            let hash = blake3::Hasher::new_keyed(self.key.as_bytes())
                .update(&pass.to_be_bytes())
                .update(&[round])
                .update(&right.to_be_bytes())
                .finalize();
            let mut word = [0; 8];
            word.copy_from_slice(&hash.as_bytes()[..8]);
            (left, right) = (right, left ^ (u64::from_be_bytes(word) & mask));
        }
        (left << half_bits) | right
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_pass_takes_every_pack_once(packs in 1u64..700, stage in 0u32..3) {
            let order = PackOrder::new(&Digest::of(b"run"), 5, stage, packs);
            for pass in 0..2 {
                let seen: BTreeSet<u64> = (0..packs).map(|i| order.pack(pass * packs + i)).collect();
                prop_assert_eq!(seen.len() as u64, packs);
                prop_assert_eq!(seen.last().copied(), Some(packs - 1));
            }
        }

        #[test]
        fn no_position_is_dealt_twice_or_lost(
            rounds in proptest::collection::vec((1u64..20, 0u64..20), 1..20)
        ) {
            let mut cursor = Cursor::default();
            let mut done = BTreeSet::new();
            for (take, finish) in rounds {
                let taken = cursor.take(take);
                prop_assert_eq!(taken.iter().map(|r| r.len()).sum::<u64>(), take);
                let finish = finish.min(take);
                for position in taken.iter().flat_map(|r| r.start..r.end).take(finish as usize) {
                    prop_assert!(done.insert(position), "position {} was trained on twice", position);
                }
                cursor.give_back(&taken, finish);
            }
            let waiting: BTreeSet<u64> = cursor.backlog.iter().flat_map(|r| r.start..r.end).collect();
            prop_assert!(done.is_disjoint(&waiting));
            prop_assert_eq!(done.len() + waiting.len(), cursor.next as usize);
        }
    }

    #[test]
    fn two_passes_differ() {
        let order = PackOrder::new(&Digest::of(b"run"), 5, 0, 100);
        let pass = |p: u64| (0..100).map(|i| order.pack(p * 100 + i)).collect::<Vec<_>>();
        assert_ne!(pass(0), pass(1));
    }
}
