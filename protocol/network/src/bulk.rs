//! The bulk plane: blobs over QUIC, from several members at once, proved while they come in.
//!
//! ```text
//! fetch(blob) --> pieces --> some requests to each of some peers --> verify 16 KiB groups --> partial file --> store
//!                                  |  seeders first, home lines last                           |
//! peers (watch: member -> address)-'                       others are served what is here <----'
//! ```
//!
//! Its own UDP socket, the member's own key: TLS pins whom we dial, the hash proves what they send. Absent members are
//! waited for, slow ones are doubled, liars are dropped for the life of the process. What is more urgent goes first, and the
//! donor's limits hold for all of it.

mod awake;
mod congestion;
mod depth;
mod dial;
mod error;
mod fetch;
mod follow;
mod frames;
mod heard;
pub mod plain;
pub(crate) mod punch;
mod ranges;
mod rate;
mod seeders;
mod serve;
mod spread;
#[cfg(test)]
mod tests;
mod tls;
mod urgency;
pub(crate) mod wire;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, stream};
use quinn::VarInt;
use talkoot_protocol::{
    digest::{BlobRef, Digest},
    identity::{Keypair, MemberId},
};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use self::{
    awake::Awake,
    depth::Depths,
    dial::Dialler,
    fetch::{Download, MAX_BLOB_BYTES, blocking},
    follow::Follows,
    punch::{ACCEPTED, Accepted, socket::Probes},
    rate::Rate,
    seeders::Seeders,
    serve::Server,
    urgency::Flowing,
    wire::{Request, Response},
};
pub use self::{
    error::{BulkError, FetchError},
    ranges::RangesError,
    urgency::Urgency,
};
use crate::store::BlobStore;

/// How long a shutdown waits for its farewells to be heard.
const FAREWELL: Duration = Duration::from_secs(1);
/// With a limit on what is received, peers may send ahead what it lets through in this time: round trips are shorter.
const AHEAD: Duration = Duration::from_millis(250);
/// Peers asked at once by [`Bulk::who_has`].
const MAX_QUERIES: usize = 32;

/// When a download goes on that the full disk has stopped.
const DISK_FULL: Duration = Duration::from_secs(2);

/// What a donor gives of the line.
#[derive(Debug, Clone, Copy, Default)]
pub struct Line {
    /// This line is there for others: whoever wants a blob asks here first. Right for a lab, wrong for a home.
    pub seeder: bool,
    /// Most bits a second sent, headers included; no limit when left out.
    pub up_bits_per_sec: Option<u64>,
    /// Most bits a second received, headers included; no limit when left out.
    pub down_bits_per_sec: Option<u64>,
}

/// Fetches blobs from other members and serves them ours. Clones are the same plane; the last one stops it.
#[derive(Debug, Clone)]
pub struct Bulk(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    me: MemberId,
    local: SocketAddr,
    store: BlobStore,
    peers: watch::Receiver<BTreeMap<MemberId, SocketAddr>>,
    dialler: Arc<Dialler>,
    /// What peers have of what is being fetched.
    follows: Follows,
    server: Server,
    probes: Probes,
    accepted: Mutex<Option<mpsc::Receiver<Accepted>>>,
    sent: Arc<AtomicU64>,
    seeder: bool,
    down: Rate,
    flowing: Flowing,
    /// What is asked of each peer by all downloads together.
    depths: Depths,
    /// By which silence is measured.
    awake: Awake,
    seeders: Seeders,
    /// Members whose bytes were disproved.
    dropped: Mutex<BTreeSet<MemberId>>,
    /// Counts the changes of whom downloads may ask, besides those of the table of peers.
    changes: AtomicU64,
    /// One download per blob; the others wait for it.
    downloads: Mutex<BTreeMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
    stopped: CancellationToken,
    _server: AbortOnDropHandle<()>,
}

fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // nothing that holds these locks can panic half-way through a change
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    fn is_dropped(&self, peer: &MemberId) -> bool {
        unpoisoned(&self.dropped).contains(peer)
    }

    fn drop_peer(&self, peer: MemberId) {
        unpoisoned(&self.dropped).insert(peer);
        self.changes.fetch_add(1, Ordering::Release);
    }

    fn note_seeder(&self, peer: MemberId, seeder: bool) {
        if self.seeders.note(peer, seeder) {
            self.changes.fetch_add(1, Ordering::Release);
        }
    }

    /// The gate that all fetches of one blob go through one by one.
    fn gate(&self, digest: Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut downloads = unpoisoned(&self.downloads);
        downloads.retain(|_, gate| gate.strong_count() > 0);
        if let Some(gate) = downloads.get(&digest).and_then(Weak::upgrade) {
            return gate;
        }
        let gate = Arc::default();
        downloads.insert(digest, Arc::downgrade(&gate));
        gate
    }
}

