//! The serving side: accepts connections, answers one request per stream, within limits.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use libp2p::PeerId;
use quinn::{Connection, Endpoint, Incoming, RecvStream, SendStream, VarInt};
use talkoot_protocol::digest::BlobRef;
use tokio::{
    sync::{AcquireError, Semaphore, mpsc},
    task::JoinSet,
    time::timeout,
};

use super::{
    punch::Accepted,
    tls,
    wire::{self, Request, Response},
};
use crate::{
    control::peer::member_of,
    store::{BlobStore, StoreError, tree},
};

/// Connections served at once; each costs a few kilobytes while it is quiet.
const MAX_CONNECTIONS: usize = 256;
/// Connections of one peer: one, and those of its former lives that have not timed out yet.
pub(super) const MAX_CONNECTIONS_PER_PEER: usize = 8;
/// Slices served at once by this process; each holds one encoded piece, so about 70 MB in all.
const MAX_SLICES: usize = 16;
/// Slices served at once to one peer, so that one cannot crowd out the others.
const MAX_SLICES_PER_PEER: usize = 4;
/// How long a request may wait for its turn before it is told to come back.
const TURN: Duration = Duration::from_secs(2);
/// How long a peer may take to send a request, or to take a part of an answer.
const STALL: Duration = Duration::from_secs(15);
/// Bytes written between two looks at the clock.
const PART_BYTES: usize = 64 << 10;

/// What serving needs; the endpoint's owner keeps the task.
#[derive(Debug, Clone)]
pub(super) struct Server {
    pub(super) store: BlobStore,
    pub(super) sent: Arc<AtomicU64>,
    /// Where connections that peers make go to be used the other way round as well.
    accepted: mpsc::Sender<Accepted>,
    turns: Arc<Semaphore>,
    /// What each connected peer may use; gone with its last connection.
    shares: Arc<Mutex<BTreeMap<PeerId, Weak<Share>>>>,
}

/// One peer's part of what there is, over all its connections.
#[derive(Debug)]
struct Share {
    connections: Semaphore,
    turns: Semaphore,
}

impl Server {
    pub(super) fn new(store: BlobStore, sent: Arc<AtomicU64>, accepted: mpsc::Sender<Accepted>) -> Self {
        Self { store, sent, accepted, turns: Arc::new(Semaphore::new(MAX_SLICES)), shares: Arc::default() }
    }

    /// Accepts until the endpoint is closed; serves on connections that we `dialled` as well.
    pub(super) async fn run(self, endpoint: Endpoint, mut dialled: mpsc::Receiver<Connection>) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                incoming = endpoint.accept() => match incoming {
                    Some(incoming) if connections.len() >= MAX_CONNECTIONS => incoming.refuse(),
                    Some(incoming) => {
                        connections.spawn(self.clone().connection(incoming));
                    }
                    None => break,
                },
                Some(connection) = dialled.recv() => {
                    connections.spawn(self.clone().streams(connection));
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }

    /// The share of the peer at the other end; none if it has no identity, which TLS does not let happen.
    fn share(&self, connection: &Connection) -> Option<Arc<Share>> {
        let peer = tls::identity_of(connection)?;
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        shares.retain(|_, share| share.strong_count() > 0);
        if let Some(share) = shares.get(&peer).and_then(Weak::upgrade) {
            return Some(share);
        }
        let share = Arc::new(Share {
            connections: Semaphore::new(MAX_CONNECTIONS_PER_PEER),
            turns: Semaphore::new(MAX_SLICES_PER_PEER),
        });
        shares.insert(peer, Arc::downgrade(&share));
        Some(share)
    }

