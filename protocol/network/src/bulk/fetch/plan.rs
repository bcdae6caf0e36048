//! What is still wanted of a blob, and which piece of it to ask somebody for next.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bao_tree::ChunkRanges;
use talkoot_protocol::{digest::BlobRef, identity::MemberId};
use tokio::time::Instant;

use super::super::wire::{self, MAX_RANGES};
use crate::store::{missing, tree};

/// A piece of which nothing has come for so long is asked of another peer as well, once there is nothing else to ask for.
const SLOW: Duration = Duration::from_secs(1);
/// Peers asked for the same piece at once.
const MAX_ASKERS: usize = 2;
/// The same for a piece of which nothing has come for [`STUCK`]: two that send nothing, or next to nothing, would keep it from
/// whoever else has it.
const MAX_ASKERS_STUCK: usize = 6;
const STUCK: Duration = Duration::from_secs(5);
/// Wanted pieces looked at for the next choice, so that choosing costs the same for all blobs.
const HORIZON: usize = 512;

/// When something last came, by the clock of this process.
#[derive(Debug, Clone)]
pub(super) struct Moved(Arc<Mutex<Instant>>);

impl Moved {
    pub(super) fn at(now: Instant) -> Self {
        Self(Arc::new(Mutex::new(now)))
    }

