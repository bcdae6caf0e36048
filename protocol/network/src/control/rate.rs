//! How fast one peer may speak to us.

use std::time::Duration;

use tokio::time::Instant;

/// What to do with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Take it.
    Take,
    /// Drop it: the peer is too fast.
    Drop,
    /// Close the connection: the peer goes on and on.
    Close,
}

/// A pace and how far it may be overrun.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Messages a second in the long run.
    pub(crate) per_second: u32,
    /// Messages at once after a quiet time.
    pub(crate) burst: u32,
}

/// Inbound requests of one peer. A node asks a few times a second at a round's end; a member that catches up reads the ledger
/// page by page, one request in flight, and stays well below.
pub(crate) const REQUEST_PACE: Pace = Pace { per_second: 50, burst: 100 };
/// Gossip that one peer forwards to us. With 100 members that each publish once a second, a neighbour forwards at most 100.
pub(crate) const GOSSIP_PACE: Pace = Pace { per_second: 200, burst: 400 };
/// Messages dropped without one second of rest in between after which the connection is closed.
pub(crate) const DROPS_BEFORE_CLOSE: u32 = 500;

/// A token bucket that remembers how long it has been insulted.
#[derive(Debug)]
pub(crate) struct Bucket {
    pace: Pace,
    tokens: f64,
    drops: u32,
    last: Instant,
}

impl Bucket {
    /// A full bucket.
    pub(crate) fn new(pace: Pace, now: Instant) -> Self {
        Self { pace, tokens: f64::from(pace.burst), drops: 0, last: now }
    }

    /// Whether it would behave like a new one.
    pub(crate) fn is_rested(&self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.last).as_secs_f64();
        elapsed >= 1.0
            && self.tokens + elapsed * f64::from(self.pace.per_second) >= f64::from(self.pace.burst)
    }

    /// Judges one message that came at `now`.
    pub(crate) fn take(&mut self, now: Instant) -> Verdict {
        let elapsed = now.saturating_duration_since(self.last);
        self.last = now;
        let refill = elapsed.as_secs_f64() * f64::from(self.pace.per_second);
        self.tokens = (self.tokens + refill).min(f64::from(self.pace.burst));
        if elapsed >= Duration::from_secs(1) {
            self.drops = 0;
        }
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Verdict::Take;
        }
        self.drops += 1;
        if self.drops > DROPS_BEFORE_CLOSE { Verdict::Close } else { Verdict::Drop }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_the_pace_rules_then_the_door_closes() {
        let start = Instant::now();
        let mut bucket = Bucket::new(Pace { per_second: 10, burst: 20 }, start);
        assert!((0..20).all(|_| bucket.take(start) == Verdict::Take));
        assert_eq!(bucket.take(start), Verdict::Drop);
        let later = start + Duration::from_millis(500);
        assert_eq!((0..20).filter(|_| bucket.take(later) == Verdict::Take).count(), 5);
        let verdicts: Vec<_> = (0..=DROPS_BEFORE_CLOSE).map(|_| bucket.take(later)).collect();
        assert_eq!(verdicts.last(), Some(&Verdict::Close));
        // after a rest the peer is as good as new
        assert!(!bucket.is_rested(later + Duration::from_secs(1)));
        assert!(bucket.is_rested(later + Duration::from_secs(2)));
        assert_eq!(bucket.take(later + Duration::from_secs(2)), Verdict::Take);
    }
}
