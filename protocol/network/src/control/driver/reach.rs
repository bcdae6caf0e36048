//! Whether others can dial us, and what to do when they cannot: be met through relays.

use std::{collections::BTreeMap, time::Duration};

use libp2p::{
    Multiaddr, PeerId, autonat, core::transport::ListenerId, identify, multiaddr::Protocol, relay,
    swarm::ConnectionId,
};
use tokio::time::Instant;

use super::{
    Driver,
    address::{Way, ip_of, way_of},
    replace,
};
use crate::control::reach::{ReachStatus, Reachability};

/// Relays that we may be met through at once: one may go.
const RELAYS: usize = 2;
/// Pause before a relay that did not take us is asked again.
const AGAIN: Duration = Duration::from_secs(5);

/// What is known of how others see us.
#[derive(Debug, Default)]
pub(super) struct Reach {
    /// Somebody saw us at an address that is not ours: there is a router between.
    translated: bool,
    /// Somebody dialled us back.
    confirmed: bool,
    /// Nobody could, so often.
    failures: u32,
    /// Where connections that we dialled without a relay go to.
    outgoing: BTreeMap<ConnectionId, Multiaddr>,
    /// Members that carry others' connections, and where we reach them.
    relays: BTreeMap<PeerId, Multiaddr>,
    /// Where we are met, and since when we ask.
    reserved: BTreeMap<PeerId, ListenerId>,
    asked: BTreeMap<PeerId, Instant>,
}

impl Reach {
    pub(super) fn dialled(&mut self, connection: ConnectionId, address: Multiaddr) {
        self.outgoing.insert(connection, address);
    }

    pub(super) fn closed(&mut self, connection: ConnectionId) {
        self.outgoing.remove(&connection);
    }

    fn reachability(&self) -> Reachability {
        match (self.confirmed, self.translated || self.failures > 0) {
            (true, _) => Reachability::Public,
            (false, true) => Reachability::Private,
            (false, false) => Reachability::Unknown,
        }
    }
}

impl Driver {
    /// One of our own addresses.
    pub(super) fn on_own_address(&mut self, address: Multiaddr) {
        // whoever carries others has to tell them where; the loopback is nobody else's, unless it is all that there is
        let ours_alone =
            self.listen.ip().is_unspecified() && ip_of(&address).is_some_and(|ip| ip.is_loopback());
        if self.seeder && self.announced.is_empty() && !ours_alone {
            self.swarm.add_external_address(address.clone());
        }
        if !self.listening.contains(&address) {
            self.listening.push(address);
        }
    }

    /// Learns from an introduction how the peer sees us, and whether it is a relay.
    pub(super) fn learn_reach(&mut self, peer: PeerId, connection: ConnectionId, info: &identify::Info) {
        let Some(there) = self.reach.outgoing.get(&connection) else { return };
        let observed = ip_of(&info.observed_addr).map(|ip| ip.to_canonical());
        if let Some(ip) = observed
            && !self.listening.is_empty()
            && !self.listening.iter().chain(&self.announced).any(|own| ip_of(own) == Some(ip))
        {
            self.reach.translated = true;
        }
        let mut there = there.clone();
        if matches!(there.iter().last(), Some(Protocol::P2p(_))) {
            there.pop();
        }
        if info.protocols.contains(&relay::HOP_PROTOCOL_NAME)
            && matches!(way_of(&there), Some(Way::Quic | Way::Tcp))
        {
            self.reach.relays.insert(peer, there);
        }
        self.show_reach();
    }

    pub(super) fn on_dialled_back(&mut self, event: &autonat::v2::client::Event) {
        // whether somebody can be met through a relay says nothing about being dialled
        if !matches!(way_of(&event.tested_addr), Some(Way::Quic | Way::Tcp)) {
            return;
        }
        match &event.result {
            Ok(()) => self.reach.confirmed = true,
            Err(_) => self.reach.failures = self.reach.failures.saturating_add(1),
        }
        tracing::debug!(address = %event.tested_addr, result = ?event.result, "a member tried to dial us");
        self.show_reach();
    }

    fn show_reach(&self) {
        let status =
            ReachStatus { reachability: self.reach.reachability(), relays: self.reach.reserved.len() };
        let before = self.shown.reach.borrow().reachability;
        if before != status.reachability {
            tracing::info!(reachability = %status.reachability, "how others can reach this member");
        }
        self.shown.reach.send_if_modified(|shown| replace(shown, status));
    }

    /// Asks relays to be met through them while nobody can dial us; leaves them when somebody can.
    pub(super) fn reserve(&mut self, now: Instant) {
        match self.reach.reachability() {
            Reachability::Unknown => return,
            Reachability::Public => {
                for listener in std::mem::take(&mut self.reach.reserved).into_values() {
                    self.swarm.remove_listener(listener);
                }
                return self.show_reach();
            }
            Reachability::Private => {}
        }
        let roster = &self.roster;
        self.reach.relays.retain(|peer, _| roster.is_direct(peer));
        self.reach.asked.retain(|_, then| now.duration_since(*then) < AGAIN);
        let free: Vec<_> = self
            .reach
            .relays
            .iter()
            .filter(|(peer, _)| {
                !self.reach.reserved.contains_key(peer) && !self.reach.asked.contains_key(peer)
            })
            .map(|(peer, address)| (*peer, address.clone()))
            .take(RELAYS.saturating_sub(self.reach.reserved.len()))
            .collect();
        for (peer, address) in free {
            self.reach.asked.insert(peer, now);
            match self.swarm.listen_on(address.with(Protocol::P2p(peer)).with(Protocol::P2pCircuit)) {
                Ok(listener) => drop(self.reach.reserved.insert(peer, listener)),
                Err(error) => tracing::debug!(%peer, %error, "a relay is not asked"),
            }
        }
        self.show_reach();
    }

    /// A relay has gone, or did not take us.
    pub(super) fn on_listener_closed(&mut self, listener: ListenerId) {
        self.reach.reserved.retain(|_, known| *known != listener);
        self.show_reach();
    }
}
