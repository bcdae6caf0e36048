//! The growth of CUBIC (RFC 9438) after a reduction, in bytes and seconds.

use std::time::{Duration, Instant};

/// What remains of the window after a loss.
pub(super) const BETA: f64 = 0.7;
/// RFC 9438's constant, in packets per second cubed.
const C: f64 = 0.4;

/// One epoch of growth, from one reduction to the next.
#[derive(Debug, Clone)]
pub(super) struct Cubic {
    since: Instant,
    /// The window at which the line was full, in bytes.
    full: f64,
    /// Seconds until the window is back there.
    back: f64,
    /// The window right after the reduction, in bytes.
    start: f64,
}

impl Cubic {
    /// An epoch that begins now, after a reduction from `window` bytes; `last` is the epoch before.
    pub(super) fn after(now: Instant, window: u64, last: Option<&Self>, mtu: u64) -> Self {
        let window = window as f64;
        // a line that was fuller the time before has a new user: leave room for it (RFC 9438, 4.7)
        let full = match last {
            Some(last) if window < last.full => window * (1.0 + BETA) / 2.0,
            _ => window,
        };
        let start = window * BETA;
        let back = ((full - start).max(0.0) / mtu as f64 / C).cbrt();
        Self { since: now, full, back, start }
    }

    /// The window in bytes that CUBIC wants at `now` on a line with this round trip.
    pub(super) fn window(&self, now: Instant, rtt: Duration, mtu: u64) -> u64 {
        let (mtu, time) = (mtu as f64, now.saturating_duration_since(self.since));
        let cubic = self.full + C * ((time + rtt).as_secs_f64() - self.back).powi(3) * mtu;
        // as a NewReno flow with the same average would grow
        let slope = 3.0 * (1.0 - BETA) / (1.0 + BETA);
        let reno = self.start + slope * mtu * time.as_secs_f64() / rtt.as_secs_f64().max(1e-4);
        cubic.max(reno).max(self.start) as u64
    }
}
