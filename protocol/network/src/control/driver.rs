//! The task that owns the swarm.

mod address;
mod meet;
mod reach;
mod signals;
mod wire;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use libp2p::{
    Multiaddr, PeerId, Swarm, gossipsub, identify, kad, mdns, ping,
    request_response::{OutboundRequestId, ResponseChannel},
    swarm::{self, ConnectionId, SwarmEvent},
};
use talkoot_protocol::identity::{Keypair, MemberId};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, MissedTickBehavior},
};

use self::{
    address::{ip_of, is_circuit, is_dialable, listen_address, parse_announced, port_of, tcp_listen_address},
    meet::Acquaintances,
    reach::Reach,
    signals::Signals,
};
use super::{
    Command, ControlConfig, Shown,
    behaviour::{Behaviour, BehaviourEvent, Choice, PROTOCOL_VERSION},
    event::NetworkEvent,
    hello::Hello,
    outbox::Outbox,
    peer::{member_of, p2p_keypair},
    rate::Bucket,
    roster::Roster,
    score::{Offence, Scores},
    transport::{self, Counters},
};
use crate::error::{NetworkError, RequestError};

/// How often lost bootstrap members are looked at.
const TICK: Duration = Duration::from_millis(250);
/// How soon Kademlia is asked after somebody came; the pause lets a crowd that arrives together share one question.
const LOOK_AROUND_AFTER_ARRIVAL: Duration = Duration::from_millis(200);
/// Silence after which a connection is closed: what QUIC does by itself, for TCP and circuits as well.
const LONGEST_SILENCE: Duration = Duration::from_secs(8);
/// A pause between two ticks that says that this process did not run.
const STANDSTILL: Duration = Duration::from_secs(2);
/// Addresses that are taken from one peer's introduction.
const MAX_ADDRESSES_PER_PEER: usize = 16;
/// Time for the last packets when we leave.
const FAREWELL: Duration = Duration::from_secs(1);
/// Idle connections are kept: they are how members are found and blobs are asked for.
const IDLE_CONNECTION: Duration = Duration::from_secs(365 * 24 * 3600);

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
    /// Our own addresses, without circuits.
    listening: Vec<Multiaddr>,
    announced: Vec<Multiaddr>,
    /// Whether others' control connections are carried, and what they cannot reach is fetched for them.
    seeder: bool,
    known: Acquaintances,
    reach: Reach,
    signals: Signals,
    scores: Scores,
    ticked: Instant,
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
    shown: Shown,
}

