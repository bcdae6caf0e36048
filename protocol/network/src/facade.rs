//! One handle for both planes.

#[cfg(test)]
pub(crate) mod flood;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
    ops::Range,
    path::{Path, PathBuf},
};

use talkoot_protocol::{
    announcement,
    digest::{BlobRef, Digest},
    identity::{Keypair, MemberId},
    link::JoinLink,
};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use crate::{
    bulk::{Bulk, FetchError, Line, RangesError, Urgency},
    control::{Control, ControlConfig, NetworkEvent, Offence, ReachStatus},
    error::{NetworkError, RequestError},
    store::BlobStore,
    ways::{Ways, WaysStatus},
};

/// Signals of others that wait; more are refused.
const SIGNALS: usize = 64;

/// Where a member listens and whom it meets first.
#[derive(Debug, Clone)]
pub struct NetworkConfig {
    /// UDP address of the control plane; port 0 takes any free one.
    pub control_listen: SocketAddr,
    /// UDP address of the bulk plane; port 0 takes any free one.
    pub bulk_listen: SocketAddr,
    /// Members to meet first, as multiaddrs that end in `/p2p/<peer id>`. They are dialled again for ever when lost.
    pub bootstrap: Vec<String>,
    /// Gossip topics to listen to. Publishing does not need an entry here.
    pub topics: Vec<String>,
    /// Find members on the local network by mDNS, and be found. Never on the loopback.
    pub lan: bool,
    /// Addresses under which others can dial the control plane, as multiaddrs without a peer id, where they are not those
    /// that are listened on: a forwarded port, a cloud's outer address.
    pub announce: Vec<String>,
    /// Where the members that were met are kept for the next start. A cache.
    pub peers_file: Option<PathBuf>,
    /// What is given of the line. A seeder also carries control connections of members behind routers, and fetches for them
    /// what they cannot reach.
    pub line: Line,
}

impl Default for NetworkConfig {
    /// Loopback, any ports, nobody to meet.
    fn default() -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            control_listen: any,
            bulk_listen: any,
            bootstrap: Vec::new(),
            topics: Vec::new(),
            lan: false,
            announce: Vec::new(),
            peers_file: None,
            line: Line::default(),
        }
    }
}

impl NetworkConfig {
    /// The same for a member of the run that `link` names, whose files are in `dir`.
    #[must_use]
    pub fn for_member(mut self, link: &JoinLink, dir: &Path) -> Self {
        self.bootstrap.extend(link.addresses.iter().cloned());
        self.topics.push(announcement::topic(&link.run));
        self.peers_file = Some(dir.join("peers.txt"));
        self
    }
}

/// Bytes since the start.
///
/// Control counts everything written to and read from libp2p streams: requests, answers, gossip to every neighbour,
/// identify, pings, Kademlia and protocol negotiation. Bulk counts what [`Bulk::bytes`] says. What QUIC, UDP and IP add
/// (headers, handshakes, acknowledgements, repeats) is in neither.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Sent on the control plane.
    pub control_sent: u64,
    /// Received on the control plane.
    pub control_received: u64,
    /// Sent on the bulk plane.
    pub bulk_sent: u64,
    /// Received on the bulk plane.
    pub bulk_received: u64,
}

/// A member's handle on the network. Clones are the same member; the last one to go takes the network down.
#[derive(Debug, Clone)]
pub struct Network {
    id: MemberId,
    control: Control,
    bulk: Bulk,
    ways: Ways,
}

/// Starts both planes: listens, serves the store's visible blobs, and goes to meet the bootstrap members.
///
/// The receiver has to be read: when it is full, gossip and requests are dropped (and logged), and the network goes on.
///
/// # Errors
///
/// [`NetworkError`] when an address is taken or a bootstrap address is not one.
pub async fn start(
    config: NetworkConfig,
    key: &Keypair,
    store: BlobStore,
) -> Result<(Network, mpsc::Receiver<NetworkEvent>), NetworkError> {
    // bulk first: control tells its port; what control learns of the others comes back through the table
    let (table, peers) = watch::channel(BTreeMap::new());
    let bulk = Bulk::start(config.bulk_listen, key, store.clone(), peers, config.line).await?;
    let (signals, heard) = mpsc::channel(SIGNALS);
    let control = ControlConfig {
        listen: config.control_listen,
        bulk_port: bulk.local_addr().port(),
        bootstrap: &config.bootstrap,
        topics: &config.topics,
        lan: config.lan,
        seeder: config.line.seeder,
        announce: &config.announce,
        peers_file: config.peers_file,
        signals,
    };
    let (control, events) = Control::start(control, key).await?;
    let passing = config.line.seeder.then_some(store);
    let ways = Ways::start(key.id(), control.clone(), bulk.clone(), passing, heard, table);
    Ok((Network { id: key.id(), control, bulk, ways }, events))
}

