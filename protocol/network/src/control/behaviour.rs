//! The libp2p protocols that a member speaks, and their bounds.

use std::time::Duration;

use libp2p::{
    PeerId, StreamProtocol, autonat, connection_limits, dcutr, gossipsub,
    gossipsub::{AllowAllSubscriptionFilter, IdentityTransform, MaxCountSubscriptionFilter},
    identify,
    identity::Keypair,
    kad::{self, store::MemoryStore},
    mdns, ping, relay,
    request_response::{self, ProtocolSupport},
    swarm::{NetworkBehaviour, behaviour::toggle::Toggle},
};

use super::{
    REQUEST_TIMEOUT, budget,
    codec::{OpaqueCodec, RPC_PROTOCOL, SIGNAL_PROTOCOL},
    gate::Gate,
    hello::Hello,
};

/// Longest gossip message, in bytes: 64 KiB on the wire less 1 KiB for author, signature and topic. Above 16 KiB it should be
/// a blob anyway.
pub const MAX_GOSSIP_BYTES: usize = 63 * 1024;
/// Version of all we say to one another, in identify; a peer with another one is disconnected.
pub(crate) const PROTOCOL_VERSION: &str = "/talkoot/1";
/// How often a peer is asked for a sign of life.
pub(crate) const PING_INTERVAL: Duration = Duration::from_secs(1);

/// Longest gossip frame, in bytes.
const MAX_GOSSIP_FRAME: usize = 64 * 1024;
/// Connections in all. A coordinator of some hundred members keeps one to each; at 10 KB of buffers each, this is no burden.
const MAX_CONNECTIONS: u32 = 512;
/// Connections from outside, so that strangers cannot take all the places.
const MAX_INBOUND: u32 = 448;
/// Connections per peer: one each way when both dial at once, and as many again while a restarted process replaces the old one.
const MAX_PER_PEER: u32 = 8;
/// Handshakes in flight, each way: a flood of them costs processor time.
const MAX_PENDING: u32 = 64;
/// Requests in flight on one connection, in and out.
const MAX_STREAMS: usize = 64;
/// Signals in flight on one connection, in and out.
const MAX_SIGNAL_STREAMS: usize = 16;
/// Topics that a peer may subscribe to; a run has a handful.
const MAX_TOPICS: usize = 64;

type Gossip = gossipsub::Behaviour<IdentityTransform, MaxCountSubscriptionFilter<AllowAllSubscriptionFilter>>;

/// All protocols.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    /// First, so that a connection too many costs the others nothing.
    pub(crate) gate: Gate,
    limits: connection_limits::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    pub(crate) kad: kad::Behaviour<MemoryStore>,
    pub(crate) gossip: Gossip,
    /// Requests between the members' owners.
    pub(crate) rpc: request_response::Behaviour<OpaqueCodec>,
    /// Words between networks themselves: hole punching, and what seeders are asked for.
    pub(crate) signal: request_response::Behaviour<OpaqueCodec>,
    relay_client: relay::client::Behaviour,
    /// Carries others' control connections, within a budget.
    relay: Toggle<relay::Behaviour>,
    /// Makes a direct connection out of a relayed one.
    dcutr: dcutr::Behaviour,
    /// Asks others to dial us back.
    autonat_client: Toggle<autonat::v2::client::Behaviour>,
    autonat_server: Toggle<autonat::v2::server::Behaviour>,
    mdns: Toggle<mdns::tokio::Behaviour>,
}

/// Which of the optional protocols are spoken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Choice {
    /// Find members on the local network, and be found.
    pub(crate) lan: bool,
    /// Carry others' control connections.
    pub(crate) relay: bool,
    /// Find out whether others can dial us. Senseless on the loopback.
    pub(crate) autonat: bool,
}

