//! What peers have done wrong, and when that is forgiven. Pure; the driver acts on it.
//!
//! ```text
//! offence --> points --half of them gone every ten minutes--> forgotten
//!                |
//!                `-- a hundred: banned; a minute the first time, twice as long each further time, an hour at most
//! ```
//!
//! Points live in memory: what a peer did can be seen again, and a restart forgives it. What can be proven (false work) is
//! in the ledger, and does not end.

use std::{collections::BTreeMap, time::Duration};

use libp2p::PeerId;
use tokio::time::Instant;

/// From this many points on a peer is banned.
const BAN_AT: f64 = 100.0;
/// After this long half of the points are forgiven.
const HALF_LIFE: Duration = Duration::from_secs(600);
/// The first ban.
const FIRST_BAN: Duration = Duration::from_secs(60);
/// The longest ban.
const LONGEST_BAN: Duration = Duration::from_secs(3600);
/// Points below which a peer without a ban behind it is as good as a new one.
const NOTHING: f64 = 1.0;
/// After this long without an offence former bans are forgotten, too.
const CLEAN: Duration = Duration::from_secs(6 * 3600);
/// Peers that are remembered; the least guilty are forgotten first.
const MAX_PEERS: usize = 4096;

/// Something that a peer should not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Offence {
    /// It speaks another protocol, or does not say who it is. Perhaps only an old version, or a stranger on our port.
    Stranger,
    /// Its bytes are no message, or longer than any.
    Garbage,
    /// It sends without end.
    Flood,
    /// What it signed is false: a forged or replayed announcement, bytes that their hash disproves.
    Lie,
}

impl Offence {
    const fn points(self) -> f64 {
        match self {
            Self::Stranger => 25.0,
            Self::Garbage => 10.0,
            Self::Flood => 40.0,
            Self::Lie => 100.0,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Record {
    points: f64,
    at: Instant,
    bans: u32,
}

impl Record {
    fn points_at(&self, now: Instant) -> f64 {
        let age = now.saturating_duration_since(self.at).as_secs_f64();
        self.points * 0.5_f64.powf(age / HALF_LIFE.as_secs_f64())
    }

    fn is_forgotten(&self, now: Instant) -> bool {
        let clean = self.bans == 0 || now.saturating_duration_since(self.at) >= CLEAN;
        clean && self.points_at(now) < NOTHING
    }
}

/// The points of all peers.
#[derive(Debug, Default)]
pub(crate) struct Scores(BTreeMap<PeerId, Record>);

impl Scores {
    /// Takes note of an offence; says for how long the peer is banned, if it is.
    pub(crate) fn blame(&mut self, peer: PeerId, offence: Offence, now: Instant) -> Option<Duration> {
        if self.0.len() >= MAX_PEERS && !self.0.contains_key(&peer) {
            self.make_room(now);
        }
        let fresh = Record { points: 0.0, at: now, bans: 0 };
        let record = self.0.entry(peer).or_insert(fresh);
        if record.is_forgotten(now) {
            *record = fresh;
        }
        record.points = record.points_at(now) + offence.points();
        record.at = now;
        if record.points < BAN_AT {
            return None;
        }
        let ban = FIRST_BAN.saturating_mul(1 << record.bans.min(10)).min(LONGEST_BAN);
        record.bans = record.bans.saturating_add(1);
        record.points = 0.0; // it has been punished for these
        Some(ban)
    }

    fn make_room(&mut self, now: Instant) {
        self.0.retain(|_, record| !record.is_forgotten(now));
        while self.0.len() >= MAX_PEERS {
            let guilt = |record: &Record| (record.bans, record.points_at(now));
            let least = self.0.iter().min_by(|(_, one), (_, two)| {
                let (one, two) = (guilt(one), guilt(two));
                one.0.cmp(&two.0).then(one.1.total_cmp(&two.1))
            });
            let Some(peer) = least.map(|(peer, _)| *peer) else { return };
            self.0.remove(&peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn offences_add_up_to_a_ban_that_grows_with_repetition() {
        let (mut scores, peer, mut now) = (Scores::default(), PeerId::random(), Instant::now());
        assert_eq!(scores.blame(peer, Offence::Flood, now), None);
        assert_eq!(scores.blame(peer, Offence::Flood, now), None);
        assert_eq!(scores.blame(peer, Offence::Flood, now), Some(MINUTE));
        let mut bans = Vec::new();
        for _ in 0..8 {
            now += MINUTE;
            bans.push(scores.blame(peer, Offence::Lie, now).unwrap() / 60);
        }
        assert_eq!(bans, [2, 4, 8, 16, 32, 60, 60, 60].map(Duration::from_secs));
    }

    #[test]
    fn points_fade_and_a_clean_day_forgives_all() {
        let (mut scores, peer, start) = (Scores::default(), PeerId::random(), Instant::now());
        // one flood every half-life never adds up: 40 + 20 + 10 + ... < 100
        for times in 0..50 {
            assert_eq!(scores.blame(peer, Offence::Flood, start + HALF_LIFE * times), None);
        }
        assert_eq!(scores.blame(peer, Offence::Lie, start + HALF_LIFE * 50), Some(MINUTE));
        let later = start + HALF_LIFE * 50 + CLEAN;
        assert_eq!(scores.blame(peer, Offence::Lie, later), Some(MINUTE), "the first ban is forgotten");
    }

    #[test]
    fn a_crowd_of_names_does_not_fill_the_memory_and_does_not_push_out_the_guilty() {
        let (mut scores, guilty, now) = (Scores::default(), PeerId::random(), Instant::now());
        scores.blame(guilty, Offence::Lie, now);
        for _ in 0..2 * MAX_PEERS {
            scores.blame(PeerId::random(), Offence::Garbage, now);
        }
        assert!(scores.0.len() <= MAX_PEERS);
        assert_eq!(scores.blame(guilty, Offence::Lie, now), Some(2 * MINUTE));
    }
}
