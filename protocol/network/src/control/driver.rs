//! The task that owns the swarm.

mod address;
mod wire;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use libp2p::{
    Multiaddr, PeerId, Swarm, gossipsub, identify, kad, ping,
    request_response::{OutboundRequestId, ResponseChannel},
    swarm::{
        self, ConnectionId, SwarmEvent,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use talkoot_protocol::identity::{Keypair, MemberId};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, MissedTickBehavior},
};

use self::address::{ip_of, is_dialable, listen_address, parse_bootstrap, port_of};
use super::{
    Command, ControlConfig, MAX_DIALLED_PEERS,
    behaviour::{Behaviour, BehaviourEvent, PROTOCOL_VERSION},
    event::NetworkEvent,
    hello::Hello,
    outbox::Outbox,
    peer::{member_of, p2p_keypair},
    rate::Bucket,
    roster::Roster,
    transport::{self, Counters},
};
use crate::error::{NetworkError, RequestError};

/// How often lost bootstrap members are looked at.
const TICK: Duration = Duration::from_millis(250);
/// Pause between two attempts to reach one bootstrap member. Attempts overlap, as a handshake that began while the other
/// side was down repeats itself too rarely.
const REDIAL_EVERY: Duration = Duration::from_millis(750);
/// How often Kademlia is asked who is near us, when nothing happens.
const LOOK_AROUND_EVERY: Duration = Duration::from_secs(5);
/// How soon it is asked after somebody came; the pause lets a crowd that arrives together share one question.
const LOOK_AROUND_AFTER_ARRIVAL: Duration = Duration::from_millis(200);
/// Addresses that are taken from one peer's introduction.
const MAX_ADDRESSES_PER_PEER: usize = 16;
/// Time for the last packets when we leave.
const FAREWELL: Duration = Duration::from_secs(1);
/// Idle connections are kept: they are how members are found and blobs are asked for.
const IDLE_CONNECTION: Duration = Duration::from_secs(365 * 24 * 3600);

/// A member that we always want to be connected to.
struct Bootstrap {
    peer: PeerId,
    addresses: Vec<Multiaddr>,
    dialled: Option<Instant>,
}

/// How fast one peer has been speaking.
struct Buckets {
    requests: Bucket,
    gossip: Bucket,
}

type Answer = oneshot::Sender<Result<Vec<u8>, RequestError>>;
/// An asker, the way to it, and the owner's answer if it gave one.
type Reply = (MemberId, ResponseChannel<Vec<u8>>, Result<Vec<u8>, oneshot::error::RecvError>);

/// The swarm and what is known beside it.
pub(super) struct Driver {
    swarm: Swarm<Behaviour>,
    listen: SocketAddr,
    listening: Vec<Multiaddr>,
    bootstrap: Vec<Bootstrap>,
    look_around_at: Instant,
    roster: Roster,
    buckets: BTreeMap<PeerId, Buckets>,
    /// Our requests that wait for an answer.
    asked: BTreeMap<OutboundRequestId, (MemberId, Answer)>,
    /// Connections to close once nothing is under way with their peers.
    spares: Vec<(MemberId, ConnectionId)>,
    /// How many requests of each member wait for the owner.
    unanswered: BTreeMap<MemberId, usize>,
    /// Others' requests that wait for the owner.
    replies: FuturesUnordered<BoxFuture<'static, Reply>>,
    outbox: Outbox,
    connected: watch::Sender<BTreeSet<MemberId>>,
    bulk_addresses: watch::Sender<BTreeMap<MemberId, SocketAddr>>,
}

