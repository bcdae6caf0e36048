//! Fetching one blob from whoever has it: pieces, some in flight to each of several peers.
//!
//! ```text
//! source: unknown --asked what it has--> known --asked for a piece it has--> known
//! piece:  wanted  --the rarest first--> asked --verified as it comes--> here, and served to others
//!            ^                            |
//!            `-- not there, timeout, something more urgent, false bytes (that peer is dropped)
//! ```
//! Who is asked for a piece: seeders first; a home line only for what no seeder has while nothing else comes, so that it sends
//! its contribution about once. Everything runs inside the caller's future, so dropping it stops it; verified bytes stay in
//! the partial file.

mod ask;
mod plan;
mod source;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use talkoot_protocol::{digest::BlobRef, identity::MemberId};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use self::{
    ask::{Outcome, Wanted, ask_pieces, ask_slice},
    plan::{Moved, Plan},
    source::Source,
};
use super::{
    Inner,
    error::FetchError,
    spread::SMALL_BYTES,
    urgency::Urgency,
    wire::{self, Held},
};
use crate::store::{Partial, StoreError};

/// Peers asked for pieces of one blob at once.
const MAX_PEERS: usize = 8;
/// Peers that are no hints and no seeders and are asked what they have.
const MAX_OTHERS: usize = 24;
/// How often everything is looked at when nothing happens.
const LOOK: Duration = Duration::from_millis(50);
/// A home line is asked for what no seeder has when nothing has come for so long, of this blob or of others as urgent: a line
/// that is full of other blobs gains nothing from one more sender, and what is asked for later may be at a seeder by then.
const GRACE: Duration = Duration::from_secs(1);
/// A home line that said who else has a piece is asked again when nothing has come for so long.
const PATIENCE: Duration = Duration::from_secs(3);
/// Other blobs that come do not hold one back for longer.
const PASSED_OVER: Duration = Duration::from_secs(10);
/// For so long a home line waits for all to say what they have: a seeder may be among them.
const SETTLE: Duration = Duration::from_secs(1);
/// Longest blob: 1 TiB, more than any checkpoint; it bounds the list of pieces.
pub(super) const MAX_BLOB_BYTES: u64 = 1 << 40;

