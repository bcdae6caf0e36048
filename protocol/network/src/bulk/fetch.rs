//! Fetching one blob from whoever has it: 4 MiB pieces, one in flight per peer, many peers at once.
//!
//! ```text
//! piece: waiting --an idle peer--> asked --verified--> done
//!           ^                        |
//!           `-- not there, timeout, false bytes (that peer is dropped)
//! ```
//! Everything runs inside the caller's future, so dropping it stops it; verified bytes stay in the partial file.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use bao_tree::{ChunkNum, ChunkRanges};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use talkoot_protocol::{digest::BlobRef, identity::MemberId};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{
    Inner,
    error::FetchError,
    wire::{MAX_RANGES, PIECE_BYTES, Request, Response},
};
use crate::store::{Partial, StoreError, Written, missing, tree};

/// Peers asked at once for one blob.
const MAX_PEERS: usize = 8;
/// When a peer that could not help is asked again: a round's blobs appear within fractions of a second of their announcement.
const AGAIN: Duration = Duration::from_millis(250);
/// The pause doubles so often while the peer still cannot help: after that, asking is no race any more.
const MAX_DOUBLINGS: u32 = 2;
/// A piece that has been asked for this long ago is asked of another peer as well.
const SLOW: Duration = Duration::from_millis(500);
/// Longest blob: 1 TiB, more than any checkpoint; it bounds the list of pieces.
pub(super) const MAX_BLOB_BYTES: u64 = 1 << 40;

/// One part of the blob that is still wanted.
#[derive(Debug)]
struct Piece {
    ranges: ChunkRanges,
    asked: usize,
    last_asked: Instant,
}

/// What came of asking a peer.
#[derive(Debug)]
enum Outcome {
    /// The piece is written.
    Done,
    /// The peer cannot help now.
    NotNow,
    /// The peer cannot be talked to now.
    Failed(String),
    /// The peer's bytes are false from this offset on.
    Lied(u64),
    /// The blob has another length, proved.
    OtherSize(u64),
    /// Our own side fails.
    Broken(StoreError),
}

type Answer = (MemberId, usize, Outcome);

/// A download under way.
pub(super) struct Download<'a> {
    bulk: &'a Inner,
    blob: BlobRef,
    partial: Arc<Partial>,
    pieces: BTreeMap<usize, Piece>,
    running: FuturesUnordered<BoxFuture<'a, Answer>>,
    /// Who is being asked, where, and how to stop it.
    busy: BTreeMap<MemberId, (SocketAddr, CancellationToken)>,
    /// Who could not help: how often in a row, and when it is asked again.
    misses: BTreeMap<MemberId, (u32, Instant)>,
}

/// Cuts what is missing into pieces.
fn cut(size: u64, missing: &ChunkRanges) -> BTreeMap<usize, Piece> {
    let now = Instant::now();
    let mut pieces = BTreeMap::new();
    let spans = tree::byte_ranges(missing, size);
    for (start, end) in spans {
        for number in start / PIECE_BYTES..=(end - 1) / PIECE_BYTES {
            let window = (number * PIECE_BYTES, ((number + 1) * PIECE_BYTES).min(size));
            let piece = pieces
                .entry(usize::try_from(number).unwrap_or(usize::MAX))
                .or_insert_with(|| Piece { ranges: ChunkRanges::empty(), asked: 0, last_asked: now });
            piece.ranges |= tree::groups(start.max(window.0), end.min(window.1));
            if piece.ranges.boundaries().len() > 2 * MAX_RANGES {
                piece.ranges = tree::groups(window.0, window.1);
            }
        }
    }
    pieces
}

impl<'a> Download<'a> {
    /// Opens the partial file and finds what is missing.
    pub(super) async fn open(bulk: &'a Inner, blob: BlobRef) -> Result<Self, FetchError> {
        let store = bulk.store.clone();
        let (partial, have) = blocking(move || store.partial(blob)).await?;
        Ok(Self {
            bulk,
            blob,
            partial: Arc::new(partial),
            pieces: cut(blob.bytes, &missing(blob.bytes, &have)),
            running: FuturesUnordered::new(),
            busy: BTreeMap::new(),
            misses: BTreeMap::new(),
        })
    }

    /// Runs until the blob is in the store.
    pub(super) async fn run(mut self, hints: &[MemberId]) -> Result<(), FetchError> {
        let mut table = self.bulk.peers.clone();
        let mut table_lives = true;
        while !self.pieces.is_empty() {
            if self.bulk.store.contains(&self.blob.digest) {
                break; // it was put there meanwhile
            }
            let peers = table.borrow_and_update().clone();
            for (peer, (address, moved)) in &self.busy {
                if peers.get(peer).is_some_and(|now| now != address) {
                    moved.cancel();
                }
            }
            self.hand_out(&peers, hints);
            tokio::select! {
                biased;
                () = self.bulk.stopped.cancelled() => return Err(FetchError::Stopped),
                Some(answer) = self.running.next() => self.take(answer)?,
                changed = table.changed(), if table_lives => match changed {
                    // somebody came, or came back: whoever failed may deserve another try
                    Ok(()) => self.misses.clear(),
                    Err(_) => table_lives = false,
                },
                () = sleep_until(Instant::now() + AGAIN) => {}
            }
        }
        // late duplicates write nothing new, but they hold the files
        self.running.clear();
        let partial = self.partial.clone();
        drop(self);
        blocking(move || partial.finish()).await?;
        Ok(())
    }

