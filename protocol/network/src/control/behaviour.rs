//! The libp2p protocols that a member speaks, and their bounds.

use std::time::Duration;

use libp2p::{
    StreamProtocol, connection_limits, gossipsub,
    gossipsub::{AllowAllSubscriptionFilter, IdentityTransform, MaxCountSubscriptionFilter},
    identify,
    identity::Keypair,
    kad::{self, store::MemoryStore},
    ping,
    request_response::{self, ProtocolSupport},
    swarm::NetworkBehaviour,
};

use super::{
    REQUEST_TIMEOUT,
    codec::{OpaqueCodec, RPC_PROTOCOL},
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
/// Topics that a peer may subscribe to; a run has a handful.
const MAX_TOPICS: usize = 64;

type Gossip = gossipsub::Behaviour<IdentityTransform, MaxCountSubscriptionFilter<AllowAllSubscriptionFilter>>;

/// All protocols. Relay, hole punching, mDNS and `AutoNAT` become fields here.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    /// First, so that a connection too many costs the others nothing.
    limits: connection_limits::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    pub(crate) kad: kad::Behaviour<MemoryStore>,
    pub(crate) gossip: Gossip,
    pub(crate) rpc: request_response::Behaviour<OpaqueCodec>,
}

impl Behaviour {
    /// Puts the protocols together; an error is a contradiction in the constants above.
    pub(crate) fn new(key: &Keypair, hello: Hello) -> Result<Self, String> {
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
        let rpc = request_response::Config::default()
            .with_request_timeout(REQUEST_TIMEOUT)
            .with_max_concurrent_streams(MAX_STREAMS);
        Ok(Self {
            limits: connection_limits::Behaviour::new(limits),
            identify: identify::Behaviour::new(identify),
            ping: ping::Behaviour::new(ping),
            kad: kademlia(me),
            gossip: gossip(key)?,
            rpc: request_response::Behaviour::new([(RPC_PROTOCOL, ProtocolSupport::Full)], rpc),
        })
    }
}

fn kademlia(me: libp2p::PeerId) -> kad::Behaviour<MemoryStore> {
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
