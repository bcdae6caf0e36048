//! The control plane: libp2p for finding each other and for small messages.
//!
//! ```text
//! Network (handle) --commands--> driver (owns the swarm) --outbox--> NetworkEvent receiver
//!                                  |        |
//!                                  |        `-- roster: who is connected, in which process, over which connections
//!                                  `--watch--> connected members; their bulk addresses
//! ```
//!
//! QUIC carries identify, ping, Kademlia, gossipsub and request-response. Who bootstraps from the same member comes to be
//! connected with all the others, up to [`MAX_DIALLED_PEERS`]. Bootstrap members are dialled for ever.
//!
//! Room for more: another transport joins in `transport::build`, another way to hear of addresses (mDNS, a relay, hole
//! punching, `AutoNAT`) is a field of `behaviour::Behaviour` and an arm of `Driver::on_behaviour` that ends in `Driver::meet`.

mod behaviour;
mod codec;
mod driver;
mod event;
mod hello;
mod outbox;
pub(crate) mod peer;
mod rate;
mod roster;
#[cfg(test)]
mod tests;
mod transport;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use talkoot_protocol::identity::{Keypair, MemberId};
use tokio::sync::{mpsc, oneshot, watch};

pub use self::{
    behaviour::MAX_GOSSIP_BYTES,
    codec::{MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES},
    event::{NetworkEvent, ReplySender},
};
use self::{driver::Driver, transport::Counters};
use crate::error::{NetworkError, RequestError};

/// A request without an answer for this long has failed; the other side has given up, too.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Peers that are dialled without having been asked for: enough for a swarm, few enough for a home router.
pub const MAX_DIALLED_PEERS: usize = 32;

/// Events that wait for their receiver in the channel; [`outbox::OUTBOX_CAPACITY`] more wait behind. A round's end of 64
/// members fits.
const EVENT_CAPACITY: usize = 64;
/// Commands that wait for the driver, which only ever hands them on; callers wait when there are more.
const COMMAND_CAPACITY: usize = 64;

/// What a handle wants from the driver.
#[derive(Debug)]
enum Command {
    Request { to: MemberId, body: Vec<u8>, answer: oneshot::Sender<Result<Vec<u8>, RequestError>> },
    Publish { topic: String, body: Vec<u8> },
    Shutdown { done: oneshot::Sender<()> },
}

/// What the control plane needs to start.
#[derive(Debug)]
pub(crate) struct ControlConfig<'a> {
    pub(crate) listen: SocketAddr,
    pub(crate) bulk_port: u16,
    pub(crate) bootstrap: &'a [String],
    pub(crate) topics: &'a [String],
    /// Where members' bulk addresses are shown.
    pub(crate) bulk_addresses: watch::Sender<BTreeMap<MemberId, SocketAddr>>,
}

/// A handle on the driver. Clones are the same; the last one stops it.
#[derive(Debug, Clone)]
pub(crate) struct Control {
    commands: mpsc::Sender<Command>,
    connected: watch::Receiver<BTreeSet<MemberId>>,
    counters: Arc<Counters>,
    addresses: Arc<Vec<String>>,
}

impl Control {
    /// Listens, and starts the driver.
    pub(crate) async fn start(
        config: ControlConfig<'_>,
        key: &Keypair,
    ) -> Result<(Self, mpsc::Receiver<NetworkEvent>), NetworkError> {
        let (commands, inbox) = mpsc::channel(COMMAND_CAPACITY);
        let (outbox, events) = mpsc::channel(EVENT_CAPACITY);
        let (connected, connected_now) = watch::channel(BTreeSet::new());
        let counters = Arc::new(Counters::default());
        let mut driver = Driver::new(config, key, counters.clone(), connected)?;
        let addresses = Arc::new(driver.listen().await?);
        tokio::spawn(driver.run(inbox, outbox));
        Ok((Self { commands, connected: connected_now, counters, addresses }, events))
    }

    pub(crate) async fn request(&self, to: MemberId, body: Vec<u8>) -> Result<Vec<u8>, RequestError> {
        if body.len() > MAX_REQUEST_BYTES {
            return Err(RequestError::TooLong { peer: to, bytes: body.len(), max_bytes: MAX_REQUEST_BYTES });
        }
        self.request_unchecked(to, body).await
    }

    /// Leaves the length to the other side.
    async fn request_unchecked(&self, to: MemberId, body: Vec<u8>) -> Result<Vec<u8>, RequestError> {
        let (answer, answered) = oneshot::channel();
        let command = Command::Request { to, body, answer };
        self.commands.send(command).await.map_err(|_| RequestError::ShutDown)?;
        answered.await.map_err(|_| RequestError::ShutDown)?
    }

    pub(crate) async fn publish(&self, topic: String, body: Vec<u8>) {
        if body.len() > MAX_GOSSIP_BYTES {
            tracing::error!(%topic, bytes = body.len(), max_bytes = MAX_GOSSIP_BYTES, "a message is too long for gossip; store it as a blob and publish its name");
        } else if self.commands.send(Command::Publish { topic, body }).await.is_err() {
            tracing::debug!("nothing is published after the shutdown");
        }
    }

    pub(crate) fn connected(&self) -> BTreeSet<MemberId> {
        self.connected.borrow().clone()
    }

    pub(crate) fn addresses(&self) -> Vec<String> {
        self.addresses.to_vec()
    }

    /// Bytes sent and received in streams.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        self.counters.read()
    }

    pub(crate) async fn shutdown(&self) {
        let (done, closed) = oneshot::channel();
        if self.commands.send(Command::Shutdown { done }).await.is_ok() {
            // an error is a driver that has gone already
            let _ = closed.await;
        }
    }
}