    async fn connection(self, incoming: Incoming) {
        let remote = incoming.remote_address();
        let connection = match timeout(STALL, async { incoming.accept()?.await }).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => {
                tracing::debug!(%remote, %error, "a bulk connection was not made");
                return;
            }
            Err(_) => return,
        };
        if let Some(member) = tls::identity_of(&connection).as_ref().and_then(member_of) {
            // full, the peer will be dialled
            let _ = self.accepted.try_send((member, connection.clone()));
        }
        self.streams(connection).await;
    }

    /// Answers what comes over a connection.
    async fn streams(self, connection: Connection) {
        let remote = connection.remote_address();
        let Some(share) = self.share(&connection) else { return };
        let Ok(_place) = share.connections.try_acquire() else {
            tracing::debug!(%remote, "a bulk connection is refused: its peer has too many");
            return connection.close(VarInt::from_u32(2), b"too many connections");
        };
        let mut streams = JoinSet::new();
        loop {
            tokio::select! {
                stream = connection.accept_bi() => match stream {
                    Ok((send, recv)) => {
                        streams.spawn(self.clone().stream(connection.clone(), share.clone(), send, recv));
                    }
                    Err(_) => break,
                },
                Some(_) = streams.join_next() => {}
            }
        }
    }

    async fn stream(
        self,
        connection: Connection,
        share: Arc<Share>,
        mut send: SendStream,
        mut recv: RecvStream,
    ) {
        let remote = connection.remote_address();
        if let Err(reason) = self.answer(&share.turns, remote, &mut send, &mut recv).await {
            tracing::debug!(remote = %connection.remote_address(), reason, "a bulk request was not served");
            // an answer that is not finished must not look like one that is
            let _ = send.reset(VarInt::from_u32(1));
        }
    }

    async fn answer(
        &self,
        turns: &Semaphore,
        remote: SocketAddr,
        send: &mut SendStream,
        recv: &mut RecvStream,
    ) -> Result<(), String> {
        let request = timeout(STALL, read_frame::<Request>(recv)).await.map_err(|_| "no request came")??;
        let (response, slice) = match &request {
            Request::WhereAmI => (Response::YouAre { address: remote }, Vec::new()),
            Request::Has { digest: _ } => {
                let size = self.store.visible_size(&request.digest());
                (size.map_or(Response::NotFound, |bytes| Response::Have { bytes }), Vec::new())
            }
            Request::Slice { bytes, ranges, .. } => {
                if self.store.visible_size(&request.digest()).is_none() {
                    return self.write(send, Response::NotFound, &[]).await;
                }
                // the peer's own turn first, so that it cannot hold everybody's while it waits for its own
                let turn = timeout(TURN, async {
                    Ok::<_, AcquireError>((turns.acquire().await?, self.turns.acquire().await?))
                });
                // both live until the answer is written: they bound the memory
                let Ok(Ok(_turns)) = turn.await else {
                    return self.write(send, Response::Busy, &[]).await;
                };
                let (response, slice) = self.slice(request.digest(), *bytes, ranges.clone()).await?;
                return self.write(send, response, &slice).await;
            }
        };
        self.write(send, response, &slice).await
    }

    /// Reads and proves what is asked, away from the runtime's threads.
    async fn slice(
        &self,
        digest: talkoot_protocol::digest::Digest,
        asked: u64,
        ranges: Vec<(u64, u64)>,
    ) -> Result<(Response, Vec<u8>), String> {
        let store = self.store.clone();
        let work = move || {
            let Some(bytes) = store.visible_size(&digest) else {
                return Ok((Response::NotFound, Vec::new()));
            };
            let blob = BlobRef { digest, bytes };
            let (response, ranges) = if bytes == asked {
                match wire::checked_ranges(bytes, &ranges) {
                    Ok(ranges) => (Response::Have { bytes }, ranges),
                    Err(error) => {
                        tracing::debug!(%digest, %error, "a bulk request breaks a bound");
                        return Ok((Response::Refused, Vec::new()));
                    }
                }
            } else {
                (Response::OtherSize { bytes }, tree::last_group(bytes))
            };
            match store.slice(blob, &ranges) {
                Ok(slice) => Ok((response, slice)),
                Err(StoreError::Damaged { .. }) => Ok((Response::NotFound, Vec::new())),
                Err(error) => Err(error.to_string()),
            }
        };
        tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?
    }

    async fn write(&self, send: &mut SendStream, response: Response, slice: &[u8]) -> Result<(), String> {
        let header = wire::encode(&response).map_err(|error| error.to_string())?;
        for part in std::iter::once(&header[..]).chain(slice.chunks(PART_BYTES)) {
            timeout(STALL, send.write_all(part))
                .await
                .map_err(|_| "the peer does not take its answer")?
                .map_err(|error| error.to_string())?;
            self.sent.fetch_add(part.len() as u64, Ordering::Relaxed);
        }
        send.finish().map_err(|error| error.to_string())
    }
}

/// Reads one bounded frame.
pub(super) async fn read_frame<T: serde::de::DeserializeOwned>(recv: &mut RecvStream) -> Result<T, String> {
    let mut length = [0; 2];
    recv.read_exact(&mut length).await.map_err(|error| error.to_string())?;
    let length = usize::from(u16::from_le_bytes(length));
    wire::check_length(length).map_err(|error| error.to_string())?;
    let mut body = vec![0; length];
    recv.read_exact(&mut body).await.map_err(|error| error.to_string())?;
    wire::decode(&body).map_err(|error| error.to_string())
}
