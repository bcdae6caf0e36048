//! A home line sends each piece about once: who asks for a piece that somebody else has just been given is sent there.
//!
//! The pieces that a member gives out are so spread over different askers, who pass them on. Seeders give to everybody, and come
//! first here: as long as one of them is fetching a blob from us, it will have every piece of it, and others are sent there;
//! and what went to a member at home does not keep a seeder from it, who is the one that passes it on to all.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use libp2p::PeerId;
use talkoot_protocol::digest::Digest;
use tokio::time::Instant;

/// How long somebody who was given a piece is believed to be about to pass it on.
const FRESH: Duration = Duration::from_secs(20);
/// How long a seeder that asked about a blob is believed to be fetching it: it asks several times a second while it does.
const FETCHING: Duration = Duration::from_secs(5);
/// Blobs up to this length go to whoever asks: asking elsewhere takes longer than sending.
pub(super) const SMALL_BYTES: u64 = 512 << 10;
/// Pieces, and blobs of seeders, remembered; a forgotten piece is given out once more.
const MAX_PIECES: usize = 16_384;

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asker {
    pub(super) peer: PeerId,
    /// It could not have it from anybody else.
    pub(super) insists: bool,
}

/// Where each piece went.
#[derive(Debug, Default)]
pub(super) struct Spread(Mutex<Places>);

#[derive(Debug, Default)]
struct Places {
    given: BTreeMap<(Digest, u64), (PeerId, Instant)>,
    /// Blobs that seeders asked about, and when they last did.
    fetching: BTreeMap<Digest, Instant>,
}

impl Spread {
    fn places(&self) -> MutexGuard<'_, Places> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A seeder wants to know about a blob, or wants some of it.
    pub(super) fn note_seeder(&self, digest: Digest, now: Instant) {
        let mut places = self.places();
        if places.fetching.len() >= MAX_PIECES {
            places.fetching.retain(|_, when| now.duration_since(*when) < FETCHING);
        }
        if places.fetching.len() < MAX_PIECES {
            places.fetching.insert(digest, now);
        }
    }

    /// Whether the asker is to be given the pieces; if so, it is remembered as the one who has them. `is_seeder` says who is
    /// known as a seeder by now: who asked first may have said so only since.
    pub(super) fn give(
        &self,
        digest: Digest,
        pieces: &[u64],
        asker: Asker,
        is_seeder: impl Fn(&PeerId) -> bool,
        now: Instant,
    ) -> bool {
        let Asker { peer, insists } = asker;
        let seeder = is_seeder(&peer);
        let mut places = self.places();
        if places.given.len() >= MAX_PIECES {
            places.given.retain(|_, (_, when)| now.duration_since(*when) < FRESH);
        }
        let fetching = places.fetching.get(&digest).is_some_and(|when| now.duration_since(*when) < FETCHING);
        let elsewhere = |piece: &u64| match places.given.get(&(digest, *piece)) {
            Some((to, when)) if now.duration_since(*when) < FRESH => {
                *to != peer && (!seeder || is_seeder(to))
            }
            _ => fetching && !seeder,
        };
        if !insists && pieces.iter().any(elsewhere) {
            return false;
        }
        if places.given.len() < MAX_PIECES {
            places.given.extend(pieces.iter().map(|piece| ((digest, *piece), (peer, now))));
        }
        true
    }

    /// The peer did not get the pieces after all.
    pub(super) fn take_back(&self, digest: Digest, pieces: &[u64], peer: PeerId) {
        let mut places = self.places();
        for piece in pieces {
            if places.given.get(&(digest, *piece)).is_some_and(|(to, _)| *to == peer) {
                places.given.remove(&(digest, *piece));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home(peer: PeerId) -> Asker {
        Asker { peer, insists: false }
    }

    #[test]
    fn each_piece_goes_to_one_asker_until_somebody_insists() {
        let (spread, blob) = (Spread::default(), Digest::of(b"blob"));
        let (a, b, mut now) = (PeerId::random(), PeerId::random(), Instant::now());
        let ask = |blob, pieces: &[u64], asker, now| spread.give(blob, pieces, asker, |_| false, now);
        let give = |pieces: &[u64], peer, now| ask(blob, pieces, home(peer), now);
        assert!(give(&[0], a, now));
        assert!(give(&[0], a, now), "the same asker may ask again");
        assert!(!give(&[0], b, now));
        assert!(!give(&[0, 1], b, now), "one of two is elsewhere");
        assert!(give(&[1], b, now), "and was not taken for given");
        assert!(ask(Digest::of(b"other"), &[0], home(b), now));
        assert!(ask(blob, &[0], Asker { peer: b, insists: true }, now));
        assert!(!give(&[0], a, now), "now it is at the one who insisted");
        spread.take_back(blob, &[0], a);
        assert!(!give(&[0], a, now));
        spread.take_back(blob, &[0], b);
        assert!(give(&[0], a, now));
        now += FRESH;
        assert!(give(&[0], b, now), "who has not passed it on by now will not");
    }

    #[test]
    fn what_a_seeder_fetches_is_left_to_it_unless_somebody_insists() {
        let (spread, blob, now) = (Spread::default(), Digest::of(b"blob"), Instant::now());
        let (a, b) = (PeerId::random(), PeerId::random());
        let seeders = [PeerId::random(), PeerId::random()];
        let known = |peer: &PeerId| seeders.contains(peer);
        let give = |pieces: &[u64], peer| spread.give(blob, pieces, home(peer), known, now);
        assert!(give(&[0], a), "nobody else has asked");
        spread.note_seeder(blob, now);
        assert!(!give(&[1], b), "a seeder will have it");
        assert!(
            spread.give(Digest::of(b"other"), &[1], home(b), known, now),
            "another blob is not concerned"
        );
        assert!(give(&[0, 1], seeders[0]), "what went to a home line goes to a seeder");
        assert!(!give(&[0], seeders[1]), "but only to one of them");
        assert!(spread.give(blob, &[1], Asker { peer: b, insists: true }, known, now));
        assert!(give(&[1], seeders[0]), "it is at a home line again");
        // a seeder that does not come any more is not waited for
        assert!(spread.give(blob, &[2], home(b), known, now + FETCHING));
    }

    #[test]
    fn who_turns_out_to_be_a_seeder_counts_as_one_from_then_on() {
        let (spread, blob, now) = (Spread::default(), Digest::of(b"blob"), Instant::now());
        let seeders = [PeerId::random(), PeerId::random()];
        assert!(spread.give(blob, &[0], home(seeders[0]), |_| false, now), "nobody has said anything yet");
        assert!(!spread.give(blob, &[0], home(seeders[1]), |peer| seeders.contains(peer), now));
    }
}