impl Driver {
    pub(super) fn new(
        config: ControlConfig<'_>,
        key: &Keypair,
        counters: Arc<Counters>,
        connected: watch::Sender<BTreeSet<MemberId>>,
    ) -> Result<Self, NetworkError> {
        let setup = |reason: String| NetworkError::Setup { reason };
        let key = p2p_keypair(key).ok_or_else(|| setup("libp2p does not take the ed25519 key".to_owned()))?;
        let me = key.public().to_peer_id();
        let mut by_peer: BTreeMap<PeerId, Vec<Multiaddr>> = BTreeMap::new();
        for text in config.bootstrap {
            let (peer, address) = parse_bootstrap(text)?;
            by_peer.entry(peer).or_default().push(address);
        }
        by_peer.remove(&me); // a list for everybody may name us
        let mut session = [0; 8];
        getrandom::fill(&mut session)
            .map_err(|error| setup(format!("the system gives no randomness: {error}")))?;
        let hello = Hello { bulk_port: config.bulk_port, session: u64::from_le_bytes(session) };
        let mut behaviour = Behaviour::new(&key, hello).map_err(setup)?;
        for topic in config.topics {
            let topic = gossipsub::IdentTopic::new(topic);
            behaviour.gossip.subscribe(&topic).map_err(|error| setup(error.to_string()))?;
        }
        let settings = swarm::Config::with_tokio_executor().with_idle_connection_timeout(IDLE_CONNECTION);
        let into_bootstrap = |(peer, addresses)| Bootstrap { peer, addresses, dialled: None };
        Ok(Self {
            swarm: Swarm::new(transport::build(&key, counters), behaviour, me, settings),
            listen: config.listen,
            listening: Vec::new(),
            bootstrap: by_peer.into_iter().map(into_bootstrap).collect(),
            look_around_at: Instant::now() + LOOK_AROUND_EVERY,
            roster: Roster::default(),
            buckets: BTreeMap::new(),
            asked: BTreeMap::new(),
            spares: Vec::new(),
            unanswered: BTreeMap::new(),
            replies: FuturesUnordered::new(),
            outbox: Outbox::default(),
            connected,
            bulk_addresses: config.bulk_addresses,
        })
    }

