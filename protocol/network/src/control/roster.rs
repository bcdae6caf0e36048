//! Who is connected: peers, their connections, and which process of theirs is at the other end. Pure; the driver acts on it.
//!
//! ```text
//! opened --> unknown --introduced--> Connected            (first connection of a process that said hello)
//!                       |  another session: the process was restarted: Disconnected, Connected, old connections closed
//! closed, last one --> Disconnected
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use libp2p::{PeerId, swarm::ConnectionId};
use talkoot_protocol::identity::MemberId;
use tokio::time::Instant;

use super::{hello::Hello, route::Route};

/// Age of the last sign of life from which a bootstrap member is dialled again beside the old connection. Above the ping
/// interval, far below the idle timeout: a coordinator that was restarted at once is back within two seconds.
pub(crate) const SUSPECT_AFTER: Duration = Duration::from_millis(1700);

#[derive(Debug)]
struct Connection {
    /// None for a circuit through a relay.
    ip: Option<IpAddr>,
    /// Whether we dialled.
    outgoing: bool,
    /// The process at the other end, once it has introduced itself.
    session: Option<u64>,
    heard: Instant,
}

#[derive(Debug)]
struct Peer {
    member: MemberId,
    connections: BTreeMap<ConnectionId, Connection>,
    hello: Option<Hello>,
    /// Whether it said that it is met through relays.
    hidden: bool,
}

/// What follows from an introduction.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Introduction {
    /// The peer's former process is gone.
    pub(crate) disconnected: bool,
    /// A process is new here.
    pub(crate) connected: bool,
    /// Connections to the peer's former process; they are forgotten here.
    pub(crate) close: Vec<ConnectionId>,
    /// Connections without a use beyond what may be under way on them: a second one of our own dialling, and circuits beside
    /// a direct one.
    pub(crate) spare: Vec<ConnectionId>,
}

/// All peers with a connection.
#[derive(Debug, Default)]
pub(crate) struct Roster(BTreeMap<PeerId, Peer>);

impl Roster {
    /// A connection is there; who it is with is proven, what process is not known yet.
    pub(crate) fn opened(
        &mut self,
        peer: PeerId,
        member: MemberId,
        connection: ConnectionId,
        ip: Option<IpAddr>,
        outgoing: bool,
        now: Instant,
    ) {
        let entry = self.0.entry(peer).or_insert_with(|| Peer {
            member,
            connections: BTreeMap::new(),
            hello: None,
            hidden: false,
        });
        entry.connections.insert(connection, Connection { ip, outgoing, session: None, heard: now });
    }

    /// A peer has said on a connection who it is. Nothing for connections that are not in the roster (any more).
    pub(crate) fn introduced(
        &mut self,
        peer: &PeerId,
        connection: ConnectionId,
        hello: Hello,
        hidden: bool,
        now: Instant,
    ) -> Introduction {
        let mut result = Introduction::default();
        let Some(entry) = self.0.get_mut(peer) else { return result };
        let Some(this) = entry.connections.get_mut(&connection) else { return result };
        this.session = Some(hello.session);
        this.heard = now;
        let (outgoing, direct) = (this.outgoing, this.ip.is_some());
        match entry.hello {
            Some(known) if known.session == hello.session => {
                let same = entry.connections.iter().filter(|(_, other)| other.session == Some(hello.session));
                // both may keep what the other one dialled; a second one of our own has no use
                let mut others = same.clone().filter(|(id, _)| **id < connection);
                if outgoing && direct && others.any(|(_, other)| other.outgoing && other.ip.is_some()) {
                    result.spare.push(connection);
                }
                if same.clone().any(|(_, other)| other.ip.is_some()) {
                    result.spare.extend(same.filter(|(_, other)| other.ip.is_none()).map(|(id, _)| *id));
                }
            }
            known => {
                result.disconnected = known.is_some();
                result.connected = true;
                let old = entry
                    .connections
                    .iter()
                    .filter(|(_, other)| known.is_some_and(|known| other.session == Some(known.session)));
                result.close.extend(old.map(|(id, _)| *id));
            }
        }
        entry.hello = Some(hello);
        entry.hidden = hidden;
        for id in &result.close {
            entry.connections.remove(id);
        }
        result
    }

