//! What goes first: a member's line is for the round that is under way.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{sync::Notify, time::Instant};

/// A pause between two pieces is no reason for others to begin.
const PAUSE: Duration = Duration::from_millis(150);
/// A transfer of which nothing has come for so long holds nobody back: a peer that sends a byte now and then would hold back
/// everything less urgent for ever.
const STILL: Duration = Duration::from_secs(2);

/// How urgent a blob is. Transfers of a lower one give way while bytes of a higher one flow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Urgency {
    /// What will be wanted later: shards of the next round, archives.
    Later,
    /// What is wanted to go on at all: weights, the data of this round.
    #[default]
    Soon,
    /// Contributions of the round that is under way, and what a verdict waits for.
    Now,
}

impl Urgency {
    /// All of them, lowest first.
    pub(crate) const ALL: [Self; 3] = [Self::Later, Self::Soon, Self::Now];

    /// Its place among them, lowest first.
    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

/// How many transfers of each urgency have bytes flowing. Clones count together.
#[derive(Debug, Clone, Default)]
pub(super) struct Flowing(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    flowing: [AtomicUsize; 3],
    ended: Mutex<[Option<Instant>; 3]>,
    /// When bytes of each urgency last came.
    came: Mutex<[Option<Instant>; 3]>,
    changed: Notify,
}

/// One transfer, for as long as its bytes flow.
#[derive(Debug)]
pub(super) struct Flow {
    of: Flowing,
    urgency: Urgency,
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.of.0.ended.lock().unwrap_or_else(PoisonError::into_inner)[self.urgency.index()] =
            Some(Instant::now());
        if self.of.0.flowing[self.urgency.index()].fetch_sub(1, Ordering::AcqRel) == 1 {
            self.of.0.changed.notify_waiters();
        }
    }
}

impl Flowing {
    /// Counts a transfer until the guard is dropped.
    pub(super) fn begin(&self, urgency: Urgency, now: Instant) -> Flow {
        self.came(urgency, now);
        if self.0.flowing[urgency.index()].fetch_add(1, Ordering::AcqRel) == 0 {
            self.0.changed.notify_waiters();
        }
        Flow { of: self.clone(), urgency }
    }

    /// Whether something more urgent flows, or did a moment ago.
    pub(super) fn above(&self, urgency: Urgency, now: Instant) -> bool {
        let ended = self.0.ended.lock().unwrap_or_else(PoisonError::into_inner);
        (urgency.index() + 1..Urgency::ALL.len()).any(|above| {
            let flows = self.0.flowing[above].load(Ordering::Acquire) > 0
                && self.quiet(Urgency::ALL[above], now) < STILL;
            flows || ended[above].is_some_and(|ended| ended.elapsed() < PAUSE)
        })
    }

    /// Bytes of this urgency have come, by the clock of this process.
    pub(super) fn came(&self, urgency: Urgency, now: Instant) {
        self.0.came.lock().unwrap_or_else(PoisonError::into_inner)[urgency.index()] = Some(now);
    }

    /// How long nothing of this urgency or a higher one has come: as long as it is short, the line is in use.
    pub(super) fn quiet(&self, urgency: Urgency, now: Instant) -> Duration {
        let came = self.0.came.lock().unwrap_or_else(PoisonError::into_inner);
        let last = came[urgency.index()..].iter().flatten().max();
        last.map_or(Duration::MAX, |last| now.saturating_duration_since(*last))
    }

    /// Returns when transfers of an urgency next begin or end to flow, after this call.
    pub(super) async fn changed(&self) {
        self.0.changed.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_flows_holds_back_what_is_less_urgent_and_what_stands_still_does_not() {
        let (flowing, begun) = (Flowing::default(), Instant::now());
        assert!(!flowing.above(Urgency::Later, begun));
        let flow = flowing.begin(Urgency::Soon, begun);
        assert!(flowing.above(Urgency::Later, begun + STILL / 2));
        assert!(!flowing.above(Urgency::Soon, begun + STILL / 2), "others as urgent go on beside it");
        assert!(!flowing.above(Urgency::Later, begun + STILL), "nothing has come of it");
        flowing.came(Urgency::Soon, begun + STILL);
        assert!(flowing.above(Urgency::Later, begun + STILL), "it goes on");
        drop(flow);
    }
}