impl Network {
    /// Who we are.
    pub const fn id(&self) -> MemberId {
        self.id
    }

    /// Where our control plane listens, as multiaddrs that others can bootstrap from.
    pub fn control_addresses(&self) -> Vec<String> {
        self.control.addresses()
    }

    /// Where our bulk plane listens, with its real port.
    pub fn bulk_address(&self) -> SocketAddr {
        self.bulk.local_addr()
    }

    /// Asks a connected member, with a body that is not empty, and waits for its answer, at most [`REQUEST_TIMEOUT`](crate::control::REQUEST_TIMEOUT).
    /// Dropping the future does not take the request back.
    ///
    /// # Errors
    ///
    /// [`RequestError`], which also says whether to try again.
    pub async fn request(&self, to: MemberId, body: Vec<u8>) -> Result<Vec<u8>, RequestError> {
        self.control.request(to, body).await
    }

    /// Tells everybody who listens to `topic`, as far as there are any: gossip promises nothing, and what it does not do is
    /// logged. We do not hear ourselves.
    pub async fn publish(&self, topic: String, body: Vec<u8>) {
        self.control.publish(topic, body).await;
    }

    /// Members that are connected now and have introduced themselves.
    pub fn connected(&self) -> BTreeSet<MemberId> {
        self.control.connected()
    }

    /// When connected members were last heard: each says something about once a second.
    pub fn last_heard(&self) -> BTreeMap<MemberId, Instant> {
        self.control.last_heard()
    }

    /// From now on the member is dialled for ever when it is lost, wherever it was last met.
    pub async fn keep(&self, member: MemberId) {
        self.control.keep(member).await;
    }

    /// Takes note of what a member did; for too much of it, it is not let in for a while.
    pub async fn blame(&self, member: MemberId, offence: Offence) {
        self.control.blame(member, offence).await;
    }

    /// Whether others can dial us, and its changes.
    pub fn reach(&self) -> watch::Receiver<ReachStatus> {
        self.control.reach()
    }

    /// How members behind routers are reached, and its changes.
    pub fn ways(&self) -> watch::Receiver<WaysStatus> {
        self.ways.status()
    }

    /// Fetches a blob into the store from whoever has it, and waits for somebody to have it. Cancel-safe: what has come stays
    /// for the next time.
    ///
    /// # Errors
    ///
    /// [`FetchError`] when it can never come.
    pub async fn fetch(&self, blob: BlobRef) -> Result<(), FetchError> {
        self.fetch_from(blob, &[], Urgency::default()).await
    }

    /// As [`fetch`](Self::fetch), knowing who should have it and how urgent it is.
    ///
    /// # Errors
    ///
    /// As [`fetch`](Self::fetch).
    pub async fn fetch_from(
        &self,
        blob: BlobRef,
        hints: &[MemberId],
        urgency: Urgency,
    ) -> Result<(), FetchError> {
        tokio::select! {
            fetched = self.bulk.fetch(blob, hints, urgency) => fetched,
            // never ends: when somebody cannot be reached, seeders are asked to fetch what it may have
            () = self.ways.ask_seeders(blob) => Err(FetchError::Stopped),
        }
    }

    /// A few stretches of a blob from one member, in the order given, proven by the blob's hash; nothing is stored.
    /// Cancel-safe.
    ///
    /// # Errors
    ///
    /// [`RangesError`]: nothing is known of the blob then.
    pub async fn fetch_ranges(
        &self,
        blob: BlobRef,
        ranges: &[Range<u64>],
        peer: MemberId,
    ) -> Result<Vec<Vec<u8>>, RangesError> {
        self.bulk.ranges(blob, ranges, peer).await
    }

    /// The connected members that have a blob and would serve it.
    pub async fn who_has(&self, digest: &Digest) -> Vec<MemberId> {
        self.bulk.who_has(digest).await
    }

    /// Members whose blob bytes were disproved by their hash since the start: proof of a lie, or of broken memory, as every
    /// server verifies what it reads. They are asked for no more blobs.
    pub fn liars(&self) -> BTreeSet<MemberId> {
        self.bulk.liars()
    }

    /// Bytes since the start.
    pub fn bytes(&self) -> Traffic {
        let (control_sent, control_received) = self.control.bytes();
        let (bulk_sent, bulk_received) = self.bulk.bytes();
        Traffic { control_sent, control_received, bulk_sent, bulk_received }
    }

    /// Closes all connections, so that others see us go at once. The control port is free afterwards, the bulk port
    /// once the last clone of the handle is dropped. Later calls fail or do nothing.
    pub async fn shutdown(&self) {
        self.control.shutdown().await;
        self.bulk.shutdown().await;
    }
}