    /// A sign of life.
    pub(crate) fn heard(&mut self, peer: &PeerId, connection: ConnectionId, now: Instant) {
        if let Some(there) = self.0.get_mut(peer).and_then(|peer| peer.connections.get_mut(&connection)) {
            there.heard = now;
        }
    }

    /// Excuses a silence that was our own: nothing can be heard by a process that did not run.
    pub(crate) fn excuse(&mut self, silence: Duration) {
        for there in self.0.values_mut().flat_map(|peer| peer.connections.values_mut()) {
            there.heard += silence;
        }
    }

    /// A connection has gone; the member when it was the last one of somebody who had introduced itself.
    pub(crate) fn closed(&mut self, peer: &PeerId, connection: ConnectionId) -> Option<MemberId> {
        let entry = self.0.get_mut(peer)?;
        entry.connections.remove(&connection);
        if !entry.connections.is_empty() {
            return None;
        }
        let entry = self.0.remove(peer)?;
        entry.hello.map(|_| entry.member)
    }

    /// Whether the peer is connected and has introduced itself.
    pub(crate) fn is_connected(&self, peer: &PeerId) -> bool {
        self.0.get(peer).is_some_and(|peer| peer.hello.is_some())
    }

    /// Whether nothing was heard from the peer lately, on any connection.
    pub(crate) fn is_suspect(&self, peer: &PeerId, now: Instant) -> bool {
        self.0.get(peer).is_none_or(|peer| {
            peer.connections.values().all(|there| now.saturating_duration_since(there.heard) > SUSPECT_AFTER)
        })
    }

    /// Peers with a connection, introduced or not.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Members that have introduced themselves.
    pub(crate) fn connected(&self) -> BTreeSet<MemberId> {
        self.0.values().filter(|peer| peer.hello.is_some()).map(|peer| peer.member).collect()
    }

    /// Where their bulk planes are.
    pub(crate) fn routes(&self) -> BTreeMap<MemberId, Route> {
        let route = |peer: &Peer| {
            let hello = peer.hello?;
            let mut ips = peer.connections.values().filter(|there| there.session == Some(hello.session));
            let ip = ips.find_map(|there| there.ip);
            let address = ip.map(|ip| SocketAddr::new(ip, hello.bulk_port));
            let Hello { session, seeder, .. } = hello;
            Some((peer.member, Route { session, address, hidden: peer.hidden, seeder }))
        };
        self.0.values().filter_map(route).collect()
    }

    /// When each member was last heard, on any connection.
    pub(crate) fn last_heard(&self) -> BTreeMap<MemberId, Instant> {
        let heard =
            |peer: &Peer| Some((peer.member, peer.connections.values().map(|there| there.heard).max()?));
        self.0.values().filter(|peer| peer.hello.is_some()).filter_map(heard).collect()
    }

    /// Connections on which nothing was heard for `longest`.
    pub(crate) fn silent(&self, longest: Duration, now: Instant) -> Vec<ConnectionId> {
        let connections = self.0.values().flat_map(|peer| &peer.connections);
        let silent = connections.filter(|(_, there)| now.saturating_duration_since(there.heard) > longest);
        silent.map(|(id, _)| *id).collect()
    }