    /// Gives every idle peer something to do.
    fn hand_out(&mut self, peers: &BTreeMap<MemberId, SocketAddr>, hints: &[MemberId]) {
        let now = Instant::now();
        let others = peers.keys().filter(|peer| !hints.contains(peer));
        for peer in hints.iter().chain(others) {
            let Some(address) = peers.get(peer) else { continue };
            let waits = self.misses.get(peer).is_some_and(|(_, again)| *again > now);
            if *peer == self.bulk.me || waits || self.busy.contains_key(peer) || self.bulk.is_dropped(peer) {
                continue;
            }
            if self.running.len() >= MAX_PEERS {
                break;
            }
            // first what nobody was asked for, then what has been waited for longest
            let next = self
                .pieces
                .iter_mut()
                .filter(|(_, piece)| piece.asked == 0 || now.duration_since(piece.last_asked) >= SLOW)
                .min_by_key(|(number, piece)| (piece.asked, piece.last_asked, **number));
            let Some((number, piece)) = next else { break };
            (piece.asked, piece.last_asked) = (piece.asked + 1, now);
            let moved = CancellationToken::new();
            self.busy.insert(*peer, (*address, moved.clone()));
            let (peer, number) = (*peer, *number);
            let asking =
                ask(self.bulk, peer, *address, self.blob, piece.ranges.clone(), self.partial.clone());
            let asking = async move {
                let outcome = moved.run_until_cancelled(asking).await;
                (peer, number, outcome.unwrap_or_else(|| Outcome::Failed("the peer has moved".to_owned())))
            };
            self.running.push(asking.boxed());
        }
    }

    /// A peer could not help: it is left in peace for a while.
    fn missed(&mut self, peer: MemberId) {
        let times = self.misses.get(&peer).map_or(0, |(times, _)| times + 1).min(MAX_DOUBLINGS);
        self.misses.insert(peer, (times, Instant::now() + AGAIN * (1 << times)));
    }

    /// Takes note of what a peer answered.
    fn take(&mut self, (peer, number, outcome): Answer) -> Result<(), FetchError> {
        self.busy.remove(&peer);
        if let Some(piece) = self.pieces.get_mut(&number) {
            piece.asked -= 1;
        }
        let digest = self.blob.digest;
        match outcome {
            Outcome::Done => {
                self.misses.remove(&peer);
                self.pieces.remove(&number);
            }
            Outcome::NotNow => self.missed(peer),
            Outcome::Failed(reason) => {
                tracing::debug!(%peer, %digest, reason, "a peer could not be asked; it is tried again");
                self.missed(peer);
            }
            Outcome::Lied(offset) => {
                tracing::warn!(%peer, %digest, offset, "a peer sent bytes that the hash disproves; it is asked nothing more");
                self.bulk.drop_peer(peer);
                if let Some(piece) = self.pieces.get_mut(&number) {
                    // what came before the lie was proved and kept
                    let rest = &piece.ranges & &ChunkRanges::from(ChunkNum::full_chunks(offset)..);
                    if !rest.is_empty() {
                        piece.ranges = rest;
                    }
                }
            }
            Outcome::OtherSize(actual) => {
                return Err(FetchError::SizeMismatch {
                    digest,
                    expected: self.blob.bytes,
                    actual,
                    peer: Some(peer),
                });
            }
            Outcome::Broken(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// Asks one peer for one piece and writes what is right of the answer.
async fn ask(
    bulk: &Inner,
    peer: MemberId,
    address: SocketAddr,
    blob: BlobRef,
    ranges: ChunkRanges,
    partial: Arc<Partial>,
) -> Outcome {
    let request = Request::Slice {
        digest: *blob.digest.as_bytes(),
        bytes: blob.bytes,
        ranges: tree::byte_ranges(&ranges, blob.bytes),
    };
    let expected = |response| match response {
        Response::Have { bytes } if bytes == blob.bytes => tree::encoded_len(blob.bytes, &ranges),
        Response::OtherSize { bytes } if bytes <= MAX_BLOB_BYTES => {
            tree::encoded_len(bytes, &tree::last_group(bytes))
        }
        _ => 0,
    };
    match bulk.dialler.ask(peer, address, &request, expected).await {
        Ok((Response::Have { bytes }, slice)) if bytes == blob.bytes => {
            match blocking(move || partial.write(&ranges, &slice)).await {
                Ok(Written::All) => Outcome::Done,
                Ok(Written::FalseFrom(offset)) => Outcome::Lied(offset),
                Err(error) => Outcome::Broken(error),
            }
        }
        Ok((Response::OtherSize { bytes }, slice)) if bytes != blob.bytes && bytes <= MAX_BLOB_BYTES => {
            if tree::proves_size(&blob.digest, bytes, &slice) {
                Outcome::OtherSize(bytes)
            } else {
                Outcome::Lied(bytes.saturating_sub(1))
            }
        }
        Ok((Response::NotFound | Response::Busy, _)) => Outcome::NotNow,
        Ok((response, _)) => Outcome::Failed(format!("an answer that makes no sense: {response:?}")),
        Err(reason) => {
            bulk.dialler.forget(peer);
            Outcome::Failed(reason)
        }
    }
}

/// Runs file work away from the runtime's threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(StoreError::Io {
            operation: "working on",
            path: "the blob store".into(),
            source: std::io::Error::other(error),
        }),
    }
}
