//! Time as far as this process ran.
//!
//! On a busy machine, or one that slept, a process may not run for seconds. That nothing came meanwhile says nothing about the
//! peers: what they sent waits to be read. So silence is measured by a clock that stands still while nobody looks at it.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Downloads look at the clock more often than this; what is longer was a pause.
const GAP: Duration = Duration::from_millis(250);

/// The clock. Between two looks at it pass at most [`GAP`].
#[derive(Debug)]
pub(super) struct Awake(Mutex<Hands>);

#[derive(Debug)]
struct Hands {
    looked: Instant,
    /// What was slept through.
    missed: Duration,
}

impl Awake {
    pub(super) fn new(now: Instant) -> Self {
        Self(Mutex::new(Hands { looked: now, missed: Duration::ZERO }))
    }

    /// The time: behind the real one by all pauses so far. To be compared with other readings of this clock only.
    pub(super) fn now(&self) -> Instant {
        self.at(Instant::now())
    }

    fn at(&self, now: Instant) -> Instant {
        let mut hands = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let gap = now.saturating_duration_since(hands.looked);
        hands.missed += gap.saturating_sub(GAP);
        hands.looked = hands.looked.max(now);
        // never before the clock was made: all that was missed came after it
        hands.looked - hands.missed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_clock_runs_with_the_real_one_but_for_pauses(gaps in prop::collection::vec(0_u64..5_000, 1..50)) {
            let begin = Instant::now();
            let (clock, mut real, mut own) = (Awake::new(begin), begin, begin);
            for gap in gaps {
                let gap = Duration::from_millis(gap);
                real += gap;
                let now = clock.at(real);
                prop_assert_eq!(now, own + gap.min(GAP));
                own = now;
            }
        }
    }

    #[test]
    fn a_second_without_running_is_no_second_of_silence() {
        let begin = Instant::now();
        let clock = Awake::new(begin);
        let before = clock.at(begin + Duration::from_millis(50));
        let after = clock.at(begin + Duration::from_secs(30));
        assert!(after - before <= GAP);
        // two tasks that look one after the other do not turn the clock back
        assert_eq!(clock.at(begin + Duration::from_secs(29)), after);
    }
}
