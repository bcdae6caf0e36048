//! One handle for both planes.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
};

use talkoot_protocol::{
    digest::{BlobRef, Digest},
    identity::{Keypair, MemberId},
};
use tokio::sync::{mpsc, watch};

use crate::{
    bulk::{Bulk, FetchError, Line, Urgency},
    control::{Control, ControlConfig, NetworkEvent},
    error::{NetworkError, RequestError},
    store::BlobStore,
};

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
    /// What is given of the line.
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
            line: Line::default(),
        }
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
    // bulk first: control tells its port; the addresses of the others come back through the watch
    let (bulk_addresses, peers) = watch::channel(BTreeMap::new());
    let bulk = Bulk::start(config.bulk_listen, key, store, peers, config.line).await?;
    let control = ControlConfig {
        listen: config.control_listen,
        bulk_port: bulk.local_addr().port(),
        bootstrap: &config.bootstrap,
        topics: &config.topics,
        bulk_addresses,
    };
    let (control, events) = Control::start(control, key).await?;
    Ok((Network { id: key.id(), control, bulk }, events))
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

    /// Asks a connected member and waits for its answer, at most [`REQUEST_TIMEOUT`](crate::control::REQUEST_TIMEOUT).
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

    /// Fetches a blob into the store from whoever has it, and waits for somebody to have it. Cancel-safe: what has come stays
    /// for the next time.
    ///
    /// # Errors
    ///
    /// [`FetchError`] when it can never come.
    pub async fn fetch(&self, blob: BlobRef) -> Result<(), FetchError> {
        self.bulk.fetch(blob, &[], Urgency::default()).await
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
        self.bulk.fetch(blob, hints, urgency).await
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