impl Driver {
    pub(super) fn new(
        config: ControlConfig<'_>,
        key: &Keypair,
        counters: Arc<Counters>,
        shown: Shown,
    ) -> Result<Self, NetworkError> {
        let setup = |reason: String| NetworkError::Setup { reason };
        let key = p2p_keypair(key).ok_or_else(|| setup("libp2p does not take the ed25519 key".to_owned()))?;
        let me = key.public().to_peer_id();
        let known = Acquaintances::new(me, config.bootstrap, config.peers_file)?;
        let announced: Vec<_> =
            config.announce.iter().map(|text| parse_announced(text)).collect::<Result<_, _>>()?;
        let mut session = [0; 8];
        getrandom::fill(&mut session)
            .map_err(|error| setup(format!("the system gives no randomness: {error}")))?;
        let hello = Hello {
            bulk_port: config.bulk_port,
            session: u64::from_le_bytes(session),
            seeder: config.seeder,
        };
        let (transport, relay_client) = transport::build(&key, counters).map_err(setup)?;
        let abroad = !config.listen.ip().is_loopback();
        let choice = Choice { lan: config.lan && abroad, relay: config.seeder, autonat: abroad };
        let mut behaviour = Behaviour::new(&key, hello, choice, relay_client).map_err(setup)?;
        for topic in config.topics {
            let topic = gossipsub::IdentTopic::new(topic);
            behaviour.gossip.subscribe(&topic).map_err(|error| setup(error.to_string()))?;
        }
        let settings = swarm::Config::with_tokio_executor().with_idle_connection_timeout(IDLE_CONNECTION);
        let mut swarm = Swarm::new(transport, behaviour, me, settings);
        for address in &announced {
            swarm.add_external_address(address.clone());
        }
        Ok(Self {
            swarm,
            listen: config.listen,
            listening: Vec::new(),
            announced,
            seeder: config.seeder,
            known,
            reach: Reach::default(),
            signals: Signals::new(config.signals),
            scores: Scores::default(),
            ticked: Instant::now(),
            roster: Roster::default(),
            buckets: BTreeMap::new(),
            asked: BTreeMap::new(),
            spares: Vec::new(),
            unanswered: BTreeMap::new(),
            replies: FuturesUnordered::new(),
            outbox: Outbox::default(),
            shown,
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
        self.listen_for_tcp().await;
        let me = *self.swarm.local_peer_id();
        let all = self.announced.iter().chain(&self.listening);
        Ok(all.map(|address| format!("{address}/p2p/{me}")).collect())
    }

    /// Listens for TCP as well, on the same port if that is free. Not to be able to is no reason to stop: QUIC is there.
    async fn listen_for_tcp(&mut self) {
        let port = self.listening.first().and_then(port_of).unwrap_or_default();
        let mut address = SocketAddr::new(self.listen.ip(), port);
        if TcpListener::bind(address).is_err() {
            address.set_port(0);
        }
        let listener = match self.swarm.listen_on(tcp_listen_address(address)) {
            Ok(listener) => listener,
            Err(error) => return tracing::warn!(%error, "not listening for TCP; QUIC alone has to do"),
        };
        loop {
            match self.swarm.select_next_some().await {
                SwarmEvent::ListenerError { listener_id, error } if listener_id == listener => {
                    return tracing::warn!(%error, "not listening for TCP; QUIC alone has to do");
                }
                SwarmEvent::ListenerClosed { listener_id, .. } if listener_id == listener => return,
                event => {
                    let done = matches!(&event, SwarmEvent::NewListenAddr { listener_id, .. } if *listener_id == listener);
                    self.on_event(event);
                    if done {
                        break;
                    }
                }
            }
        }
        while let Some(event) = self.swarm.select_next_some().now_or_never() {
            self.on_event(event);
        }
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
                    Some(Command::Signal { to, signal, answer }) => self.send_signal(to, &signal, answer),
                    Some(Command::Keep { member }) => self.keep(member),
                    Some(Command::Blame { member, offence }) => self.blame_member(member, offence),
                    Some(Command::Shutdown { done }) => break Some(done),
                    None => break None,
                },
                Some((asker, channel, answer)) = self.replies.next() => self.answer(asker, channel, answer),
                Some((channel, reply)) = self.signals.replies.next() => self.answer_signal(channel, reply),
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
        self.known.write();
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
        self.shown.connected.send_replace(BTreeSet::new());
        self.shown.routes.send_replace(BTreeMap::new());
    }

    fn on_tick(&mut self) {
        let now = Instant::now();
        let pause = now.saturating_duration_since(self.ticked);
        self.ticked = now;
        if pause > STANDSTILL {
            tracing::info!(seconds = pause.as_secs(), "this process stood still");
            self.roster.excuse(pause);
        }
        self.dial_bootstrap(now);
        for connection in self.roster.silent(LONGEST_SILENCE, now) {
            self.swarm.close_connection(connection);
        }
        self.close_spares();
        self.reserve(now);
        self.look_around(now);
        let heard = self.roster.last_heard();
        self.shown.heard.send_replace(heard);
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

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::NewListenAddr { address, .. } if is_circuit(&address) => {
                tracing::info!(%address, "others can meet this member through a relay");
            }
            SwarmEvent::NewListenAddr { address, .. } => self.on_own_address(address),
            SwarmEvent::ExpiredListenAddr { address, .. } => self.listening.retain(|known| *known != address),
            SwarmEvent::ListenerClosed { listener_id, .. } => self.on_listener_closed(listener_id),
            SwarmEvent::ExternalAddrConfirmed { address } => {
                tracing::debug!(%address, "an address of this member is confirmed");
            }
            SwarmEvent::ConnectionEstablished { peer_id: peer, connection_id, endpoint, .. } => {
                let circuit = endpoint.is_relayed();
                let ip = ip_of(endpoint.get_remote_address()).filter(|_| !circuit);
                match member_of(&peer) {
                    Some(member) if circuit || ip.is_some() => {
                        let outgoing = endpoint.is_dialer();
                        self.roster.opened(peer, member, connection_id, ip, outgoing, Instant::now());
                        if outgoing && !circuit {
                            self.reach.dialled(connection_id, endpoint.get_remote_address().clone());
                        }
                    }
                    _ => self.turn_away(peer, Offence::Stranger, "its key is not ed25519"),
                }
            }
            SwarmEvent::ConnectionClosed { peer_id: peer, connection_id, num_established, cause, .. } => {
                tracing::debug!(%peer, ?cause, left = num_established, "a connection closed");
                self.spares.retain(|(_, spare)| *spare != connection_id);
                self.reach.closed(connection_id);
                if let Some(member) = self.roster.closed(&peer, connection_id) {
                    self.outbox.disconnected(member);
                }
                self.show();
            }
            SwarmEvent::OutgoingConnectionError { peer_id: Some(peer), error, .. } => {
                tracing::debug!(%peer, %error, "a peer is not reached");
                self.on_not_reached(peer);
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
            BehaviourEvent::Mdns(mdns::Event::Discovered(found)) => self.on_neighbours(found),
            BehaviourEvent::Mdns(mdns::Event::Expired(gone)) => self.known.forget_neighbours(&gone),
            BehaviourEvent::AutonatClient(event) => self.on_dialled_back(&event),
            BehaviourEvent::Dcutr(event) => match event.result {
                Ok(_) => {
                    tracing::info!(peer = %event.remote_peer_id, "a relayed connection has become a direct one")
                }
                Err(error) => {
                    tracing::debug!(peer = %event.remote_peer_id, %error, "no direct control connection")
                }
            },
            BehaviourEvent::Signal(event) => self.on_signal(event),
            BehaviourEvent::Gossip(gossipsub::Event::Message { propagation_source, message, .. }) => {
                self.on_gossip(propagation_source, message);
            }
            BehaviourEvent::Rpc(event) => self.on_rpc(event),
            _ => {}
        }
    }

    fn on_introduction(&mut self, peer: PeerId, connection: ConnectionId, info: identify::Info) {
        if info.protocol_version != PROTOCOL_VERSION {
            return self.turn_away(peer, Offence::Stranger, "it speaks another version of the protocol");
        }
        let Some(hello) = Hello::from_agent(&info.agent_version) else {
            return self.turn_away(peer, Offence::Stranger, "it does not say where its bulk plane is");
        };
        self.learn_reach(peer, connection, &info);
        let hidden = info.listen_addrs.iter().any(is_circuit);
        let addresses: Vec<_> =
            info.listen_addrs.into_iter().filter(is_dialable).take(MAX_ADDRESSES_PER_PEER).collect();
        for address in &addresses {
            self.swarm.behaviour_mut().kad.add_address(&peer, address.clone());
        }
        self.known.introduced(peer, addresses);
        let result = self.roster.introduced(&peer, connection, hello, hidden, Instant::now());
        if let Some(member) = member_of(&peer) {
            if result.disconnected {
                tracing::info!(peer = %member.short(), "a peer was restarted");
                self.outbox.disconnected(member);
            }
            if result.connected {
                self.outbox.connected(member);
                self.known.look_soon(LOOK_AROUND_AFTER_ARRIVAL);
            }
            self.spares.extend(result.spare.into_iter().map(|spare| (member, spare)));
        }
        for id in result.close {
            self.swarm.close_connection(id);
        }
        self.show();
    }

    /// Ends all connections to a peer, and remembers why.
    fn turn_away(&mut self, peer: PeerId, offence: Offence, reason: &'static str) {
        tracing::warn!(%peer, reason, "a peer is turned away");
        let _ = self.swarm.disconnect_peer_id(peer); // an error is a peer that has just gone
        self.blame(peer, offence);
    }

    /// Takes note of an offence; too many, and the peer is not let in for a while. Members that we were told to meet are
    /// never shut out: without them there is no run.
    fn blame(&mut self, peer: PeerId, offence: Offence) {
        tracing::debug!(%peer, ?offence, "a peer misbehaves");
        let now = Instant::now();
        if self.known.is_bootstrap(&peer) {
            return;
        }
        if let Some(ban) = self.scores.blame(peer, offence, now) {
            tracing::warn!(%peer, ?offence, seconds = ban.as_secs(), "a peer is banned for a while");
            self.swarm.behaviour_mut().gate.ban(peer, now + ban);
            let _ = self.swarm.disconnect_peer_id(peer); // an error is a peer that has just gone
        }
    }

    fn blame_member(&mut self, member: MemberId, offence: Offence) {
        if let Some(peer) = super::peer::peer_of(&member) {
            self.blame(peer, offence);
        }
    }

    /// Shows who is connected to everybody who watches.
    fn show(&self) {
        let routes = self.roster.routes();
        self.shown.routes.send_if_modified(|shown| replace(shown, routes));
        let connected = self.roster.connected();
        self.shown.connected.send_if_modified(|shown| replace(shown, connected));
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