    pub(super) fn touch(&self, now: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// How long nothing has come.
    pub(super) fn quiet(&self, now: Instant) -> Duration {
        now.saturating_duration_since(*self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One piece that is wanted.
#[derive(Debug)]
pub(super) struct Piece {
    /// What is missing of it.
    pub(super) ranges: ChunkRanges,
    /// Its place among equally rare ones: another one for each member, so that members who start together end up with different
    /// pieces.
    lot: u64,
    /// Peers that are asked for it now.
    pub(super) askers: usize,
    pub(super) moved: Moved,
}

/// A number that orders a blob's pieces for this member alone.
fn lot(me: &MemberId, blob: BlobRef, piece: u64) -> u64 {
    let mut hasher = blake3::Hasher::new_keyed(me.as_bytes());
    hasher.update(blob.digest.as_bytes()).update(&piece.to_le_bytes());
    let mut lot = [0; 8];
    hasher.finalize_xof().fill(&mut lot);
    u64::from_le_bytes(lot)
}

/// What is wanted of one blob.
#[derive(Debug)]
pub(super) struct Plan {
    blob: BlobRef,
    pub(super) pieces: BTreeMap<u64, Piece>,
}

impl Plan {
    /// Everything that `have` lacks.
    pub(super) fn new(blob: BlobRef, have: &ChunkRanges, me: &MemberId, now: Instant) -> Self {
        let mut plan = Self { blob, pieces: BTreeMap::new() };
        let length = wire::piece_bytes(blob.bytes);
        for (start, end) in tree::byte_ranges(&missing(blob.bytes, have), blob.bytes) {
            for number in start / length..=(end - 1) / length {
                let window = (number * length, ((number + 1) * length).min(blob.bytes));
                let piece = plan.pieces.entry(number).or_insert_with(|| Piece {
                    ranges: ChunkRanges::empty(),
                    lot: lot(me, blob, number),
                    askers: 0,
                    moved: Moved::at(now),
                });
                piece.ranges |= tree::groups(start.max(window.0), end.min(window.1));
                if piece.ranges.boundaries().len() > 2 * MAX_RANGES {
                    piece.ranges = tree::groups(window.0, window.1);
                }
            }
        }
        plan
    }

    /// The piece to ask for next: of those that nobody is asked for, the one that the fewest have; when there is none, one
    /// that is asked for and does not come.
    pub(super) fn next(
        &self,
        now: Instant,
        may_ask: impl Fn(u64) -> bool,
        holders: impl Fn(u64) -> usize,
    ) -> Option<u64> {
        let mut rarest = None;
        let mut seen = 0;
        for (number, piece) in &self.pieces {
            if piece.askers == 0 && may_ask(*number) {
                let rank = (holders(*number), piece.lot, *number);
                rarest = rarest.min(Some(rank)).or(Some(rank));
                seen += 1;
                if seen >= HORIZON {
                    break;
                }
            }
        }
        if let Some((.., number)) = rarest {
            return Some(number);
        }
        if self.pieces.values().any(|piece| piece.askers == 0) {
            return None; // somebody else may have those
        }
        let slow = self.pieces.iter().filter(|(number, piece)| {
            let quiet = piece.moved.quiet(now);
            let most = if quiet >= STUCK { MAX_ASKERS_STUCK } else { MAX_ASKERS };
            piece.askers < most && quiet >= SLOW && may_ask(**number)
        });
        slow.max_by_key(|(number, piece)| (piece.moved.quiet(now), **number)).map(|(number, _)| *number)
    }

    /// What came of a piece is in `have`: forgets it if that is all.
    pub(super) fn settle(&mut self, number: u64, have: &ChunkRanges) -> bool {
        let Some(piece) = self.pieces.get_mut(&number) else { return true };
        let lacks = missing(self.blob.bytes, have);
        piece.ranges &= lacks;
        if piece.ranges.is_empty() {
            self.pieces.remove(&number);
            return true;
        }
        if piece.ranges.boundaries().len() > 2 * MAX_RANGES {
            let length = wire::piece_bytes(self.blob.bytes);
            piece.ranges = tree::groups(number * length, ((number + 1) * length).min(self.blob.bytes));
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use talkoot_protocol::{digest::Digest, identity::Keypair};

    use super::*;

    fn plan(pieces: u64, seed: u8) -> Plan {
        let bytes = pieces * wire::LEAST_PIECE_BYTES;
        let blob = BlobRef { digest: Digest::of(b"blob"), bytes };
        Plan::new(blob, &ChunkRanges::empty(), &Keypair::from_seed([seed; 32]).id(), Instant::now())
    }

    #[test]
    fn the_rarest_goes_first_and_members_differ() {
        let (one, now) = (plan(20, 1), Instant::now());
        assert_eq!(one.next(now, |_| true, |piece| if piece == 7 { 1 } else { 2 }), Some(7));
        assert_eq!(one.next(now, |piece| piece == 3, |_| 1), Some(3));
        assert_eq!(one.next(now, |_| false, |_| 1), None);
        let firsts: std::collections::BTreeSet<_> =
            (0..10).map(|seed| plan(20, seed).next(now, |_| true, |_| 1)).collect();
        assert!(firsts.len() > 4, "ten members begin with {firsts:?}");
    }

    #[test]
    fn only_the_last_pieces_are_doubled_and_only_when_they_do_not_come() {
        let mut plan = plan(2, 1);
        plan.pieces.get_mut(&0).unwrap().askers = 1;
        let now = Instant::now() + SLOW * 2;
        assert_eq!(plan.next(now, |piece| piece == 0, |_| 1), None, "piece 1 is not even asked for");
        plan.pieces.get_mut(&1).unwrap().askers = 1;
        plan.pieces[&1].moved.touch(now);
        assert_eq!(plan.next(now, |_| true, |_| 1), Some(0));
        plan.pieces.get_mut(&0).unwrap().askers = 2;
        assert_eq!(plan.next(now, |_| true, |_| 1), None);
        // two that send nothing for long do not keep it from a third
        assert_eq!(plan.next(now + STUCK, |piece| piece == 0, |_| 1), Some(0));
        plan.pieces.get_mut(&0).unwrap().askers = MAX_ASKERS_STUCK;
        assert_eq!(plan.next(now + STUCK, |piece| piece == 0, |_| 1), None);
    }

    proptest! {
        #[test]
        fn a_plan_is_exactly_what_is_missing(bytes in 1_u64..40_000_000, spans in prop::collection::vec((0_u64..40_000_000, 1_u64..5_000_000), 0..6)) {
            let blob = BlobRef { digest: Digest::of(b"blob"), bytes };
            let mut have = ChunkRanges::empty();
            for (start, length) in spans {
                let (start, end) = (start.min(bytes), (start + length).min(bytes));
                if start < end {
                    have |= tree::groups(start, end);
                }
            }
            let me = Keypair::from_seed([1; 32]).id();
            let mut plan = Plan::new(blob, &have, &me, Instant::now());
            let mut wanted = ChunkRanges::empty();
            for (number, piece) in &plan.pieces {
                let length = wire::piece_bytes(bytes);
                for (start, end) in tree::byte_ranges(&piece.ranges, bytes) {
                    prop_assert!(number * length <= start && end <= (number + 1) * length);
                }
                prop_assert!(wire::checked_ranges(bytes, &tree::byte_ranges(&piece.ranges, bytes)).is_ok());
                wanted |= piece.ranges.clone();
            }
            let lacks = missing(bytes, &have);
            prop_assert_eq!(tree::byte_ranges(&wanted, bytes), tree::byte_ranges(&lacks, bytes));
            let numbers: Vec<_> = plan.pieces.keys().copied().collect();
            for number in numbers {
                prop_assert!(!plan.settle(number, &have));
                let all = tree::groups(0, bytes);
                prop_assert!(plan.settle(number, &all));
            }
            prop_assert!(plan.pieces.is_empty());
        }
    }
}