impl Bulk {
    /// Opens the socket at `listen` (port 0 takes any free one) and starts serving the store's visible blobs.
    ///
    /// `peers` says where members' bulk sockets are, and follows them when they move.
    ///
    /// # Errors
    ///
    /// [`BulkError::InUse`] when somebody has the port; other socket and certificate trouble.
    #[expect(
        clippy::unused_async,
        reason = "starting may come to wait, and callers have to be in a runtime anyway"
    )]
    pub async fn start(
        listen: SocketAddr,
        key: &Keypair,
        store: BlobStore,
        peers: watch::Receiver<BTreeMap<MemberId, SocketAddr>>,
        line: Line,
    ) -> Result<Self, BulkError> {
        let down = Rate::new(line.down_bits_per_sec);
        let window = tls::window(down.bytes_in(AHEAD));
        let transport = tls::transport(window);
        let (endpoint, probes) = punch::endpoint(listen, key, transport.clone())?;
        let local = endpoint.local_addr().map_err(|source| BulkError::Socket { address: listen, source })?;
        let sent = Arc::new(AtomicU64::new(0));
        let (accepted, newcomers) = mpsc::channel(ACCEPTED);
        let (dialled, ours) = mpsc::channel(ACCEPTED);
        let up = Rate::new(line.up_bits_per_sec);
        let seeders = Seeders::default();
        let server = Server::new(store.clone(), sent.clone(), up, (line.seeder, seeders.clone()), accepted);
        let serving = server.clone().run(endpoint.clone(), ours, CancellationToken::new());
        let dialler = Arc::new(Dialler::new(endpoint, key.clone(), dialled, (transport, window)));
        Ok(Self(Arc::new(Inner {
            me: key.id(),
            local,
            store,
            peers,
            follows: Follows::new(dialler.clone()),
            dialler,
            server,
            probes,
            accepted: Mutex::new(Some(newcomers)),
            sent,
            seeder: line.seeder,
            down,
            flowing: Flowing::default(),
            depths: Depths::default(),
            awake: Awake::new(Instant::now()),
            seeders,
            dropped: Mutex::default(),
            changes: AtomicU64::new(0),
            downloads: Mutex::default(),
            stopped: CancellationToken::new(),
            _server: AbortOnDropHandle::new(tokio::spawn(serving)),
        })))
    }

    /// The socket's address, with its real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.0.local
    }

    /// Brings a blob into the store; does nothing when it is there. Waits for as long as nobody has it.
    ///
    /// `hints` are members that should have it, and need not be in anybody's neighbourhood. Several calls for one blob share
    /// one download, with the urgency of the first. A full disk is waited for, too.
    /// Cancel-safe: what was verified stays on the disk, and the next call goes on from there.
    ///
    /// # Errors
    ///
    /// [`FetchError`]: what waiting would not mend.
    pub async fn fetch(&self, blob: BlobRef, hints: &[MemberId], urgency: Urgency) -> Result<(), FetchError> {
        let BlobRef { digest, bytes: expected } = blob;
        if expected > MAX_BLOB_BYTES {
            return Err(FetchError::TooLarge { blob, limit: MAX_BLOB_BYTES });
        }
        let here = || match self.0.store.size(&digest) {
            Some(actual) if actual == expected => Some(Ok(())),
            Some(actual) => Some(Err(FetchError::SizeMismatch { digest, expected, actual, peer: None })),
            None => None,
        };
        if let Some(done) = here() {
            return done;
        }
        let empty = Digest::of(&[]);
        if digest == empty && expected == 0 {
            let store = self.0.store.clone();
            blocking(move || store.put(&[])).await?;
            return Ok(());
        } else if digest == empty {
            return Err(FetchError::SizeMismatch { digest, expected, actual: 0, peer: None });
        }
        let gate = self.0.gate(digest);
        let _turn = tokio::select! {
            turn = gate.lock() => turn,
            () = self.0.stopped.cancelled() => return Err(FetchError::Stopped),
        };
        if let Some(done) = here() {
            return done;
        }
        loop {
            let download = async { Download::open(&self.0, blob, urgency, hints).await?.run().await };
            match Box::pin(download).await {
                Err(FetchError::Store(error)) if error.is_disk_full() => {
                    tracing::warn!(%blob, %error, "a download waits for room on the disk");
                }
                done => return done,
            }
            tokio::select! {
                () = self.0.stopped.cancelled() => return Err(FetchError::Stopped),
                () = tokio::time::sleep(DISK_FULL) => {}
            }
        }
    }

    /// The members of the table that say they have a blob and would serve it, in order of their ids.
    pub async fn who_has(&self, digest: &Digest) -> Vec<MemberId> {
        let request = Request::Has { digest: *digest.as_bytes() };
        let table = self.0.peers.borrow().clone();
        let others = table.into_iter().filter(|(peer, _)| *peer != self.0.me && !self.0.is_dropped(peer));
        let mut having: Vec<_> = stream::iter(others)
            .map(|(peer, address)| {
                let request = &request;
                async move {
                    match self.0.dialler.ask(peer, address, request).await {
                        Ok((Response::Have { .. }, _)) => Some(peer),
                        Ok(_) => None,
                        Err(reason) => {
                            tracing::debug!(%peer, %digest, reason, "a peer could not be asked");
                            None
                        }
                    }
                }
            })
            .buffer_unordered(MAX_QUERIES)
            .filter_map(std::future::ready)
            .collect()
            .await;
        having.sort_unstable();
        having
    }

    /// Members whose bytes were disproved by their hash since the start; they are asked nothing more.
    pub fn liars(&self) -> BTreeSet<MemberId> {
        unpoisoned(&self.0.dropped).clone()
    }

    /// Bytes sent and received since the start: answers with their hash trees, without QUIC's own overhead.
    pub fn bytes(&self) -> (u64, u64) {
        (self.0.sent.load(Ordering::Relaxed), self.0.dialler.received.load(Ordering::Relaxed))
    }

    /// Ends all transfers and tells the peers. Fetches under way return [`FetchError::Stopped`]; the port is free once the
    /// last clone is gone.
    pub async fn shutdown(&self) {
        self.0.stopped.cancel();
        let endpoint = &self.0.dialler.endpoint;
        endpoint.close(VarInt::from_u32(0), b"leaving");
        // a peer that does not hear it finds out by itself
        let _ = tokio::time::timeout(FAREWELL, endpoint.wait_idle()).await;
    }
}
