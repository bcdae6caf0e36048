//! What is known of one peer as a source of one blob.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::{follow::Following, wire::Held};

/// When a peer that could not help is asked again: a round's small blobs appear within fractions of a second of their announcement.
const AGAIN: Duration = Duration::from_millis(250);
/// The pause doubles so often while the peer still cannot help: after that, asking is no race any more.
const MAX_DOUBLINGS: u32 = 2;
/// What a peer says that it has counts for nothing when it was asked for it and no piece has come for so long: anybody can say
/// that it is a seeder and has everything. A seeder that many want something of at once takes its time.
const WORD: Duration = Duration::from_secs(30);

/// Something that is asked of a peer, since when, and how to stop it.
#[derive(Debug)]
pub(super) struct Asked {
    /// Tells it from what was asked of the peer at another address.
    pub(super) ticket: u64,
    pub(super) since: Instant,
    pub(super) stop: CancellationToken,
}

/// One peer.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) address: SocketAddr,
    /// Whether it is there for others.
    pub(super) seeder: bool,
    /// What it says it has, from piece `first` on; nothing before it was asked.
    pub(super) held: Option<(u64, Held)>,
    /// It says what it has, or is about to, since then.
    pub(super) following: Option<(Following, Instant)>,
    /// Pieces that it is asked for.
    pub(super) slices: BTreeMap<u64, Asked>,
    /// Pieces that it said others have, and when.
    pub(super) elsewhere: BTreeMap<u64, Instant>,
    /// When it was met, and when it last said what it has.
    pub(super) met: Instant,
    pub(super) told: Option<Instant>,
    /// Why it could not be asked, and when that was; nothing since it has answered.
    pub(super) failed: Option<(Instant, String)>,
    /// Wanted pieces that it has claimed so far.
    claimed: BTreeSet<u64>,
    /// Since when it has been asked for pieces and none has come.
    owing: Option<Instant>,
    misses: u32,
    again: Instant,
}

impl Source {
    pub(super) fn new(address: SocketAddr, seeder: bool, now: Instant) -> Self {
        Self {
            address,
            seeder,
            held: None,
            following: None,
            slices: BTreeMap::new(),
            elsewhere: BTreeMap::new(),
            met: now,
            told: None,
            failed: None,
            claimed: BTreeSet::new(),
            owing: None,
            misses: 0,
            again: Instant::now(),
        }
    }

    /// Whether it has the piece, as far as it said.
    pub(super) fn has(&self, piece: u64) -> bool {
        self.held.as_ref().is_some_and(|(first, held)| match held {
            Held::Whole => true,
            _ => piece.checked_sub(*first).is_some_and(|index| held.has(index)),
        })
    }

    /// Whether it was asked what it has, and has not said anything yet.
    pub(super) fn is_to_answer(&self) -> bool {
        self.following.is_some() && self.held.is_none()
    }

    /// Whether it may be asked now.
    pub(super) fn is_due(&self) -> bool {
        Instant::now() >= self.again
    }

    /// Whether it has nothing, does nothing and is not about to say more.
    pub(super) fn is_useless(&self) -> bool {
        self.slices.is_empty() && !matches!(self.held, Some((_, Held::Whole | Held::Some(_))))
    }

    /// Notes that it says it has pieces that it did not say before. What it takes back and claims again is no news.
    pub(super) fn claims(&mut self, wanted: impl Iterator<Item = u64>) -> bool {
        let has: BTreeSet<u64> = wanted.filter(|piece| self.has(*piece)).collect();
        let before = self.claimed.len();
        self.claimed.extend(has);
        self.claimed.len() > before
    }

    /// It is asked for a piece.
    pub(super) fn owes(&mut self, now: Instant) {
        self.owing.get_or_insert(now);
    }

    /// Whether it gives what it says it has, as far as is known.
    pub(super) fn keeps_its_word(&self, now: Instant) -> bool {
        self.owing.is_none_or(|since| now.saturating_duration_since(since) < WORD)
    }

    /// It could not help: it is left in peace for a while.
    pub(super) fn missed(&mut self) {
        self.again = Instant::now() + AGAIN * (1 << self.misses.min(MAX_DOUBLINGS));
        self.misses = self.misses.saturating_add(1);
    }

    /// It does not have what it said: it is to say it anew.
    pub(super) fn erred(&mut self) {
        self.held = None;
        self.following = None;
        self.missed();
    }

    /// It could not be talked to.
    pub(super) fn failed(&mut self, now: Instant, reason: String) {
        self.held = None;
        self.following = None;
        self.failed = Some((now, reason));
        self.missed();
    }

    /// It helped, or deserves another try.
    pub(super) fn forgive(&mut self) {
        self.misses = 0;
        self.again = Instant::now();
    }

    /// A piece came.
    pub(super) fn came(&mut self, now: Instant) {
        self.forgive();
        self.failed = None;
        // what is still under way is asked for from now on, as far as its word is concerned
        self.owing = (!self.slices.is_empty()).then_some(now);
    }

    /// A piece was not wanted any more: what was not waited for is not owed.
    pub(super) fn spared(&mut self) {
        if self.slices.is_empty() {
            self.owing = None;
        }
    }

    /// Stops everything that is asked of it.
    pub(super) fn stop(&mut self) {
        for slice in self.slices.values() {
            slice.stop.cancel();
        }
        self.following = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(now: Instant) -> Source {
        Source::new("127.0.0.1:1".parse().unwrap(), true, now)
    }

    #[test]
    fn who_claims_and_does_not_give_is_not_believed_for_long() {
        let now = Instant::now();
        let mut source = source(now);
        assert!(source.keeps_its_word(now + WORD * 2), "nothing was asked of it");
        source.owes(now);
        source.owes(now + WORD / 2);
        assert!(source.keeps_its_word(now + WORD / 2));
        assert!(!source.keeps_its_word(now + WORD), "asking again is no reason to wait longer");
        source.came(now + WORD);
        assert!(source.keeps_its_word(now + WORD * 3));
    }

    #[test]
    fn what_is_claimed_again_is_no_news() {
        let mut source = source(Instant::now());
        let mut says = |bits: Vec<u8>| {
            source.held = Some((0, Held::Some(bits)));
            source.claims(0..8)
        };
        assert!(says(vec![0b0000_0101]));
        assert!(!says(vec![0b0000_0100]));
        assert!(!says(vec![0b0000_0101]));
        assert!(says(vec![0b0000_0010]));
    }
}
