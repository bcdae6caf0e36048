//! Which sample gets which place: samples to packs, packs to an order.
//!
//! Samples come in the order of their draws, which is as good as shuffled and the same however the work was split.
//! The places of each length are dealt in that order. Packs are shuffled; the emptiest, where leftovers met, comes
//! last.
//!
//! Memory: 8 bytes a sample and 8 a pack, besides what the caller holds.

use super::fit::Kind;
use crate::random::Dice;

/// Samples, pack after pack.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dealt {
    samples: Vec<u32>,
    ends: Vec<u32>,
}

impl Dealt {
    /// How many packs there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no pack.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The samples of each pack, in order.
    pub fn packs(&self) -> impl Iterator<Item = &[u32]> {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let begin = std::mem::replace(&mut start, end as usize);
            &self.samples[begin..end as usize]
        })
    }
}

/// Deals samples `0..samples` to packs of these kinds; `length_of` tells a sample's tokens.
///
/// `kinds` MUST be what [`super::fit`] made of just these lengths. Samples without a place there (length 0 or above the
/// capacity) are in no pack.
///
/// # Panics
///
/// When there are 2^32 samples or more; a table of lengths has fewer.
pub fn deal(samples: usize, length_of: impl Fn(usize) -> u32, kinds: &[Kind], seed: u64) -> Dealt {
    assert!(u32::try_from(samples).is_ok(), "a table of lengths has fewer than 2^32 rows");
    let longest = kinds.iter().flat_map(|kind| &kind.lengths).map(|&(length, _)| length).max().unwrap_or(0);
    let (by_length, mut next) = sorted_by_length(samples, &length_of, longest as usize);
    let mut dealt = Dealt::default();
    dealt.samples.reserve_exact(by_length.len());
    for kind in order(kinds, seed) {
        for &(length, times) in &kinds[kind as usize].lengths {
            let from = next[length as usize];
            next[length as usize] += times as usize;
            dealt.samples.extend_from_slice(&by_length[from..from + times as usize]);
        }
        dealt.ends.push(dealt.samples.len() as u32);
    }
    dealt
}

/// Samples by length, each length in the order of the samples; and where each length begins.
fn sorted_by_length(
    samples: usize,
    length_of: impl Fn(usize) -> u32,
    longest: usize,
) -> (Vec<u32>, Vec<usize>) {
    let placed = |at: &usize| (1..=longest).contains(&(length_of(*at) as usize));
    let mut begins = vec![0; longest + 2];
    (0..samples).filter(placed).for_each(|at| begins[length_of(at) as usize + 1] += 1);
    for length in 1..begins.len() {
        begins[length] += begins[length - 1];
    }
    let mut sorted = vec![0; begins[longest + 1]];
    let mut next = begins.clone();
    for at in (0..samples).filter(placed) {
        let place = &mut next[length_of(at) as usize];
        sorted[*place] = at as u32;
        *place += 1;
    }
    (sorted, begins)
}

/// The kind of each pack, shuffled, the emptiest last.
fn order(kinds: &[Kind], seed: u64) -> Vec<u32> {
    let emptiest = (0..kinds.len()).min_by_key(|&kind| (kinds[kind].tokens(), kind));
    let mut order = Vec::new();
    for (at, kind) in kinds.iter().enumerate() {
        let packs = kind.packs as usize - usize::from(emptiest == Some(at));
        order.extend(std::iter::repeat_n(at as u32, packs));
    }
    Dice::new("pack order", seed).shuffle(&mut order);
    order.extend(emptiest.map(|kind| kind as u32));
    order
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pack::fit::{FitRules, fit};

    fn packed(lengths: &[u32], seed: u64) -> Dealt {
        let mut counts = vec![0; 101];
        lengths.iter().for_each(|&length| counts[length as usize] += 1);
        let kinds = fit(&counts, FitRules { capacity: 100, max_segments: 50, balance: 0 });
        deal(lengths.len(), |at| lengths[at], &kinds, seed)
    }

    proptest! {
        #[test]
        fn no_sample_is_lost_or_dealt_twice(
            lengths in prop::collection::vec(1u32..=100, 0..300),
            seed in any::<u64>(),
        ) {
            let dealt = packed(&lengths, seed);
            let mut seen: Vec<u32> = dealt.packs().flatten().copied().collect();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..lengths.len() as u32).collect::<Vec<_>>());
            let sums: Vec<u32> =
                dealt.packs().map(|pack| pack.iter().map(|&s| lengths[s as usize]).sum()).collect();
            prop_assert!(sums.iter().all(|&sum| sum <= 100));
            prop_assert_eq!(sums.last(), sums.iter().min(), "leftovers come last");
            prop_assert_eq!(packed(&lengths, seed), dealt);
        }
    }

    #[test]
    fn another_seed_is_another_order() {
        let lengths: Vec<u32> = (0..500).map(|i| 1 + i * 7 % 60).collect();
        assert_ne!(packed(&lengths, 1), packed(&lengths, 2));
    }

    #[test]
    fn nothing_is_dealt_to_nobody() {
        assert!(packed(&[], 1).is_empty());
    }
}
