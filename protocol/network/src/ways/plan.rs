//! What is known of the way to one member, and what to do about it.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use quinn::Connection;
use talkoot_protocol::identity::MemberId;
use tokio::time::Instant;

use super::close_double;
use crate::control::route::Route;

/// Pause after a failed attempt; it doubles with each further one.
const AGAIN: Duration = Duration::from_secs(2);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(120);
/// How long the higher id waits for the lower one to begin.
const HIGHER_WAITS: Duration = Duration::from_secs(12);
/// Failed attempts after which there is no way, for the time being.
const HOPELESS: u32 = 3;

/// What to do about a way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plan {
    /// Dial the member, and keep the connection open for it to use.
    Hold(SocketAddr),
    /// Offer it to open a hole.
    Punch,
}

/// A connection that is the way to a member.
#[derive(Debug)]
struct Found {
    connection: Connection,
    /// Whether we made it.
    ours: bool,
}

/// The way to one member.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) route: Route,
    found: Option<Found>,
    /// Failed attempts since the last success.
    pub(super) tries: u32,
    since: Instant,
    next: Instant,
    busy: bool,
}

impl Way {
    pub(super) fn new(route: Route, now: Instant) -> Self {
        Self { route, found: None, tries: 0, since: now, next: now, busy: false }
    }

    /// The live connection that is the way, if there is one.
    pub(super) fn connection(&mut self) -> Option<Connection> {
        if self.found.as_ref().is_some_and(|found| found.connection.close_reason().is_some()) {
            self.found = None;
            let now = Instant::now();
            (self.since, self.next) = (now, now);
        }
        self.found.as_ref().map(|found| found.connection.clone())
    }

    /// Where blobs are asked for.
    pub(super) fn address(&mut self) -> Option<SocketAddr> {
        match self.connection() {
            Some(connection) => Some(connection.remote_address()),
            None => dialable(&self.route),
        }
    }

    /// Where a hole leads, if the way is one: a connection between two that nobody can dial.
    pub(super) fn punched(&mut self, private: bool) -> Option<SocketAddr> {
        let connection = self.connection().filter(|_| private && self.route.hidden)?;
        Some(connection.remote_address()).filter(|address| !is_near(address))
    }

    pub(super) fn has_failed(&mut self) -> bool {
        self.tries >= HOPELESS && self.connection().is_none()
    }

    /// A connection was made, by us or by the member. When there are two, the one that the lower id opened is kept.
    pub(super) fn found(&mut self, me: MemberId, member: MemberId, connection: Connection, ours: bool) {
        if ours {
            self.busy = false;
        }
        let keeps_old = self.connection().is_some_and(|old| {
            let old_is_ours = self.found.as_ref().is_some_and(|found| found.ours);
            old.stable_id() == connection.stable_id() || old_is_ours == ours || old_is_ours == (me < member)
        });
        self.tries = 0;
        if keeps_old {
            return;
        }
        if let Some(old) = self.found.take() {
            close_double(&old.connection);
        }
        self.found = Some(Found { connection, ours });
    }

    pub(super) fn failed(&mut self, now: Instant) {
        self.busy = false;
        self.next = now + AGAIN.saturating_mul(1 << self.tries.min(6)).min(LONGEST);
        self.tries = self.tries.saturating_add(1);
    }

    /// What to do now, if anything; then it counts as being done. `private`: we cannot be dialled.
    pub(super) fn plan(
        &mut self,
        me: MemberId,
        member: MemberId,
        private: bool,
        now: Instant,
    ) -> Option<Plan> {
        let plan = plan(&self.route, private)?;
        let waits = plan == Plan::Punch && me > member && now.duration_since(self.since) < HIGHER_WAITS;
        if self.busy || waits || now < self.next || self.connection().is_some() {
            return None;
        }
        self.busy = true;
        Some(plan)
    }
}

/// Whether an address is one of a local network, where there is no router between.
fn is_near(address: &SocketAddr) -> bool {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => ip.is_private() || ip.is_loopback() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_loopback() || ip.is_unicast_link_local(),
    }
}

/// The address at which a member may be dialled without further ado. A packet that comes to a router unasked may make it take
/// the very port that a hole would need for itself, so that members that are hidden are dialled on their own network only.
pub(super) fn dialable(route: &Route) -> Option<SocketAddr> {
    route.address.filter(|address| !route.hidden || is_near(address))
}

/// What a route asks of us.
fn plan(route: &Route, private: bool) -> Option<Plan> {
    match (route.address, route.hidden) {
        // we can be dialled, and it will
        _ if !private && route.address.is_some() => None,
        (Some(address), false) => Some(Plan::Hold(address)),
        (_, true) | (None, _) => Some(Plan::Punch),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: &str = "192.0.2.1:7";

    fn route(address: bool, hidden: bool) -> Route {
        Route { session: 1, address: address.then(|| ADDRESS.parse().unwrap()), hidden, seeder: false }
    }

    #[test]
    fn who_can_be_dialled_waits_and_who_cannot_calls_or_punches() {
        assert_eq!(plan(&route(true, false), false), None);
        assert_eq!(plan(&route(true, true), false), None);
        assert_eq!(plan(&route(true, false), true), Some(Plan::Hold(ADDRESS.parse().unwrap())));
        assert_eq!(plan(&route(true, true), true), Some(Plan::Punch));
        assert_eq!(plan(&route(false, true), true), Some(Plan::Punch));
        // nothing but a circuit leads there, whatever we think of ourselves
        assert_eq!(plan(&route(false, true), false), Some(Plan::Punch));
    }

    #[test]
    fn a_hidden_member_is_dialled_on_its_own_network_only() {
        let at =
            |address: &str, hidden| Route { address: Some(address.parse().unwrap()), ..route(true, hidden) };
        assert!(dialable(&at("203.0.113.6:7", false)).is_some());
        assert_eq!(dialable(&at("203.0.113.6:7", true)), None, "its router would hear of it first");
        assert!(dialable(&at("192.168.1.2:7", true)).is_some());
        assert!(dialable(&at("[fd00::1]:7", true)).is_some());
        assert_eq!(dialable(&at("[2001:db8::1]:7", true)), None);
    }

    #[test]
    fn the_lower_id_begins_and_failures_make_patient() {
        let (low, high) = (MemberId::from_bytes([1; 32]), MemberId::from_bytes([2; 32]));
        let mut now = Instant::now();
        let mut way = Way::new(route(false, true), now);
        assert_eq!(way.plan(high, low, true, now), None);
        assert_eq!(way.plan(low, high, true, now), Some(Plan::Punch));
        assert_eq!(way.plan(low, high, true, now), None, "it is being done");
        for tries in 1..=HOPELESS {
            way.failed(now);
            assert_eq!(way.has_failed(), tries >= HOPELESS);
            assert_eq!(way.plan(low, high, true, now), None);
            now += LONGEST;
            assert_eq!(way.plan(low, high, true, now), Some(Plan::Punch));
        }
        let mut way = Way::new(route(false, true), now);
        assert_eq!(
            way.plan(high, low, true, now + HIGHER_WAITS),
            Some(Plan::Punch),
            "the lower one does not begin"
        );
    }
}
