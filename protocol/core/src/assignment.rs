//! Which packs a seat trains on: a pure function of the manifest and the rounds before.
//!
//! The packs of a stage are put into an order by a keyed permutation, anew for every pass over the data; where the data
//! have periods, each period's packs are, and the periods follow one another. Rounds take packs from the front. What a
//! vanished or excluded member was to do goes to a later round.

use std::collections::VecDeque;

use minicbor::{Decode, Encode};

use crate::{
    canonical,
    digest::Digest,
    event::Seat,
    identity::MemberId,
    manifest::{DatasetBinding, RunId},
};

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
pub fn deal(
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

/// The order of a stage's packs: a permutation of each period's, anew for every pass over the data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackOrder {
    key: Digest,
    packs: u64,
    periods: Vec<Period>,
}

/// Packs that follow one another, in an order of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Period {
    key: Digest,
    first: u64,
    packs: u64,
}

impl PackOrder {
    /// The order of the packs of `dataset`, the data of stage `stage` of `run`.
    pub fn new(run: &RunId, seed: u64, stage: u32, dataset: &DatasetBinding) -> Self {
        let hash = blake3::Hasher::new_derive_key("talkoot pack order v1")
            .update(run.as_bytes())
            .update(&seed.to_be_bytes())
            .update(&stage.to_be_bytes())
            .finalize();
        let key = Digest::from_bytes(*hash.as_bytes());
        let packs = dataset.packs.max(1);
        let periods = match &dataset.periods {
            None => vec![Period { key, first: 0, packs }],
            Some(periods) => Period::in_order(&key, periods),
        };
        Self { key, packs, periods }
    }

    /// The pack at `position`.
    pub fn pack(&self, position: u64) -> u64 {
        let (pass, place) = (position / self.packs, position % self.packs);
        let after = self.periods.partition_point(|period| period.first <= place);
        let period = after.checked_sub(1).and_then(|at| self.periods.get(at));
        period.map_or(place, |period| period.pack(pass, place))
    }
}

impl Period {
    fn in_order(key: &Digest, periods: &[u64]) -> Vec<Self> {
        let mut first = 0u64;
        let period = |(number, &packs): (u32, &u64)| {
            let hash = blake3::Hasher::new_derive_key("talkoot period order v1")
                .update(key.as_bytes())
                .update(&number.to_be_bytes())
                .finalize();
            let period = Self { key: Digest::from_bytes(*hash.as_bytes()), first, packs };
            first = first.saturating_add(packs);
            period
        };
        (0..).zip(periods).map(period).collect()
    }

    /// The pack at `place` of pass `pass`: a four-round Feistel network on the smallest even number of bits that holds
    /// the period's packs, walked until it lands inside (Black and Rogaway 2002).
    fn pack(&self, pass: u64, place: u64) -> u64 {
        let half_bits = (64 - (self.packs - 1).leading_zeros()).div_ceil(2).max(1);
        let mut value = place - self.first;
        loop {
            value = self.feistel(pass, value, half_bits);
            if value < self.packs {
                return self.first + value;
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
    use crate::digest::BlobRef;

    fn order(stage: u32, packs: u64, periods: Option<Vec<u64>>) -> PackOrder {
        let dataset = DatasetBinding { index: BlobRef::of(b"index"), packs, periods };
        PackOrder::new(&Digest::of(b"run"), 5, stage, &dataset)
    }

    proptest! {
        #[test]
        fn every_pass_takes_every_pack_once(packs in 1u64..700, stage in 0u32..3) {
            let order = order(stage, packs, None);
            for pass in 0..2 {
                let seen: BTreeSet<u64> = (0..packs).map(|i| order.pack(pass * packs + i)).collect();
                prop_assert_eq!(seen.len() as u64, packs);
                prop_assert_eq!(seen.last().copied(), Some(packs - 1));
            }
        }

        #[test]
        fn periods_follow_one_another_and_every_pass_takes_every_pack_once(
            periods in proptest::collection::vec(1u64..90, 1..12),
            stage in 0u32..3,
        ) {
            let packs = periods.iter().sum();
            let order = order(stage, packs, Some(periods.clone()));
            for pass in 0..3 {
                let mut first = 0;
                for &length in &periods {
                    let places = first..first + length;
                    let seen: BTreeSet<u64> = places.clone().map(|i| order.pack(pass * packs + i)).collect();
                    prop_assert_eq!(seen, places.collect::<BTreeSet<u64>>());
                    first += length;
                }
            }
        }

        #[test]
        fn members_are_dealt_every_pack_of_a_pass_once_and_no_period_before_its_time(
            periods in proptest::collection::vec(1u64..20, 1..6),
            rounds in proptest::collection::vec((1u8..4, 1u32..5), 1..30),
        ) {
            let packs: u64 = periods.iter().sum();
            let order = order(0, packs, Some(periods.clone()));
            let period_of = |pack: u64| {
                let mut end = 0;
                periods.iter().position(|length| { end += length; pack < end })
            };
            let mut cursor = Cursor::default();
            let mut dealt = Vec::new();
            for (number, (members, steps)) in (0u64..).zip(rounds) {
                let member = |n: u8| crate::identity::Keypair::from_seed([n + 1; 32]).id();
                let seats: Vec<Seat> = (0..members).map(|n| Seat { member: member(n), steps }).collect();
                for work in deal(&order, &mut cursor, &seats, 2, &Digest::of(&number.to_le_bytes())) {
                    let positions = work.positions.iter().flat_map(|range| range.start..range.end);
                    dealt.extend(positions.zip(work.steps.into_iter().flatten()));
                }
            }
            dealt.sort_unstable();
            for (at, (position, _)) in (0u64..).zip(&dealt) {
                prop_assert_eq!(at, *position);
            }
            for pass in dealt.chunks(packs as usize) {
                prop_assert!(pass.is_sorted_by_key(|(_, pack)| period_of(*pack)));
                let seen: BTreeSet<u64> = pass.iter().map(|(_, pack)| *pack).collect();
                prop_assert_eq!(seen.len(), pass.len());
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

    /// Numbers of a program of its own, written after the specification of the protocol.
    #[test]
    fn the_order_is_the_specified_one_with_periods_and_without() {
        let of =
            |order: PackOrder, positions| -> Vec<u64> { (0..positions).map(|at| order.pack(at)).collect() };
        assert_eq!(of(order(1, 10, None), 10), [1, 9, 3, 5, 7, 2, 6, 4, 8, 0]);
        let in_periods = of(order(1, 10, Some(vec![4, 6])), 20);
        assert_eq!(in_periods[..10], [2, 0, 1, 3, 6, 4, 7, 5, 9, 8]);
        assert_eq!(in_periods[10..], [1, 2, 0, 3, 5, 4, 9, 6, 7, 8]);
    }

    #[test]
    fn two_passes_differ() {
        let order = order(0, 100, None);
        let pass = |p: u64| (0..100).map(|i| order.pack(p * 100 + i)).collect::<Vec<_>>();
        assert_ne!(pass(0), pass(1));
    }
}