    /// Whether there is a connection to the peer that goes through no relay.
    pub(crate) fn is_direct(&self, peer: &PeerId) -> bool {
        self.0.get(peer).is_some_and(|peer| peer.connections.values().any(|there| there.ip.is_some()))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use talkoot_protocol::identity::Keypair;

    use super::*;
    use crate::control::peer::peer_of;

    struct Scene {
        roster: Roster,
        peer: PeerId,
        member: MemberId,
        now: Instant,
    }

    impl Scene {
        fn new() -> Self {
            let member = Keypair::from_seed([1; 32]).id();
            Self { roster: Roster::default(), peer: peer_of(&member).unwrap(), member, now: Instant::now() }
        }

        fn open(&mut self, id: usize, outgoing: bool) {
            let ip = IpAddr::V4(Ipv4Addr::new(192, 0, 2, u8::try_from(id).unwrap()));
            let id = ConnectionId::new_unchecked(id);
            self.roster.opened(self.peer, self.member, id, Some(ip), outgoing, self.now);
        }

        fn open_circuit(&mut self, id: usize) {
            let id = ConnectionId::new_unchecked(id);
            self.roster.opened(self.peer, self.member, id, None, true, self.now);
        }

        fn hello(&mut self, id: usize, session: u64) -> Introduction {
            let hello = Hello { bulk_port: 7, session, seeder: false };
            self.roster.introduced(&self.peer, ConnectionId::new_unchecked(id), hello, false, self.now)
        }

        fn address(&self) -> Option<SocketAddr> {
            self.roster.routes()[&self.member].address
        }

        fn close(&mut self, id: usize) -> Option<MemberId> {
            self.roster.closed(&self.peer, ConnectionId::new_unchecked(id))
        }
    }

    #[test]
    fn a_peer_is_announced_once_whoever_dialled() {
        let mut scene = Scene::new();
        scene.open(1, true);
        scene.open(2, false);
        assert!(!scene.roster.is_connected(&scene.peer));
        let first = Introduction { connected: true, ..Introduction::default() };
        assert_eq!(scene.hello(2, 5), first);
        assert_eq!(scene.hello(1, 5), Introduction::default());
        assert_eq!(scene.close(2), None);
        assert_eq!(scene.address(), Some("192.0.2.1:7".parse().unwrap()));
        assert_eq!(scene.close(1), Some(scene.member));
        assert_eq!(scene.roster.len(), 0);
    }

    #[test]
    fn a_second_connection_that_we_dialled_is_spare_and_the_first_kept() {
        let mut scene = Scene::new();
        scene.open(1, true);
        scene.open(2, true);
        scene.hello(1, 5);
        assert_eq!(scene.hello(2, 5).spare, [ConnectionId::new_unchecked(2)]);
        assert_eq!(scene.close(2), None);
        assert!(scene.roster.is_connected(&scene.peer));
    }

    #[test]
    fn a_circuit_has_no_address_and_is_spare_as_soon_as_there_is_a_direct_way() {
        let mut scene = Scene::new();
        scene.open_circuit(1);
        assert!(scene.hello(1, 5).connected);
        assert_eq!(scene.address(), None);
        assert!(!scene.roster.is_direct(&scene.peer));
        scene.open(2, false);
        assert_eq!(scene.hello(2, 5).spare, [ConnectionId::new_unchecked(1)]);
        assert_eq!(scene.address(), Some("192.0.2.2:7".parse().unwrap()));
        scene.open_circuit(3);
        let spare = [1, 3].map(ConnectionId::new_unchecked);
        assert_eq!(scene.hello(3, 5).spare, spare, "a circuit that comes later is spare, too");
        assert_eq!(scene.close(2), None);
        assert_eq!(scene.address(), None);
    }

    #[test]
    fn a_restarted_process_replaces_the_old_one() {
        let mut scene = Scene::new();
        scene.open(1, true);
        scene.hello(1, 5);
        scene.open(2, false);
        let close = vec![ConnectionId::new_unchecked(1)];
        assert_eq!(
            scene.hello(2, 6),
            Introduction { disconnected: true, connected: true, close, spare: Vec::new() }
        );
        assert_eq!(scene.address(), Some("192.0.2.2:7".parse().unwrap()));
        assert_eq!(scene.close(1), None);
        assert_eq!(scene.close(2), Some(scene.member));
    }

    #[test]
    fn silence_makes_suspect_and_a_word_clears() {
        let mut scene = Scene::new();
        assert!(scene.roster.is_suspect(&scene.peer, scene.now));
        scene.open(1, true);
        assert!(!scene.roster.is_suspect(&scene.peer, scene.now));
        let later = scene.now + SUSPECT_AFTER * 2;
        assert!(scene.roster.is_suspect(&scene.peer, later));
        scene.roster.heard(&scene.peer, ConnectionId::new_unchecked(1), later);
        assert!(!scene.roster.is_suspect(&scene.peer, later));
        scene.open(2, false);
        let silent = scene.roster.silent(SUSPECT_AFTER, later);
        assert_eq!(silent, [ConnectionId::new_unchecked(2)], "each connection has a silence of its own");
    }

    #[test]
    fn somebody_who_never_said_who_it_is_leaves_without_a_word() {
        let mut scene = Scene::new();
        scene.open(1, false);
        assert!(scene.roster.connected().is_empty());
        assert_eq!(scene.close(1), None);
        assert_eq!(scene.hello(1, 5), Introduction::default());
    }
}
