//! Who is let in: nobody who is banned, and from one address only so many.
//!
//! The count is by IPv4 address or by IPv6 network of 64 bits, which is what one customer has. It begins before the
//! handshake, so that a flood from one place neither takes the places of others nor costs us its signatures.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::IpAddr,
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    multiaddr::Protocol,
    swarm::{ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandlerInEvent, ToSwarm, dummy},
};
use tokio::time::Instant;

/// Connections from one place, made and being made. A laboratory's router may stand for several dozen members.
pub(crate) const MAX_PER_PLACE: usize = 64;

/// Why a connection is not let in.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("the peer is banned")]
    Banned,
    #[error("there are {MAX_PER_PLACE} connections from its address already")]
    Crowded,
}

/// The gate's book.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    banned: BTreeMap<PeerId, Instant>,
    places: BTreeMap<ConnectionId, IpAddr>,
}

/// The place that an address belongs to; none for circuits, whose number the relay bounds.
fn place(address: &Multiaddr) -> Option<IpAddr> {
    if address.iter().any(|part| matches!(part, Protocol::P2pCircuit)) {
        return None;
    }
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(IpAddr::V4(ip)),
        Protocol::Ip6(ip) => Some(IpAddr::V6((u128::from(ip) >> 64 << 64).into())),
        _ => None,
    }
}

impl Gate {
    /// Lets nobody with this id in until then.
    pub(crate) fn ban(&mut self, peer: PeerId, until: Instant) {
        let now = Instant::now();
        self.banned.retain(|_, until| *until > now);
        self.banned.insert(peer, until);
    }

    /// Whether the peer is banned now.
    pub(crate) fn is_banned(&self, peer: &PeerId, now: Instant) -> bool {
        self.banned.get(peer).is_some_and(|until| *until > now)
    }

    fn admit(&self, peer: &PeerId) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
        if self.is_banned(peer, Instant::now()) {
            return Err(ConnectionDenied::new(Refusal::Banned));
        }
        Ok(dummy::ConnectionHandler)
    }

    fn enter(&mut self, connection: ConnectionId, remote: &Multiaddr) -> Result<(), Refusal> {
        let Some(place) = place(remote) else { return Ok(()) };
        if self.places.values().filter(|other| **other == place).count() >= MAX_PER_PLACE {
            return Err(Refusal::Crowded);
        }
        self.places.insert(connection, place);
        Ok(())
    }
}

impl NetworkBehaviour for Gate {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.enter(connection, remote).map_err(ConnectionDenied::new)
    }

    fn handle_established_inbound_connection(
        &mut self,
        _connection: ConnectionId,
        peer: PeerId,
        _local: &Multiaddr,
        _remote: &Multiaddr,
    ) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
        self.admit(&peer)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        _connection: ConnectionId,
        peer: Option<PeerId>,
        _addresses: &[Multiaddr],
        _role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        peer.map_or(Ok(()), |peer| self.admit(&peer).map(drop))?;
        Ok(Vec::new())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _connection: ConnectionId,
        peer: PeerId,
        _address: &Multiaddr,
        _role: Endpoint,
        _port_use: PortUse,
    ) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
        self.admit(&peer)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionClosed(closed) => drop(self.places.remove(&closed.connection_id)),
            FromSwarm::ListenFailure(failed) => drop(self.places.remove(&failed.connection_id)),
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: Infallible) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn one_place_has_so_many_connections_and_others_are_still_let_in() {
        let mut gate = Gate::default();
        let address = |text: &str| text.parse::<Multiaddr>().unwrap();
        let crowd = address("/ip6/2001:db8::1/udp/1/quic-v1");
        for id in 0..MAX_PER_PLACE {
            gate.enter(ConnectionId::new_unchecked(id), &crowd).unwrap();
        }
        let one_more = ConnectionId::new_unchecked(1000);
        // another host of the same network is the same place
        let neighbour = address("/ip6/2001:db8::2/tcp/1");
        assert!(matches!(gate.enter(one_more, &neighbour), Err(Refusal::Crowded)));
        assert!(gate.enter(one_more, &address("/ip6/2001:db8:0:1::1/tcp/1")).is_ok());
        assert!(gate.enter(ConnectionId::new_unchecked(1001), &address("/ip4/192.0.2.1/tcp/1")).is_ok());
        gate.places.remove(&ConnectionId::new_unchecked(0));
        assert!(gate.enter(ConnectionId::new_unchecked(1002), &neighbour).is_ok());
    }

    #[test]
    fn a_ban_shuts_out_and_ends() {
        let (mut gate, peer, now) = (Gate::default(), PeerId::random(), Instant::now());
        assert!(gate.admit(&peer).is_ok());
        gate.ban(peer, now + Duration::from_secs(60));
        assert!(gate.admit(&peer).is_err());
        assert!(gate.is_banned(&peer, now) && !gate.is_banned(&peer, now + Duration::from_secs(61)));
    }
}
