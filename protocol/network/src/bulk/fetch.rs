//! Fetching one blob from whoever has it: pieces, some in flight to each of several peers.
//!
//! ```text
//! source: unknown --followed: says what it has, as that changes--> known --asked for a piece it has--> known
//! piece:  wanted  --the rarest first--> asked --verified as it comes--> here, and served to others
//!            ^                            |
//!            `-- not there, timeout, something more urgent, false bytes (that peer is dropped)
//! ```
//! Everything runs inside the caller's future, so dropping it stops it; verified bytes stay in the partial file.

mod ask;
mod listen;
mod plan;
mod source;
mod stalled;
mod whom;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use talkoot_protocol::{digest::BlobRef, identity::MemberId};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use self::{
    ask::{Outcome, Wanted, ask_slice},
    plan::{Moved, Plan},
    source::{Asked, Source},
    stalled::Stalled,
};
use super::{
    Inner,
    depth::{Place, Seat},
    error::FetchError,
    spread::SMALL_BYTES,
    urgency::Urgency,
};
use crate::store::{Partial, StoreError};

/// Peers that are no hints and no seeders and are asked what they have.
const MAX_OTHERS: usize = 24;
/// Where there are more, those of them that have nothing make room for the next ones so often while nothing comes.
const ROTATE: Duration = Duration::from_secs(3);
/// How often everything is looked at when nothing happens: often enough for the clock of this process and for whoever waits for
/// a place at a peer, and no more often, as each of a round's downloads does.
const LOOK: Duration = Duration::from_millis(100);
/// Longest blob: 1 TiB, more than any checkpoint; it bounds the list of pieces.
pub(super) const MAX_BLOB_BYTES: u64 = 1 << 40;

/// What came of asking a peer for a piece; the question's ticket.
struct Answer {
    peer: MemberId,
    piece: u64,
    ticket: u64,
    outcome: Outcome,
}

/// A download under way.
pub(super) struct Download<'a> {
    bulk: &'a Inner,
    blob: BlobRef,
    urgency: Urgency,
    hints: &'a [MemberId],
    partial: Arc<Partial>,
    plan: Plan,
    sources: BTreeMap<MemberId, Source>,
    running: FuturesUnordered<BoxFuture<'a, Answer>>,
    seat: Seat,
    /// Numbers of questions.
    tickets: u64,
    /// The changes of whom to ask that were followed; none before the first look.
    changes: Option<u64>,
    /// The last of the others that was met, in the circle of all ids, and when room was last made for the next ones.
    circle: (MemberId, Instant),
    begun: Instant,
    /// When something last came, or somebody got more of the blob.
    moved: Moved,
    /// The same of seeders alone.
    seeded: Moved,
    stalled: Stalled,
}

impl<'a> Download<'a> {
    /// Opens the partial file and finds what is missing.
    pub(super) async fn open(
        bulk: &'a Inner,
        blob: BlobRef,
        urgency: Urgency,
        hints: &'a [MemberId],
    ) -> Result<Self, FetchError> {
        let store = bulk.store.clone();
        let partial = blocking(move || store.partial(blob)).await?;
        let now = bulk.awake.now();
        Ok(Self {
            plan: Plan::new(blob, &partial.have(), &bulk.me, now),
            bulk,
            blob,
            urgency,
            hints,
            partial,
            sources: BTreeMap::new(),
            running: FuturesUnordered::new(),
            seat: bulk.depths.join(urgency),
            tickets: 0,
            changes: None,
            // begins somewhere else for each member, so that not all ask the same ones
            circle: (bulk.me, now),
            begun: now,
            moved: Moved::at(now),
            seeded: Moved::at(now),
            stalled: Stalled::default(),
        })
    }

    /// Runs until the blob is in the store.
    pub(super) async fn run(mut self) -> Result<(), FetchError> {
        let mut table = self.bulk.peers.clone();
        let mut table_lives = true;
        while !self.plan.pieces.is_empty() {
            if self.bulk.store.contains(&self.blob.digest) {
                break; // it was put there meanwhile
            }
            let now = self.bulk.awake.now();
            self.keep_up(&mut table, now);
            if self.bulk.flowing.above(self.urgency, now) {
                self.give_way(now);
            } else {
                self.hear(now);
                self.follow_sources(now);
                self.ask_for_pieces(now);
            }
            self.say_if_stalled(now);
            tokio::select! {
                biased;
                () = self.bulk.stopped.cancelled() => return Err(FetchError::Stopped),
                Some(answer) = self.running.next() => self.take(answer)?,
                () = self.seat.woken() => {}
                changed = table.changed(), if table_lives => match changed {
                    Ok(()) => table.mark_changed(),
                    Err(_) => table_lives = false,
                },
                () = self.bulk.flowing.changed() => {}
                () = sleep(LOOK) => {}
            }
        }
        // late duplicates write nothing new, but they hold the files
        self.running.clear();
        let partial = self.partial.clone();
        drop(self);
        blocking(move || partial.finish()).await?;
        Ok(())
    }

    /// Keeps up with who is there, if anything has changed.
    fn keep_up(&mut self, table: &mut watch::Receiver<BTreeMap<MemberId, SocketAddr>>, now: Instant) {
        let changes = Some(self.bulk.changes.load(Ordering::Acquire));
        // no news of a table that is gone
        let moved = table.has_changed().unwrap_or(false);
        let others = MAX_OTHERS + self.hints.len();
        let rotates = self.moved.quiet(now) >= ROTATE
            && now.saturating_duration_since(self.circle.1) >= ROTATE
            && table.borrow().len() > others;
        if !moved && !rotates && changes == self.changes {
            return;
        }
        if moved {
            // somebody came, or came back: whoever failed may deserve another try
            self.sources.values_mut().for_each(Source::forgive);
        }
        self.changes = changes;
        let peers = table.borrow_and_update();
        self.meet(&peers, rotates, now);
    }