/// What a peer answered.
enum Answer {
    /// What it has, from this piece on.
    Told(MemberId, u64, Result<(bool, Held), String>),
    /// What came of asking for a piece.
    Sent(MemberId, u64, Outcome),
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
    begun: Instant,
    /// When something last came, or somebody got more of the blob.
    moved: Moved,
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
        Ok(Self {
            plan: Plan::new(blob, &partial.have(), &bulk.me, Instant::now()),
            bulk,
            blob,
            urgency,
            hints,
            partial,
            sources: BTreeMap::new(),
            running: FuturesUnordered::new(),
            begun: Instant::now(),
            moved: Moved::at(Instant::now()),
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
            let peers = table.borrow_and_update().clone();
            self.meet(&peers);
            if self.bulk.flowing.above(self.urgency) {
                self.give_way();
            } else {
                self.ask_what_they_have();
                self.ask_for_pieces();
            }
            tokio::select! {
                biased;
                () = self.bulk.stopped.cancelled() => return Err(FetchError::Stopped),
                Some(answer) = self.running.next() => self.take(answer)?,
                changed = table.changed(), if table_lives => match changed {
                    // somebody came, or came back: whoever failed may deserve another try
                    Ok(()) => self.sources.values_mut().for_each(Source::forgive),
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

    /// Follows the table of peers: hints, seeders, and as many others as may be of use.
    fn meet(&mut self, peers: &BTreeMap<MemberId, SocketAddr>) {
        let bulk = self.bulk;
        self.sources.retain(|peer, source| {
            let stays = peers.get(peer) == Some(&source.address) && !bulk.is_dropped(peer);
            if !stays {
                source.stop();
            }
            stays
        });
        let seeders = bulk.seeders();
        let wanted = |peer: &MemberId| self.hints.contains(peer) || seeders.contains(peer);
        let mut room = MAX_OTHERS.saturating_sub(self.sources.keys().filter(|peer| !wanted(peer)).count());
        // begins somewhere else for each member, so that not all ask the same ones
        let (before, after): (Vec<_>, Vec<_>) = peers.iter().partition(|(peer, _)| **peer < bulk.me);
        for (peer, address) in after.into_iter().chain(before) {
            if *peer == bulk.me || bulk.is_dropped(peer) || self.sources.contains_key(peer) {
                continue;
            }
            if !wanted(peer) {
                if room == 0 {
                    continue;
                }
                room -= 1;
            }
            self.sources.insert(*peer, Source::new(*address, seeders.contains(peer)));
        }
    }

    /// Stops asking, as something more urgent has come up. What was verified stays.
    fn give_way(&mut self) {
        self.sources.values_mut().for_each(Source::stop);
        self.moved.touch(Instant::now());
    }

    /// Whether asking for it at once is cheaper than asking who has it.
    const fn is_small(&self) -> bool {
        self.blob.bytes <= SMALL_BYTES
    }

    fn ask_what_they_have(&mut self) {
        let Some(first) = self.plan.pieces.keys().next().copied().filter(|_| !self.is_small()) else {
            return;
        };
        let (bulk, blob) = (self.bulk, self.blob);
        // home lines have nothing to tell as long as it comes from seeders; each is asked once, whether it is one
        let spared = self.seeders_serve() && self.quiet(Instant::now()) < GRACE;
        for (peer, source) in &mut self.sources {
            if spared && !source.seeder && !self.hints.contains(peer) && bulk.is_known(peer) {
                continue;
            }
            let knows = matches!(&source.held, Some((_, Held::Whole)))
                || source.held.as_ref().is_some_and(|(from, _)| {
                    first < from + wire::MAX_PIECES && self.plan.pieces.keys().all(|piece| source.has(*piece))
                });
            if knows || source.asked.is_some() || !source.is_due() {
                continue;
            }
            let stop = CancellationToken::new();
            source.asked = Some(stop.clone());
            let (peer, address) = (*peer, source.address);
            let asking = async move {
                let told = stop.run_until_cancelled(ask_pieces(bulk, peer, address, blob, first)).await;
                Answer::Told(peer, first, told.unwrap_or_else(|| Err("not asked any more".to_owned())))
            };
            self.running.push(asking.boxed());
        }
    }

    /// Whether somebody is there for others: us, or one of the sources.
    fn seeders_serve(&self) -> bool {
        self.bulk.seeder || self.sources.values().any(|source| source.seeder)
    }

    /// How long nothing has come that would be a reason to leave home lines in peace.
    fn quiet(&self, now: Instant) -> Duration {
        let own = self.moved.quiet(now);
        if own >= PASSED_OVER { own } else { own.min(self.bulk.flowing.quiet(self.urgency, now)) }
    }

    /// Gives every source that may help something to do.
    fn ask_for_pieces(&mut self) {
        let small = self.is_small();
        let settling = !small
            && !self.bulk.seeder
            && self.begun.elapsed() < SETTLE
            && self.sources.values().any(|source| source.asked.is_some() && source.held.is_none());
        let seeders_serve = self.seeders_serve();
        let mut order: Vec<MemberId> = self.sources.keys().copied().collect();
        // for small blobs who should have it; for others who is there for it
        order.sort_by_key(|peer| {
            let hinted = !self.hints.contains(peer);
            let seeder = self.sources.get(peer).is_none_or(|source| !source.seeder);
            if small { (hinted, seeder) } else { (seeder, hinted) }
        });
        for peer in order {
            let used = self.sources.values().filter(|source| !source.slices.is_empty()).count();
            while let Some(source) = self.sources.get(&peer) {
                let idle = source.slices.is_empty();
                if !source.is_free() || (idle && (used >= MAX_PEERS || (small && !source.is_due()))) {
                    break;
                }
                if settling && !source.seeder {
                    break;
                }
                let home = !small && seeders_serve && !source.seeder;
                // a seeder fetches at once from whose blob it is: somebody has to
                let first = self.bulk.seeder && (self.hints.is_empty() || self.hints.contains(&peer));
                let grace = if first { Duration::ZERO } else { GRACE };
                let now = Instant::now();
                let quiet = self.quiet(now);
                let may_ask = |piece: u64| {
                    (small || source.has(piece))
                        && !source.slices.contains_key(&piece)
                        && (!home
                            || (quiet >= grace && !self.sources.values().any(|s| s.seeder && s.has(piece))))
                        && (quiet >= PATIENCE || !source.elsewhere.contains_key(&piece))
                };
                let holders = |piece| self.sources.values().filter(|source| source.has(piece)).count();
                let Some(piece) = self.plan.next(now, may_ask, holders) else { break };
                self.ask_for(peer, piece);
            }
        }
    }

    fn ask_for(&mut self, peer: MemberId, number: u64) {
        let (Some(source), Some(piece)) = (self.sources.get_mut(&peer), self.plan.pieces.get_mut(&number))
        else {
            return;
        };
        piece.askers += 1;
        piece.moved.touch(Instant::now());
        let stop = CancellationToken::new();
        source.slices.insert(number, (Instant::now(), stop.clone()));
        let wanted = Wanted {
            blob: self.blob,
            ranges: piece.ranges.clone(),
            urgency: self.urgency,
            insists: source.elsewhere.contains_key(&number),
            partial: self.partial.clone(),
            moved: [piece.moved.clone(), self.moved.clone()],
        };
        let (bulk, address) = (self.bulk, source.address);
        let asking = async move {
            let outcome = stop.run_until_cancelled(ask_slice(bulk, peer, address, wanted)).await;
            Answer::Sent(peer, number, outcome.unwrap_or(Outcome::Stopped))
        };
        self.running.push(asking.boxed());
    }

    /// Takes note of what a peer answered.
    fn take(&mut self, answer: Answer) -> Result<(), FetchError> {
        match answer {
            Answer::Told(peer, first, told) => self.told(peer, first, told),
            Answer::Sent(peer, piece, outcome) => return self.sent(peer, piece, outcome),
        }
        Ok(())
    }

    fn told(&mut self, peer: MemberId, first: u64, told: Result<(bool, Held), String>) {
        let Some(source) = self.sources.get_mut(&peer) else { return };
        source.asked = None;
        match told {
            Ok((seeder, held)) => {
                source.seeder = seeder;
                self.bulk.note_seeder(peer, seeder);
                let more =
                    source.held.as_ref().is_none_or(|(_, before)| *before != held) && held != Held::Nothing;
                if more {
                    self.moved.touch(Instant::now());
                    source.forgive();
                }
                source.held = Some((first, held));
                // it is asked again when there is a reason to think that it got more
                source.missed();
            }
            Err(reason) => {
                tracing::debug!(%peer, blob = %self.blob, reason, "a peer could not be asked; it is tried again");
                source.held = None;
                source.missed();
            }
        }
    }

    fn sent(&mut self, peer: MemberId, number: u64, outcome: Outcome) -> Result<(), FetchError> {
        let digest = self.blob.digest;
        let since = self.sources.get_mut(&peer).and_then(|source| source.slices.remove(&number));
        if let Some(piece) = self.plan.pieces.get_mut(&number) {
            piece.askers -= 1;
        }
        if self.plan.settle(number, &self.partial.have()) {
            // who was asked for it as well may stop
            for source in self.sources.values() {
                if let Some((_, stop)) = source.slices.get(&number) {
                    stop.cancel();
                }
            }
        }
        let Some(source) = self.sources.get_mut(&peer) else { return Ok(()) };
        match outcome {
            Outcome::Done => {
                source.came(since.map_or(Duration::ZERO, |(since, _)| since.elapsed()));
                source.elsewhere.remove(&number);
            }
            Outcome::Stopped => {}
            Outcome::Busy => source.note_busy(),
            Outcome::NotNow => {
                source.held = None;
                source.missed();
            }
            Outcome::Elsewhere => {
                source.elsewhere.insert(number, Instant::now());
            }
            Outcome::Failed(reason) => {
                tracing::debug!(%peer, %digest, reason, "a peer could not be asked; it is tried again");
                source.held = None;
                source.missed();
            }
            Outcome::Lied(offset) => {
                tracing::warn!(%peer, %digest, offset, "a peer sent bytes that the hash disproves; it is asked nothing more");
                self.bulk.drop_peer(peer);
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
