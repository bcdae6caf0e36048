//! How many slices are asked of one peer at once, by all downloads together.
//!
//! Each further one waits at the peer, behind those before it. Were each download to count by itself, a member that fetches the
//! contributions of a round would have all of them in flight at once: the way of a slow line would be full for longer than
//! anybody waits for an answer, and what is on its way for so long looks like what does not come. Downloads that are as urgent
//! take turns.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use talkoot_protocol::identity::MemberId;
use tokio::{sync::Notify, time::Instant};

use super::urgency::Urgency;

/// Slices of one urgency or a higher one: two keep a line busy, more do where a piece is shorter than a round trip of the line.
const DEPTH: std::ops::RangeInclusive<usize> = 2..=8;
/// A piece that came within this time was too short for its line.
const QUICK: Duration = Duration::from_millis(300);
/// A piece that took this long waited for those before it.
const LONG: Duration = Duration::from_secs(3);
/// When a peer that has too much to do is asked again.
const BUSY: Duration = Duration::from_millis(250);
/// Who waits for a place says so again more often than this.
const WAITS: Duration = Duration::from_millis(150);

/// What is asked of one peer.
#[derive(Debug)]
struct Asked {
    /// Slices under way, of each download that has any.
    open: BTreeMap<u64, (Urgency, usize)>,
    /// Downloads that found no place, and when they last looked.
    waiting: BTreeMap<u64, (Urgency, Instant, Weak<Notify>)>,
    /// Most slices at once.
    most: usize,
    /// It has too much to do until then, or so it said.
    busy_until: Option<Instant>,
}

impl Asked {
    fn of(&self, download: u64) -> usize {
        self.open.get(&download).map_or(0, |(_, count)| *count)
    }

    /// Whether the download may have one more: what is less urgent takes none from what is more, and who has fewer than others
    /// comes first.
    fn has_place(&self, download: u64, urgency: Urgency, now: Instant) -> bool {
        let open: usize =
            self.open.values().filter(|(other, _)| *other >= urgency).map(|(_, count)| count).sum();
        let own = self.of(download);
        let mut first = self.waiting.iter().filter(|(other, (other_urgency, when, wake))| {
            **other != download
                && now.saturating_duration_since(*when) < WAITS
                && wake.strong_count() > 0
                && (*other_urgency > urgency || (*other_urgency == urgency && self.of(**other) < own))
        });
        open < self.most && self.busy_until.is_none_or(|until| now >= until) && first.next().is_none()
    }

    /// Wakes the one whose turn it is.
    fn wake(&mut self) {
        self.waiting.retain(|_, (.., wake)| wake.strong_count() > 0);
        let next = self.waiting.iter().max_by_key(|(download, (urgency, when, _))| {
            (*urgency, std::cmp::Reverse((self.of(**download), *when)))
        });
        if let Some(wake) = next.and_then(|(_, (.., wake))| wake.upgrade()) {
            wake.notify_one();
        }
    }
}

/// All peers. Clones count together.
#[derive(Debug, Clone, Default)]
pub(super) struct Depths(Arc<All>);

#[derive(Debug, Default)]
struct All {
    peers: Mutex<BTreeMap<MemberId, Asked>>,
    downloads: AtomicU64,
}

/// A download among those that share the peers.
#[derive(Debug)]
pub(super) struct Seat {
    of: Depths,
    download: u64,
    urgency: Urgency,
    wake: Arc<Notify>,
}

/// One slice that is asked for, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    of: Depths,
    peer: MemberId,
    download: u64,
}

impl Depths {
    fn peers(&self) -> MutexGuard<'_, BTreeMap<MemberId, Asked>> {
        self.0.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A seat for one more download.
    pub(super) fn join(&self, urgency: Urgency) -> Seat {
        let download = self.0.downloads.fetch_add(1, Ordering::Relaxed);
        Seat { of: self.clone(), download, urgency, wake: Arc::default() }
    }
}

impl Seat {
    /// A place for one more slice of the peer. If there is none, the download waits for one, and has to ask again.
    pub(super) fn enter(&self, peer: MemberId, now: Instant) -> Option<Place> {
        let mut peers = self.of.peers();
        let asked = peers.entry(peer).or_insert_with(|| Asked {
            open: BTreeMap::new(),
            waiting: BTreeMap::new(),
            most: *DEPTH.start(),
            busy_until: None,
        });
        if !asked.has_place(self.download, self.urgency, now) {
            asked.waiting.insert(self.download, (self.urgency, now, Arc::downgrade(&self.wake)));
            return None;
        }
        asked.waiting.remove(&self.download);
        asked.open.entry(self.download).or_insert((self.urgency, 0)).1 += 1;
        Some(Place { of: self.of.clone(), peer, download: self.download })
    }

    /// What wakes the download: for a place that may be there, or for anything else that it waits for.
    pub(super) fn waker(&self) -> Arc<Notify> {
        self.wake.clone()
    }