    /// Opens the socket and returns all addresses at which we can be reached.
    pub(super) async fn listen(&mut self) -> Result<Vec<String>, NetworkError> {
        let listen = self.listen;
        let error = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => NetworkError::AddressInUse { address: listen },
            _ => NetworkError::Listen { address: listen, source },
        };
        // libp2p wraps the system's error beyond recognition: ask the system first
        drop(UdpSocket::bind(listen).map_err(error)?);
        self.swarm.listen_on(listen_address(listen)).map_err(|wrapped| error(io::Error::other(wrapped)))?;
        while self.listening.is_empty() {
            match self.swarm.select_next_some().await {
                SwarmEvent::ListenerError { error: source, .. } => return Err(error(source)),
                SwarmEvent::ListenerClosed { reason, .. } => {
                    let source = reason.err().unwrap_or_else(|| io::Error::other("the listener closed"));
                    return Err(error(source));
                }
                event => self.on_event(event),
            }
        }
        // with 0.0.0.0 there is one address per interface, all known at once
        while let Some(event) = self.swarm.select_next_some().now_or_never() {
            self.on_event(event);
        }
        let me = *self.swarm.local_peer_id();
        Ok(self.listening.iter().map(|address| format!("{address}/p2p/{me}")).collect())
    }

    /// Runs until it is told to stop or nobody is left who could.
    pub(super) async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        events: mpsc::Sender<NetworkEvent>,
    ) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let done = loop {
            tokio::select! {
                biased;
                // 1. time first: a flood must not keep us from finding the coordinator again
                _ = tick.tick() => self.on_tick(),
                // 2. our own wishes; the driver only hands them on, so they cannot hold up the rest for long
                command = commands.recv() => match command {
                    Some(Command::Request { to, body, answer }) => self.ask(to, body, answer),
                    Some(Command::Publish { topic, body }) => self.publish(topic, body),
                    Some(Command::Shutdown { done }) => break Some(done),
                    None => break None,
                },
                Some((asker, channel, answer)) = self.replies.next() => self.answer(asker, channel, answer),
                // 3. news for the owner, as fast as it takes them
                permit = events.reserve(), if !self.outbox.is_empty() => match permit {
                    Ok(permit) => if let Some(event) = self.outbox.pop() { permit.send(event) },
                    Err(_) => self.outbox.clear(), // nobody listens
                },
                // 4. the network
                event = self.swarm.select_next_some() => self.on_event(event),
            }
        };
        self.leave().await;
        let socket = self.socket();
        drop(self);
        released(socket).await;
        if let Some(done) = done {
            let _ = done.send(()); // whoever asked may have gone
        }
    }

    /// The address that we listen on, with the port that the system chose.
    fn socket(&self) -> Option<SocketAddr> {
        let port = port_of(self.listening.first()?)?;
        Some(SocketAddr::new(self.listen.ip(), port))
    }

    /// Closes every connection and waits for QUIC to have said so.
    async fn leave(&mut self) {
        let peers: Vec<_> = self.swarm.connected_peers().copied().collect();
        for peer in peers {
            let _ = self.swarm.disconnect_peer_id(peer); // an error is a peer that has just gone
        }
        let closing = async {
            while self.swarm.connected_peers().next().is_some() {
                self.swarm.select_next_some().await;
            }
        };
        if tokio::time::timeout(FAREWELL, closing).await.is_err() {
            tracing::debug!(
                "not every connection was closed in time; those peers will notice by our silence"
            );
        }
        self.connected.send_replace(BTreeSet::new());
        self.bulk_addresses.send_replace(BTreeMap::new());
    }

    fn on_tick(&mut self) {
        let now = Instant::now();
        for index in 0..self.bootstrap.len() {
            let Bootstrap { peer, ref addresses, dialled } = self.bootstrap[index];
            let waited = dialled.is_none_or(|then| now.duration_since(then) >= REDIAL_EVERY);
            if waited && self.roster.is_suspect(&peer, now) {
                // beside a connection that may be dead, and beside attempts that may take long
                let options = DialOpts::peer_id(peer)
                    .condition(PeerCondition::Always)
                    .addresses(addresses.clone())
                    .build();
                self.bootstrap[index].dialled = Some(now);
                if let Err(error) = self.swarm.dial(options) {
                    tracing::debug!(%peer, %error, "a bootstrap member is not dialled");
                }
            }
        }
        self.close_spares();
        if now >= self.look_around_at {
            self.look_around_at = now + LOOK_AROUND_EVERY;
            if self.roster.len() > 0 && self.roster.len() < MAX_DIALLED_PEERS {
                let me = *self.swarm.local_peer_id();
                self.swarm.behaviour_mut().kad.get_closest_peers(me);
            }
        }
    }

    /// Closes spare connections whose peers are at rest: libp2p spreads requests over all connections, and one that is under
    /// way on a spare would be lost with it.
    fn close_spares(&mut self) {
        for (member, connection) in std::mem::take(&mut self.spares) {
            let busy = self.unanswered.contains_key(&member)
                || self.asked.values().any(|(asked, _)| *asked == member);
            if busy {
                self.spares.push((member, connection));
            } else {
                self.swarm.close_connection(connection);
            }
        }
    }

    /// Dials a member that we have heard of, when there is room for it.
    fn meet(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        let known = peer == *self.swarm.local_peer_id() || self.swarm.is_connected(&peer);
        if known || self.roster.len() >= MAX_DIALLED_PEERS || member_of(&peer).is_none() {
            return;
        }
        let addresses: Vec<_> =
            addresses.into_iter().filter(is_dialable).take(MAX_ADDRESSES_PER_PEER).collect();
        if addresses.is_empty() {
            return;
        }
        let condition = PeerCondition::DisconnectedAndNotDialing;
        let options = DialOpts::peer_id(peer).condition(condition).addresses(addresses).build();
        if let Err(error) = self.swarm.dial(options) {
            tracing::trace!(%peer, %error, "not dialled");
        }
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::NewListenAddr { address, .. } => self.listening.push(address),
            SwarmEvent::ExpiredListenAddr { address, .. } => self.listening.retain(|known| *known != address),
            SwarmEvent::ConnectionEstablished { peer_id: peer, connection_id, endpoint, .. } => {
                match (member_of(&peer), ip_of(endpoint.get_remote_address())) {
                    (Some(member), Some(ip)) => {
                        let outgoing = endpoint.is_dialer();
                        self.roster.opened(peer, member, connection_id, ip, outgoing, Instant::now());
                    }
                    _ => self.turn_away(peer, "its key is not ed25519"),
                }
            }
            SwarmEvent::ConnectionClosed { peer_id: peer, connection_id, num_established, cause, .. } => {
                tracing::debug!(%peer, ?cause, left = num_established, "a connection closed");
                self.spares.retain(|(_, spare)| *spare != connection_id);
                if let Some(member) = self.roster.closed(&peer, connection_id) {
                    self.outbox.disconnected(member);
                }
                self.show();
            }
            SwarmEvent::OutgoingConnectionError { peer_id: Some(peer), error, .. } => {
                tracing::debug!(%peer, %error, "a peer is not reached");
            }
            SwarmEvent::Behaviour(event) => self.on_behaviour(event),
            _ => {}
        }
    }

    fn on_behaviour(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Identify(identify::Event::Received { connection_id, peer_id, info }) => {
                self.on_introduction(peer_id, connection_id, info);
            }
            BehaviourEvent::Ping(ping::Event { peer, connection, result: Ok(_) }) => {
                self.roster.heard(&peer, connection, Instant::now());
            }
            BehaviourEvent::Kad(kad::Event::OutboundQueryProgressed {
                result: kad::QueryResult::GetClosestPeers(result),
                ..
            }) => {
                let peers = match result {
                    Ok(found) => found.peers,
                    Err(kad::GetClosestPeersError::Timeout { peers, .. }) => peers,
                };
                for found in peers {
                    self.meet(found.peer_id, found.addrs);
                }
            }
            BehaviourEvent::Gossip(gossipsub::Event::Message { propagation_source, message, .. }) => {
                self.on_gossip(propagation_source, message);
            }
            BehaviourEvent::Rpc(event) => self.on_rpc(event),
            _ => {}
        }
    }

    fn on_introduction(&mut self, peer: PeerId, connection: ConnectionId, info: identify::Info) {
        if info.protocol_version != PROTOCOL_VERSION {
            return self.turn_away(peer, "it speaks another version of the protocol");
        }
        let Some(hello) = Hello::from_agent(&info.agent_version) else {
            return self.turn_away(peer, "it does not say where its bulk plane is");
        };
        let addresses = info.listen_addrs.into_iter().filter(is_dialable).take(MAX_ADDRESSES_PER_PEER);
        for address in addresses {
            self.swarm.behaviour_mut().kad.add_address(&peer, address);
        }
        let result = self.roster.introduced(&peer, connection, hello, Instant::now());
        if let Some(member) = member_of(&peer) {
            if result.disconnected {
                tracing::info!(peer = %member.short(), "a peer was restarted");
                self.outbox.disconnected(member);
            }
            if result.connected {
                self.outbox.connected(member);
                let soon = Instant::now() + LOOK_AROUND_AFTER_ARRIVAL;
                self.look_around_at = self.look_around_at.min(soon);
            }
        }
        if let (Some(member), Some(spare)) = (member_of(&peer), result.spare) {
            self.spares.push((member, spare));
        }
        for id in result.close {
            self.swarm.close_connection(id);
        }
        self.show();
    }

    fn turn_away(&mut self, peer: PeerId, reason: &'static str) {
        tracing::warn!(%peer, reason, "a peer is turned away");
        let _ = self.swarm.disconnect_peer_id(peer); // an error is a peer that has just gone
    }

    /// Shows who is connected to everybody who watches.
    fn show(&self) {
        let addresses = self.roster.bulk_addresses();
        self.bulk_addresses.send_if_modified(|shown| replace(shown, addresses));
        let connected = self.roster.connected();
        self.connected.send_if_modified(|shown| replace(shown, connected));
    }
}

/// Waits until the socket is free again. libp2p does not show when quinn's tasks have sent their last packets; they hold the
/// socket until then, and a successor in the same place wants the port anyway.
async fn released(socket: Option<SocketAddr>) {
    let Some(socket) = socket else { return };
    let freed = async {
        while UdpSocket::bind(socket).is_err() {
            tokio::time::sleep(FAREWELL / 100).await;
        }
    };
    if tokio::time::timeout(FAREWELL, freed).await.is_err() {
        tracing::warn!(%socket, "the control port is still held after the shutdown");
    }
}

/// Says whether the new value is another one.
fn replace<T: PartialEq>(place: &mut T, value: T) -> bool {
    let changed = *place != value;
    *place = value;
    changed
}
