//! What is known of one peer as a source of one blob.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::wire::Held;

/// When a peer that could not help is asked again: a round's blobs appear within fractions of a second of their announcement.
const AGAIN: Duration = Duration::from_millis(250);
/// The same for a seeder: it is about to have what is wanted.
const AGAIN_SEEDER: Duration = Duration::from_millis(100);
/// The pause doubles so often while the peer still cannot help: after that, asking is no race any more.
const MAX_DOUBLINGS: u32 = 2;
/// Pieces asked of one peer at once: two keep a line busy, more do where a piece is shorter than a round trip of the line.
const DEPTH: std::ops::RangeInclusive<usize> = 2..=8;
/// A piece that came within this time was too short for its line.
const QUICK: Duration = Duration::from_millis(300);
/// A piece that took this long waited for those before it.
const LONG: Duration = Duration::from_secs(3);

/// One peer.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) address: SocketAddr,
    /// Whether it is there for others.
    pub(super) seeder: bool,
    /// What it says it has, from piece `first` on; nothing before it was asked.
    pub(super) held: Option<(u64, Held)>,
    /// It is being asked what it has.
    pub(super) asked: Option<CancellationToken>,
    /// Pieces that it is asked for, since when, and how to stop it.
    pub(super) slices: BTreeMap<u64, (Instant, CancellationToken)>,
    /// Pieces that it said others have.
    pub(super) elsewhere: BTreeMap<u64, Instant>,
    /// It has too much to do until then, or so it said.
    busy_until: Option<Instant>,
    misses: u32,
    again: Instant,
    depth: usize,
}

impl Source {
    pub(super) fn new(address: SocketAddr, seeder: bool) -> Self {
        Self {
            address,
            seeder,
            held: None,
            asked: None,
            slices: BTreeMap::new(),
            elsewhere: BTreeMap::new(),
            busy_until: None,
            misses: 0,
            again: Instant::now(),
            depth: *DEPTH.start(),
        }
    }

    /// Whether it has the piece, as far as it said.
    pub(super) fn has(&self, piece: u64) -> bool {
        self.held.as_ref().is_some_and(|(first, held)| match held {
            Held::Whole => true,
            _ => piece.checked_sub(*first).is_some_and(|index| held.has(index)),
        })
    }

    /// Whether it may be asked now.
    pub(super) fn is_due(&self) -> bool {
        Instant::now() >= self.again
    }

    /// Whether another piece may be asked of it.
    pub(super) fn is_free(&self) -> bool {
        self.slices.len() < self.depth && self.busy_until.is_none_or(|until| Instant::now() >= until)
    }

    /// It has what it said, and no time: it is asked for less, in a while.
    pub(super) fn note_busy(&mut self) {
        self.busy_until = Some(Instant::now() + AGAIN);
        self.depth = (self.depth - 1).max(*DEPTH.start());
    }

    /// It could not help: it is left in peace for a while.
    pub(super) fn missed(&mut self) {
        let base = if self.seeder { AGAIN_SEEDER } else { AGAIN };
        self.again = Instant::now() + base * (1 << self.misses.min(MAX_DOUBLINGS));
        self.misses += 1;
    }

    /// It helped, or deserves another try.
    pub(super) fn forgive(&mut self) {
        self.misses = 0;
        self.again = Instant::now();
    }

    /// A piece came: learns how many to ask for at once.
    pub(super) fn came(&mut self, took: Duration) {
        self.forgive();
        if took < QUICK {
            self.depth = (self.depth + 1).min(*DEPTH.end());
        } else if took > LONG {
            self.depth = (self.depth - 1).max(*DEPTH.start());
        }
    }

    /// Stops everything that is asked of it.
    pub(super) fn stop(&mut self) {
        for (_, stop) in self.slices.values() {
            stop.cancel();
        }
        if let Some(asked) = &self.asked {
            asked.cancel();
        }
    }
}
