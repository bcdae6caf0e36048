//! The control plane: libp2p for finding each other and for small messages.
//!
//! ```text
//! Network (handle) --commands--> driver (owns the swarm) --outbox--> NetworkEvent receiver
//!                                  |        |
//!                                  |        `-- roster: who is connected, in which process, over which connections
//!                                  `--watch--> connected members; ways to their bulk planes; how others reach us
//! ```
//!
//! QUIC, or TCP where there is no UDP, carries identify, ping, Kademlia, gossipsub and request-response. Who bootstraps from the same member comes to be
//! connected with all the others, up to [`MAX_DIALLED_PEERS`]. Bootstrap members are dialled for ever.
//!
//! Members behind routers are met through relays (`driver::reach`), and their connections made direct where the routers let
//! them (`DCUtR`). Members on the local network find each other by mDNS. Who misbehaves is banned for a while (`score`, `gate`).

mod behaviour;
mod budget;
mod codec;
mod driver;
mod event;
mod gate;
mod hello;
mod outbox;
pub(crate) mod peer;
mod rate;
mod reach;
mod roster;
pub(crate) mod route;
mod score;
#[cfg(test)]
mod tests;
mod transport;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use talkoot_protocol::identity::{Keypair, MemberId};
use tokio::sync::{mpsc, oneshot, watch};

pub use self::{
    behaviour::MAX_GOSSIP_BYTES,
    codec::{MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES},
    event::{NetworkEvent, ReplySender},
    reach::{ReachStatus, Reachability},
    score::Offence,
};
use self::{driver::Driver, route::Route, transport::Counters};
use crate::{
    error::{NetworkError, RequestError},
    signal::{Reply, Signal},
};

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
    Signal { to: MemberId, signal: Signal, answer: oneshot::Sender<Result<Reply, RequestError>> },
    Keep { member: MemberId },
    Blame { member: MemberId, offence: Offence },
    Shutdown { done: oneshot::Sender<()> },
}

/// What the control plane needs to start.
#[derive(Debug)]
pub(crate) struct ControlConfig<'a> {
    pub(crate) listen: SocketAddr,
    pub(crate) bulk_port: u16,
    pub(crate) bootstrap: &'a [String],
    pub(crate) topics: &'a [String],
    /// Find members on the local network, and be found.
    pub(crate) lan: bool,
    /// Carry others' control connections, and say that blobs are passed on.
    pub(crate) seeder: bool,
    /// Addresses under which others can dial us, where they are not those that we listen on.
    pub(crate) announce: &'a [String],
    /// Where known members are kept for the next start.
    pub(crate) peers_file: Option<PathBuf>,
    /// Where others' signals go.
    pub(crate) signals: mpsc::Sender<IncomingSignal>,
}

/// A word of another member's network.
#[derive(Debug)]
pub(crate) struct IncomingSignal {
    pub(crate) from: MemberId,
    pub(crate) signal: Signal,
    /// Dropped, it says no.
    pub(crate) reply: oneshot::Sender<Reply>,
}

/// What the driver shows to whoever watches.
#[derive(Debug)]
struct Shown {
    connected: watch::Sender<BTreeSet<MemberId>>,
    routes: watch::Sender<BTreeMap<MemberId, Route>>,
    heard: watch::Sender<BTreeMap<MemberId, tokio::time::Instant>>,
    reach: watch::Sender<ReachStatus>,
}

/// A handle on the driver. Clones are the same; the last one stops it.
#[derive(Debug, Clone)]
pub(crate) struct Control {
    commands: mpsc::Sender<Command>,
    connected: watch::Receiver<BTreeSet<MemberId>>,
    routes: watch::Receiver<BTreeMap<MemberId, Route>>,
    heard: watch::Receiver<BTreeMap<MemberId, tokio::time::Instant>>,
    reach: watch::Receiver<ReachStatus>,
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
        let (routes, routes_now) = watch::channel(BTreeMap::new());
        let (heard, heard_lately) = watch::channel(BTreeMap::new());
        let (reach, reach_now) = watch::channel(ReachStatus::default());
        let counters = Arc::new(Counters::default());
        let shown = Shown { connected, routes, heard, reach };
        let mut driver = Driver::new(config, key, counters.clone(), shown)?;
        let addresses = Arc::new(driver.listen().await?);
        tokio::spawn(driver.run(inbox, outbox));
        let control = Self {
            commands,
            connected: connected_now,
            routes: routes_now,
            heard: heard_lately,
            reach: reach_now,
            counters,
            addresses,
        };
        Ok((control, events))
    }

    /// Says something to another member's network.
    pub(crate) async fn signal(&self, to: MemberId, signal: Signal) -> Result<Reply, RequestError> {
        let (answer, answered) = oneshot::channel();
        let command = Command::Signal { to, signal, answer };
        self.commands.send(command).await.map_err(|_| RequestError::ShutDown)?;
        answered.await.map_err(|_| RequestError::ShutDown)?
    }

    /// From now on the member is dialled for ever when it is lost.
    pub(crate) async fn keep(&self, member: MemberId) {
        // an error is a network that has been shut down
        let _ = self.commands.send(Command::Keep { member }).await;
    }

    /// Takes note of what a member did.
    pub(crate) async fn blame(&self, member: MemberId, offence: Offence) {
        // an error is a network that has been shut down
        let _ = self.commands.send(Command::Blame { member, offence }).await;
    }

    /// The ways to connected members, and their changes.
    pub(crate) fn routes(&self) -> watch::Receiver<BTreeMap<MemberId, Route>> {
        self.routes.clone()
    }

    /// When connected members were last heard.
    pub(crate) fn last_heard(&self) -> BTreeMap<MemberId, tokio::time::Instant> {
        self.heard.borrow().clone()
    }

    /// How others can reach us, and its changes.
    pub(crate) fn reach(&self) -> watch::Receiver<ReachStatus> {
        self.reach.clone()
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

/// What a test that floods us speaks: our transport, our protocol of requests.
#[cfg(test)]
pub(crate) fn flooding(
    key: &libp2p::identity::Keypair,
) -> (
    libp2p::core::transport::Boxed<(libp2p::PeerId, libp2p::core::muxing::StreamMuxerBox)>,
    libp2p::StreamProtocol,
) {
    let (transport, _) = transport::build(key, Arc::default()).expect("the transport");
    (transport, codec::RPC_PROTOCOL)
}
