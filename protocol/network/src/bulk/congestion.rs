//! How much may be under way to one peer: a congestion controller for quinn, between CUBIC and a rate model.
//!
//! CUBIC takes each lost packet for a full queue. On a line that also loses packets by chance it starves: at 100 Mbit/s, 50 ms
//! and 1 % loss it keeps 3 % of the line. Sending at a measured rate whatever is lost (quinn's BBR) floods home lines instead.
//! Here a loss counts as a full queue only when there *is* a queue, which the round trips tell:
//!
//! ```text
//! Opening --a queue, or no more rate from more window--> Steady <--10 s without--- Contested
//!    window doubles each round                    window -> cap |                     ^  window as CUBIC
//!                                                               `--loss with a queue--'
//! ```
//! - *cap*: measured delivery rate x (shortest round trip + a quarter of it), so the standing queue stays small and a line
//!   of which we are the only user never overflows;
//! - *loss with a queue* (the round's shortest trip is well above the line's), or a loss mark of the network: window x 0.7, as
//!   CUBIC, and for ten seconds CUBIC's growth without a cap, so that flows which fill queues do not push us out;
//! - *loss without a queue* is chance and changes nothing, unless so much is lost that the line must have no queue to
//!   speak of (a policer): then window x 0.7 and a smaller cap;
//! - the shortest round trip is measured anew every ten seconds with a round of a small window, as routes change.

mod cubic;
mod law;
#[cfg(test)]
mod tests;

use std::{
    any::Any,
    sync::Arc,
    time::{Duration, Instant},
};

use quinn::congestion::{Controller, ControllerFactory};
use quinn_proto::RttEstimator;

use self::law::Law;

/// Packets that a peer need not acknowledge one by one, and how long it may wait for more of them: an acknowledgement for every
/// second packet, as is usual, costs a home line 0.4 of a contribution on its slow way up while it receives fifteen others. One
/// for eleven cost a line of 100 Mbit/s some hundredths of its rate.
pub(super) const UNACKNOWLEDGED: (u32, Duration) = (4, Duration::from_millis(5));

/// Makes a controller for each connection.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SteadyConfig;

impl ControllerFactory for SteadyConfig {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Steady { law: Law::new(now, current_mtu.into()) })
    }
}

/// quinn's view of a [`Law`].
#[derive(Debug, Clone)]
struct Steady {
    law: Law,
}

impl Controller for Steady {
    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, _rtt: &RttEstimator) {
        self.law.acknowledged(now, sent, bytes, app_limited);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, persistent: bool, lost_bytes: u64) {
        self.law.lost(now, sent, lost_bytes, persistent);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.law.set_mtu(new_mtu.into());
    }

    fn window(&self) -> u64 {
        self.law.window()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        law::INITIAL_WINDOW
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
