//! A home line sends each piece about once: who asks for a piece that somebody else has just been given is sent there.
//!
//! The pieces that a member gives out are so spread over different askers, who pass them on. Seeders give to everybody.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use libp2p::PeerId;
use talkoot_protocol::digest::Digest;
use tokio::time::Instant;

/// How long somebody who was given a piece is believed to be about to pass it on.
const FRESH: Duration = Duration::from_secs(20);
/// Blobs up to this length go to whoever asks: asking elsewhere takes longer than sending.
pub(super) const SMALL_BYTES: u64 = 512 << 10;
/// Pieces remembered; a forgotten one is given out once more.
const MAX_PIECES: usize = 16_384;

/// Where each piece went.
#[derive(Debug, Default)]
pub(super) struct Spread(Mutex<BTreeMap<(Digest, u64), (PeerId, Instant)>>);

impl Spread {
    /// Whether `peer` is to be given the pieces; if so, it is remembered as the one who has them.
    pub(super) fn give(
        &self,
        digest: Digest,
        pieces: &[u64],
        peer: PeerId,
        insists: bool,
        now: Instant,
    ) -> bool {
        let mut given = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if given.len() >= MAX_PIECES {
            given.retain(|_, (_, when)| now.duration_since(*when) < FRESH);
        }
        let elsewhere = |piece: &u64| {
            let to = given.get(&(digest, *piece));
            to.is_some_and(|(to, when)| *to != peer && now.duration_since(*when) < FRESH)
        };
        if !insists && pieces.iter().any(elsewhere) {
            return false;
        }
        if given.len() < MAX_PIECES {
            given.extend(pieces.iter().map(|piece| ((digest, *piece), (peer, now))));
        }
        true
    }

    /// The peer did not get the pieces after all.
    pub(super) fn take_back(&self, digest: Digest, pieces: &[u64], peer: PeerId) {
        let mut given = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for piece in pieces {
            if given.get(&(digest, *piece)).is_some_and(|(to, _)| *to == peer) {
                given.remove(&(digest, *piece));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_piece_goes_to_one_asker_until_somebody_insists() {
        let (spread, blob) = (Spread::default(), Digest::of(b"blob"));
        let (a, b, mut now) = (PeerId::random(), PeerId::random(), Instant::now());
        assert!(spread.give(blob, &[0], a, false, now));
        assert!(spread.give(blob, &[0], a, false, now), "the same asker may ask again");
        assert!(!spread.give(blob, &[0], b, false, now));
        assert!(!spread.give(blob, &[0, 1], b, false, now), "one of two is elsewhere");
        assert!(spread.give(blob, &[1], b, false, now), "and was not taken for given");
        assert!(spread.give(Digest::of(b"other"), &[0], b, false, now));
        assert!(spread.give(blob, &[0], b, true, now));
        assert!(!spread.give(blob, &[0], a, false, now), "now it is at the one who insisted");
        spread.take_back(blob, &[0], a);
        assert!(!spread.give(blob, &[0], a, false, now));
        spread.take_back(blob, &[0], b);
        assert!(spread.give(blob, &[0], a, false, now));
        now += FRESH;
        assert!(spread.give(blob, &[0], b, false, now), "who has not passed it on by now will not");
    }
}