impl Behaviour {
    /// Puts the protocols together; an error is a contradiction in the constants above.
    pub(crate) fn new(
        key: &Keypair,
        hello: Hello,
        choice: Choice,
        relay_client: relay::client::Behaviour,
    ) -> Result<Self, String> {
        let me = key.public().to_peer_id();
        let limits = connection_limits::ConnectionLimits::default()
            .with_max_pending_incoming(Some(MAX_PENDING))
            .with_max_pending_outgoing(Some(MAX_PENDING))
            .with_max_established_incoming(Some(MAX_INBOUND))
            .with_max_established(Some(MAX_CONNECTIONS))
            .with_max_established_per_peer(Some(MAX_PER_PEER));
        let identify = identify::Config::new(PROTOCOL_VERSION.to_owned(), key.public())
            .with_agent_version(hello.to_agent())
            .with_push_listen_addr_updates(true);
        // the timeout only fails that ping; QUIC's own idle timeout ends connections
        let ping = ping::Config::new().with_interval(PING_INTERVAL).with_timeout(Duration::from_secs(5));
        let asking = |streams| {
            request_response::Config::default()
                .with_request_timeout(REQUEST_TIMEOUT)
                .with_max_concurrent_streams(streams)
        };
        let relay = choice.relay.then(|| relay::Behaviour::new(me, budget::relay()));
        let autonat_client = choice.autonat.then(autonat::v2::client::Behaviour::default);
        let autonat_server = choice.autonat.then(autonat::v2::server::Behaviour::default);
        Ok(Self {
            gate: Gate::default(),
            limits: connection_limits::Behaviour::new(limits),
            identify: identify::Behaviour::new(identify),
            ping: ping::Behaviour::new(ping),
            kad: kademlia(me),
            gossip: gossip(key)?,
            rpc: request_response::Behaviour::with_codec(
                OpaqueCodec::rpc(),
                [(RPC_PROTOCOL, ProtocolSupport::Full)],
                asking(MAX_STREAMS),
            ),
            signal: request_response::Behaviour::with_codec(
                OpaqueCodec::signal(),
                [(SIGNAL_PROTOCOL, ProtocolSupport::Full)],
                asking(MAX_SIGNAL_STREAMS),
            ),
            relay_client,
            relay: relay.into(),
            dcutr: dcutr::Behaviour::new(me),
            autonat_client: autonat_client.into(),
            autonat_server: autonat_server.into(),
            mdns: choice.lan.then(|| local_network(me)).flatten().into(),
        })
    }
}

/// mDNS; where the machine does not let us, members on the local network are not found, and nothing else is lost.
fn local_network(me: PeerId) -> Option<mdns::tokio::Behaviour> {
    match mdns::tokio::Behaviour::new(mdns::Config::default(), me) {
        Ok(behaviour) => Some(behaviour),
        Err(error) => {
            tracing::warn!(%error, "members on the local network are not looked for");
            None
        }
    }
}

fn kademlia(me: PeerId) -> kad::Behaviour<MemoryStore> {
    let mut config = kad::Config::new(StreamProtocol::new("/talkoot/kad/1"));
    config
        // others' records are handed to us for judgement instead of being stored; we use the routing table alone
        .set_record_filtering(kad::StoreInserts::FilterBoth)
        .set_query_timeout(Duration::from_secs(10))
        // the driver looks around at its own pace
        .set_periodic_bootstrap_interval(None);
    let mut kad = kad::Behaviour::with_config(me, MemoryStore::new(me), config);
    kad.set_mode(Some(kad::Mode::Server));
    kad
}

fn gossip(key: &Keypair) -> Result<Gossip, String> {
    let config = gossipsub::ConfigBuilder::default()
        .validation_mode(gossipsub::ValidationMode::Strict)
        .max_transmit_size(MAX_GOSSIP_FRAME)
        // a run may have three members: a mesh that wants six would never be complete
        .mesh_outbound_min(1)
        .mesh_n_low(2)
        .mesh_n(4)
        .mesh_n_high(8)
        .gossip_lazy(3)
        // an author sends to all its neighbours, so that a young mesh loses nothing
        .flood_publish(true)
        .build()
        .map_err(|error| error.to_string())?;
    let filter = MaxCountSubscriptionFilter {
        filter: AllowAllSubscriptionFilter {},
        max_subscribed_topics: MAX_TOPICS,
        max_subscriptions_per_request: MAX_TOPICS,
    };
    let author = gossipsub::MessageAuthenticity::Signed(key.clone());
    Gossip::new_with_subscription_filter(author, config, filter).map_err(str::to_owned)
}
