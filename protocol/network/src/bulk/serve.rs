//! The serving side: accepts connections, answers one request per stream, within limits.

mod tell;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicI32, AtomicU64, Ordering},
    },
    time::Duration,
};

use bao_tree::ChunkRanges;
use libp2p::PeerId;
use quinn::{Connection, Endpoint, Incoming, RecvStream, SendStream, VarInt};
use talkoot_protocol::{
    digest::{BlobRef, Digest},
    identity::MemberId,
};
use tokio::{
    sync::{AcquireError, Semaphore, mpsc},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    frames::read_frame,
    punch::Accepted,
    rate::Rate,
    seeders::Seeders,
    spread::{Asker, SMALL_BYTES, Spread},
    tls,
    urgency::Urgency,
    wire::{self, Request, Response},
};
use crate::{
    control::peer::member_of,
    store::{BlobStore, SliceError, SliceReader, tree},
};

/// Connections served at once; each costs a few kilobytes while it is quiet.
const MAX_CONNECTIONS: usize = 256;
/// Connections of one peer: those that it needs, and those of its former lives that have not timed out yet.
pub(super) const MAX_CONNECTIONS_PER_PEER: usize = 8;
/// Slices served at once by this process; each holds one part, and what QUIC has not seen acknowledged: at most one piece, so
/// 140 MB in all at the very worst.
const MAX_SLICES: usize = 32;
/// Slices served at once to one peer, so that one cannot crowd out the others.
const MAX_SLICES_PER_PEER: usize = 8;
/// Streams over which one peer is told what is here: one that is in use, and some over connections that it has given up.
pub(super) const MAX_FOLLOWINGS_PER_PEER: usize = 8;
/// How long a request may wait for its turn before it is told to come back.
const TURN: Duration = Duration::from_secs(2);
/// How long a peer may take to send a request, or to take a part of an answer.
const STALL: Duration = Duration::from_secs(15);
/// Why a stream of an answer ends before its end: something failed, or the peer does not take it.
const UNSERVED: VarInt = VarInt::from_u32(1);
/// The same, and others wait for their turn.
pub(super) const OTHERS_WAIT: VarInt = VarInt::from_u32(2);
/// Bytes that are read and proved at a time.
const READ_BYTES: usize = 256 << 10;

/// What serving needs; the endpoint's owner keeps the task.
#[derive(Debug, Clone)]
pub(super) struct Server(Arc<Shop>);

#[derive(Debug)]
struct Shop {
    store: BlobStore,
    sent: Arc<AtomicU64>,
    rate: Rate,
    seeder: bool,
    /// Which of the askers are seeders.
    seeders: Seeders,
    spread: Spread,
    /// Where connections that peers make go to be used the other way round as well.
    accepted: mpsc::Sender<Accepted>,
    turns: Semaphore,
    /// What each connected peer may use; gone with its last connection.
    shares: Mutex<BTreeMap<PeerId, Weak<Share>>>,
}

/// One peer's part of what there is, over all its connections.
#[derive(Debug)]
struct Share {
    peer: PeerId,
    /// The same as a member; none if it is no key that members have.
    member: Option<MemberId>,
    connections: Semaphore,
    turns: Semaphore,
    /// Streams over which it is told what is here.
    followings: Semaphore,
    /// Slices asked for so far: who came first is served first.
    slices: AtomicI32,
}

impl Share {
    fn is_seeder(&self, seeders: &Seeders) -> bool {
        self.member.is_some_and(|member| seeders.contains(&member))
    }
}

/// What is asked of us.
struct Order {
    digest: Digest,
    bytes: u64,
    ranges: Vec<(u64, u64)>,
    urgency: Urgency,
    insists: bool,
}

impl Order {
    /// The pieces that the ranges, which MUST have been checked, lie in.
    fn pieces(&self) -> Vec<u64> {
        let piece = wire::piece_bytes(self.bytes);
        self.ranges.iter().flat_map(|(start, end)| start / piece..=(end - 1) / piece).collect()
    }
}

impl Server {
    pub(super) fn new(
        store: BlobStore,
        sent: Arc<AtomicU64>,
        up: Rate,
        (seeder, seeders): (bool, Seeders),
        accepted: mpsc::Sender<Accepted>,
    ) -> Self {
        Self(Arc::new(Shop {
            store,
            sent,
            rate: up,
            seeder,
            seeders,
            spread: Spread::default(),
            accepted,
            turns: Semaphore::new(MAX_SLICES),
            shares: Mutex::default(),
        }))
    }