    /// Returns when there may be a place that was waited for, or something else woke the download.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.change(|asked| {
            if let Some((_, count)) = asked.open.get_mut(&self.download) {
                *count -= 1;
                if *count == 0 {
                    asked.open.remove(&self.download);
                }
            }
            asked.wake();
        });
    }
}

impl Place {
    fn change(&self, how: impl FnOnce(&mut Asked)) {
        if let Some(asked) = self.of.peers().get_mut(&self.peer) {
            how(asked);
        }
    }

    /// The piece came: learns how many to ask for at once.
    pub(super) fn came(&self, took: Duration) {
        self.change(|asked| {
            if took < QUICK {
                asked.most = (asked.most + 1).min(*DEPTH.end());
            } else if took > LONG {
                asked.most = (asked.most - 1).max(*DEPTH.start());
            }
        });
    }

    /// The peer has what it said, and no time: it is asked for less, in a while.
    pub(super) fn busy(&self, now: Instant) {
        self.change(|asked| {
            asked.busy_until = Some(now + BUSY);
            asked.most = (asked.most - 1).max(*DEPTH.start());
        });
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use talkoot_protocol::identity::Keypair;

    use super::*;

    fn peer(seed: u8) -> MemberId {
        Keypair::from_seed([seed; 32]).id()
    }

    #[test]
    fn places_are_shared_by_all_downloads_and_come_back() {
        let (depths, now) = (Depths::default(), Instant::now());
        let (one, two) = (depths.join(Urgency::Soon), depths.join(Urgency::Soon));
        let held = [one.enter(peer(1), now).unwrap(), two.enter(peer(1), now).unwrap()];
        assert!(one.enter(peer(1), now).is_none() && two.enter(peer(1), now).is_none());
        assert!(one.enter(peer(2), now).is_some(), "another peer is another line");
        drop(held);
        assert!(one.enter(peer(1), now).is_some());
    }

    #[test]
    fn what_is_less_urgent_takes_no_place_from_what_is_more() {
        let (depths, now) = (Depths::default(), Instant::now());
        let seats = Urgency::ALL.map(|urgency| depths.join(urgency));
        let _later = [(); 2].map(|()| seats[0].enter(peer(1), now).unwrap());
        assert!(seats[0].enter(peer(1), now).is_none());
        let _now = [(); 2].map(|()| seats[2].enter(peer(1), now).unwrap());
        assert!(seats[2].enter(peer(1), now).is_none() && seats[1].enter(peer(1), now).is_none());
    }

    #[test]
    fn downloads_take_turns_and_nobody_waits_for_who_has_gone() {
        let (depths, now) = (Depths::default(), Instant::now());
        let (long, short) = (depths.join(Urgency::Soon), depths.join(Urgency::Soon));
        let mut held: Vec<_> = (0..2).map(|_| long.enter(peer(1), now).unwrap()).collect();
        assert!(short.enter(peer(1), now).is_none());
        assert!(short.woken().now_or_never().is_none());
        held.pop();
        assert!(short.woken().now_or_never().is_some(), "it is told of the place");
        assert!(long.enter(peer(1), now).is_none(), "which is for it");
        let its = short.enter(peer(1), now).unwrap();
        drop(its);
        held.push(long.enter(peer(1), now).expect("nobody else waits now"));
        assert!(short.enter(peer(1), now).is_none());
        held.clear();
        let again = [(); 2].map(|()| long.enter(peer(1), now + WAITS));
        assert!(again.iter().all(Option::is_some), "who does not ask again wants it no more");
        drop(again);
        drop(short.enter(peer(1), now).unwrap());
        held.extend([(); 2].map(|()| long.enter(peer(1), now).unwrap()));
        assert!(short.enter(peer(1), now).is_none());
        drop(short);
        held.clear();
        let again = [(); 2].map(|()| long.enter(peer(1), now));
        assert!(again.iter().all(Option::is_some), "nor does who has gone");
    }

    #[test]
    fn quick_pieces_make_more_places_and_slow_ones_fewer_within_bounds() {
        let (depths, now) = (Depths::default(), Instant::now());
        let seat = depths.join(Urgency::Now);
        let count = || std::iter::from_fn(|| seat.enter(peer(1), now)).collect::<Vec<_>>().len();
        let learn = |took| seat.enter(peer(1), now).unwrap().came(took);
        assert_eq!(count(), *DEPTH.start());
        learn(QUICK / 2);
        assert_eq!(count(), *DEPTH.start() + 1);
        learn(QUICK * 2);
        assert_eq!(count(), *DEPTH.start() + 1);
        (0..20).for_each(|_| learn(QUICK / 2));
        assert_eq!(count(), *DEPTH.end());
        (0..20).for_each(|_| learn(LONG * 2));
        assert_eq!(count(), *DEPTH.start());
    }

    #[test]
    fn a_busy_peer_is_asked_for_nothing_for_a_while() {
        let (depths, now) = (Depths::default(), Instant::now());
        let seat = depths.join(Urgency::Now);
        seat.enter(peer(1), now).unwrap().busy(now);
        assert!(seat.enter(peer(1), now + BUSY / 2).is_none());
        assert!(seat.enter(peer(1), now + BUSY).is_some());
    }
}