    /// Takes up the peers of the table: hints, seeders, and as many others as may be of use.
    fn meet(&mut self, peers: &BTreeMap<MemberId, SocketAddr>, rotates: bool, now: Instant) {
        let bulk = self.bulk;
        let seeders = bulk.seeders.all();
        let wanted = |peer: &MemberId| self.hints.contains(peer) || seeders.contains(peer);
        self.sources.retain(|peer, source| {
            let stays = peers.get(peer) == Some(&source.address)
                && !bulk.is_dropped(peer)
                && (!rotates || wanted(peer) || !source.is_useless());
            if !stays {
                source.stop();
            }
            stays
        });
        if rotates {
            self.circle.1 = now;
        }
        let mut room = MAX_OTHERS.saturating_sub(self.sources.keys().filter(|peer| !wanted(peer)).count());
        let (before, after): (Vec<_>, Vec<_>) = peers.iter().partition(|(peer, _)| **peer <= self.circle.0);
        for (peer, address) in after.into_iter().chain(before) {
            if *peer == bulk.me || bulk.is_dropped(peer) || self.sources.contains_key(peer) {
                continue;
            }
            if !wanted(peer) {
                if room == 0 {
                    continue;
                }
                room -= 1;
                self.circle.0 = *peer;
            }
            self.sources.insert(*peer, Source::new(*address, seeders.contains(peer), now));
        }
    }

    /// Stops asking, as something more urgent has come up. What was verified stays.
    fn give_way(&mut self, now: Instant) {
        self.sources.values_mut().for_each(Source::stop);
        self.moved.touch(now);
        self.seeded.touch(now);
    }

    /// Whether asking for it at once is cheaper than asking who has it.
    const fn is_small(&self) -> bool {
        self.blob.bytes <= SMALL_BYTES
    }

    const fn ticket(&mut self) -> u64 {
        self.tickets += 1;
        self.tickets
    }

    fn ask_for(&mut self, peer: MemberId, number: u64, place: Place, insists: bool, now: Instant) {
        let ticket = self.ticket();
        let (Some(source), Some(piece)) = (self.sources.get_mut(&peer), self.plan.pieces.get_mut(&number))
        else {
            return;
        };
        piece.askers += 1;
        piece.moved.touch(now);
        let stop = CancellationToken::new();
        source.slices.insert(number, Asked { ticket, since: now, stop: stop.clone() });
        source.owes(now);
        let mut moved = vec![piece.moved.clone(), self.moved.clone()];
        if source.seeder {
            moved.push(self.seeded.clone());
        }
        let wanted = Wanted {
            blob: self.blob,
            ranges: piece.ranges.clone(),
            urgency: self.urgency,
            insists,
            partial: self.partial.clone(),
            moved,
        };
        let (bulk, address) = (self.bulk, source.address);
        let asking = async move {
            let begun = Instant::now();
            let outcome = stop.run_until_cancelled(ask_slice(bulk, peer, address, wanted)).await;
            match &outcome {
                Some(Outcome::Done) => place.came(begun.elapsed()),
                Some(Outcome::Busy) => place.busy(bulk.awake.now()),
                _ => {}
            }
            Answer { peer, piece: number, ticket, outcome: outcome.unwrap_or(Outcome::Stopped) }
        };
        self.running.push(asking.boxed());
    }

    /// Takes note of what a peer answered.
    fn take(&mut self, answer: Answer) -> Result<(), FetchError> {
        let now = self.bulk.awake.now();
        let Answer { peer, piece: number, ticket, outcome } = answer;
        tracing::trace!(%peer, blob = %self.blob, piece = number, ?outcome, "a peer has answered");
        let digest = self.blob.digest;
        if let Some(piece) = self.plan.pieces.get_mut(&number) {
            piece.askers -= 1;
        }
        if self.plan.settle(number, &self.partial.have()) {
            // who was asked for it as well may stop
            for source in self.sources.values() {
                if let Some(slice) = source.slices.get(&number) {
                    slice.stop.cancel();
                }
            }
        }
        // what was asked of it at another address says nothing about it at this one, unless it is a lie
        let asked =
            |source: &&mut Source| source.slices.get(&number).is_some_and(|slice| slice.ticket == ticket);
        let mut source = self.sources.get_mut(&peer).filter(asked);
        if let Some(source) = &mut source {
            source.slices.remove(&number);
        }
        match (outcome, source) {
            (Outcome::Lied(offset), _) => {
                tracing::warn!(%peer, %digest, offset, "a peer sent bytes that the hash disproves; it is asked nothing more");
                self.bulk.drop_peer(peer);
            }
            (Outcome::OtherSize(actual), _) => {
                return Err(FetchError::SizeMismatch {
                    digest,
                    expected: self.blob.bytes,
                    actual,
                    peer: Some(peer),
                });
            }
            (Outcome::Broken(error), _) => return Err(error.into()),
            (_, None) | (Outcome::Busy, Some(_)) => {}
            (Outcome::Done, Some(source)) => {
                source.came(now);
                source.elsewhere.remove(&number);
            }
            (Outcome::Stopped, Some(source)) => source.spared(),
            (Outcome::NotNow, Some(source)) => source.erred(),
            (Outcome::Elsewhere, Some(source)) => {
                source.elsewhere.insert(number, now);
            }
            (Outcome::Failed(reason), Some(source)) => {
                tracing::debug!(%peer, %digest, reason, "a peer could not be asked; it is tried again");
                source.failed(now, reason);
            }
        }
        Ok(())
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