    /// Accepts until the endpoint is closed, or `closing` says so; serves on connections that we `dialled` as well. Ends with
    /// the last connection.
    pub(super) async fn run(
        self,
        endpoint: Endpoint,
        mut dialled: mpsc::Receiver<Connection>,
        closing: CancellationToken,
    ) {
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
                    connections.spawn(self.clone().streams(connection, true));
                }
                Some(_) = connections.join_next() => {}
                () = closing.cancelled() => break,
            }
        }
        while connections.join_next().await.is_some() {}
    }

    /// The donor's limit on what is sent.
    #[cfg(test)]
    pub(super) fn rate(&self) -> &Rate {
        &self.0.rate
    }

    /// The share of the peer at the other end; none if it has no identity, which TLS does not let happen.
    fn share(&self, connection: &Connection) -> Option<Arc<Share>> {
        let peer = tls::identity_of(connection)?;
        let mut shares = self.0.shares.lock().unwrap_or_else(PoisonError::into_inner);
        shares.retain(|_, share| share.strong_count() > 0);
        if let Some(share) = shares.get(&peer).and_then(Weak::upgrade) {
            return Some(share);
        }
        let share = Arc::new(Share {
            peer,
            member: member_of(&peer),
            connections: Semaphore::new(MAX_CONNECTIONS_PER_PEER),
            turns: Semaphore::new(MAX_SLICES_PER_PEER),
            followings: Semaphore::new(MAX_FOLLOWINGS_PER_PEER),
            slices: AtomicI32::new(0),
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
            let _ = self.0.accepted.try_send((member, connection.clone()));
        }
        self.streams(connection, false).await;
    }

    /// Answers what comes over a connection. One that we made ourselves is kept to ask over, also when its peer has so many that
    /// nothing more is answered.
    async fn streams(self, connection: Connection, ours: bool) {
        let remote = connection.remote_address();
        let Some(share) = self.share(&connection) else { return };
        let Ok(_place) = share.connections.try_acquire() else {
            tracing::debug!(%remote, ours, "a bulk connection is not served: its peer has too many");
            if !ours {
                connection.close(VarInt::from_u32(2), b"too many connections");
            }
            return;
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
        if let Err(reason) = self.0.answer(&share, remote, &mut send, &mut recv).await {
            tracing::debug!(%remote, reason, "a bulk request was not served");
            // an answer that is not finished must not look like one that is
            let _ = send.reset(UNSERVED);
        }
    }
}

impl Shop {
    async fn answer(
        &self,
        share: &Share,
        remote: SocketAddr,
        send: &mut SendStream,
        recv: &mut RecvStream,
    ) -> Result<(), String> {
        let request = timeout(STALL, read_frame::<Request>(recv)).await.map_err(|_| "no request came")??;
        let digest = request.digest();
        let response = match request {
            Request::WhereAmI => Response::YouAre { address: remote },
            Request::Has { .. } => {
                let size = self.store.visible_size(&digest);
                size.map_or(Response::NotFound, |bytes| Response::Have { bytes })
            }
            Request::Follow => return self.follow(share, send, recv).await,
            Request::Slice { bytes, ranges, urgency, insists, .. } => {
                let order = Order { digest, bytes, ranges, urgency, insists };
                return self.sell(order, share, send).await;
            }
        };
        self.say(send, &response, true).await
    }

    /// Answers a request for a slice, when its turn comes.
    async fn sell(&self, order: Order, share: &Share, send: &mut SendStream) -> Result<(), String> {
        if self.store.visible_size(&order.digest).is_none()
            && self.store.visible_partial(&order.digest).is_none()
        {
            return self.say(send, &Response::NotFound, true).await;
        }
        // the peer's own turn first, so that it cannot hold everybody's while it waits for its own
        let turn = timeout(TURN, async {
            Ok::<_, AcquireError>((share.turns.acquire().await?, self.turns.acquire().await?))
        });
        // both live until the answer is written: they bound the memory
        let Ok(Ok(_turns)) = turn.await else {
            return self.say(send, &Response::Busy, true).await;
        };
        let (blob, response, ranges) = match self.open(&order) {
            Ok(opened) => opened,
            Err(response) => return self.say(send, &response, true).await,
        };
        let spreads = !self.seeder && blob.bytes > SMALL_BYTES && blob.bytes == order.bytes;
        let pieces = if spreads { order.pieces() } else { Vec::new() };
        let asker = Asker { peer: share.peer, insists: order.insists };
        let is_seeder = |peer: &PeerId| member_of(peer).is_some_and(|member| self.seeders.contains(&member));
        if spreads && !self.spread.give(order.digest, &pieces, asker, is_seeder, Instant::now()) {
            return self.say(send, &Response::Elsewhere, true).await;
        }
        let Some(reader) = self.reader(blob, &ranges) else {
            self.spread.take_back(order.digest, &pieces, share.peer);
            return self.say(send, &Response::NotFound, true).await;
        };
        // of one connection's streams the more urgent one goes first, then the older one: also what is said before the slice
        let number = share.slices.fetch_add(1, Ordering::Relaxed).rem_euclid(1 << 24);
        let rank = i32::try_from(order.urgency.index()).unwrap_or(0) << 24;
        let _ = send.set_priority(rank - number);
        let sold = async {
            self.say(send, &response, false).await?;
            self.deliver(send, blob, reader, order.urgency).await
        };
        let sold = sold.await;
        if sold.is_err() {
            self.spread.take_back(order.digest, &pieces, share.peer);
        }
        sold
    }

    /// Which blob the order is for, what to say, and what to send; or what to say instead.
    fn open(&self, order: &Order) -> Result<(BlobRef, Response, ChunkRanges), Response> {
        let whole = self.store.visible_size(&order.digest);
        let partial = self.store.visible_partial(&order.digest).map(|partial| partial.blob().bytes);
        let bytes = whole.or(partial).ok_or(Response::NotFound)?;
        let blob = BlobRef { digest: order.digest, bytes };
        if bytes == order.bytes {
            let ranges = wire::checked_ranges(bytes, &order.ranges).map_err(|error| {
                tracing::debug!(digest = %order.digest, %error, "a bulk request breaks a bound");
                Response::Refused
            })?;
            Ok((blob, Response::Have { bytes }, ranges))
        } else if whole.is_some() {
            Ok((blob, Response::OtherSize { bytes }, tree::last_group(bytes)))
        } else {
            // an unfinished download proves nothing about the length
            Err(Response::NotFound)
        }
    }

    /// Opens the blob, or the download if it holds all of the ranges.
    fn reader(&self, blob: BlobRef, ranges: &ChunkRanges) -> Option<SliceReader> {
        if let Ok(reader) = self.store.slice(blob, ranges) {
            return Some(reader);
        }
        let partial = self.store.visible_partial(&blob.digest).filter(|partial| partial.holds(ranges))?;
        partial.slice(ranges).ok()
    }

    /// Reads, proves and sends a slice part by part; files are read away from the runtime's threads.
    async fn deliver(
        &self,
        send: &mut SendStream,
        blob: BlobRef,
        mut reader: SliceReader,
        urgency: Urgency,
    ) -> Result<(), String> {
        loop {
            let read = tokio::task::spawn_blocking(move || (reader.read_part(READ_BYTES), reader));
            let (part, back) = read.await.map_err(|error| error.to_string())?;
            reader = back;
            match part {
                Ok(part) if part.is_empty() => break,
                Ok(part) => self.write(send, &part, urgency).await?,
                Err(SliceError::False) => {
                    let store = self.store.clone();
                    let mended = tokio::task::spawn_blocking(move || store.mend(blob)).await;
                    return Err(format!("the files of {} are damaged: {mended:?}", blob.digest));
                }
                Err(SliceError::Store(error)) => return Err(error.to_string()),
            }
        }
        send.finish().map_err(|error| error.to_string())
    }

    /// Sends what answers a request, and with `last` nothing more.
    async fn say(&self, send: &mut SendStream, response: &Response, last: bool) -> Result<(), String> {
        if last {
            // before all slices: an asker that waits behind them for a word takes us for gone
            let _ = send.set_priority(i32::MAX);
        }
        let header = wire::encode(response).map_err(|error| error.to_string())?;
        self.write(send, &header, Urgency::Now).await?;
        if last { send.finish().map_err(|error| error.to_string()) } else { Ok(()) }
    }

    async fn write(&self, send: &mut SendStream, bytes: &[u8], urgency: Urgency) -> Result<(), String> {
        for part in bytes.chunks(self.rate.part_bytes()) {
            self.rate.take(part.len(), urgency).await;
            tokio::select! {
                written = send.write_all(part) => written.map_err(|error| error.to_string())?,
                gone = self.patience() => {
                    let _ = send.reset(gone);
                    return Err(format!("the peer does not take its answer (code {gone})"));
                }
            }
            self.sent.fetch_add(part.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Returns when a peer has had time enough to take a part of its answer: much while nobody waits for its turn, little when
    /// all turns are taken, so that those who take nothing cannot keep them from others.
    async fn patience(&self) -> VarInt {
        let since = Instant::now();
        loop {
            sleep(TURN / 2).await;
            if since.elapsed() >= STALL {
                return UNSERVED;
            }
            if self.turns.available_permits() == 0 {
                return OTHERS_WAIT;
            }
        }
    }
}
