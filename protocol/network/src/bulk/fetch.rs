//! Fetching one blob from whoever has it: pieces, some in flight to each of several peers.
//!
//! ```text
//! source: unknown --asked what it has--> known --asked for a piece it has--> known
//! piece:  wanted  --the rarest first--> asked --verified as it comes--> here, and served to others
//!            ^                            |
//!            `-- not there, timeout, something more urgent, false bytes (that peer is dropped)
//! ```
//! Who is asked for a piece: seeders first; a home line only for what no seeder has, and only while seeders have nothing else of
//! the blob for us and nothing else comes, so that it sends its contribution about once. Everything runs inside the caller's future, so dropping it stops it; verified bytes stay in
//! the partial file.

mod ask;
mod plan;
mod source;
mod stalled;

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
    ask::{Outcome, Wanted, ask_pieces, ask_slice},
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
    wire::{self, Held},
};
use crate::store::{Partial, StoreError};

/// Peers asked for pieces of one blob at once.
const MAX_PEERS: usize = 8;
/// Peers that are no hints and no seeders and are asked what they have.
const MAX_OTHERS: usize = 24;
/// Where there are more, those of them that have nothing make room for the next ones so often while nothing comes.
const ROTATE: Duration = Duration::from_secs(3);
/// How often everything is looked at when nothing happens.
const LOOK: Duration = Duration::from_millis(50);
/// A home line is asked for what no seeder has when nothing has come for so long, of this blob or of others as urgent: a line
/// that is full of other blobs gains nothing from one more sender, and what is asked for later may be at a seeder by then.
const GRACE: Duration = Duration::from_secs(1);
/// A home line that said who else has a piece is asked again after so long.
const ELSEWHERE: Duration = Duration::from_secs(2);
/// It is told that nobody else gives the piece when nothing has come for so long.
const PATIENCE: Duration = Duration::from_secs(3);
/// Other blobs that come do not hold one back for longer that seeders bring nothing of.
const PASSED_OVER: Duration = Duration::from_secs(10);
/// For so long a home line waits for all to say what they have: a seeder may be among them.
const SETTLE: Duration = Duration::from_secs(1);
/// The same, as long as no seeder is known, for members that were never asked before: at the start of a round everybody dials
/// everybody, and who does not wait for the answers makes home lines send twice. A question that fails ends it earlier.
const SETTLE_FIRST: Duration = Duration::from_secs(15);
/// What a seeder has is known for so long after it has said it.
const NEWS: Duration = Duration::from_secs(2);
/// A seeder of which nothing has been heard for so long is not waited for.
const GONE: Duration = Duration::from_secs(3);
/// Longest blob: 1 TiB, more than any checkpoint; it bounds the list of pieces.
pub(super) const MAX_BLOB_BYTES: u64 = 1 << 40;

/// What a peer answered.
enum Answer {
    /// What it has, from this piece on, unless the question was stopped; the question's ticket.
    Told(MemberId, u64, u64, Option<Result<(bool, Held), String>>),
    /// What came of asking for a piece; the question's ticket.
    Sent(MemberId, u64, u64, Outcome),
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
            self.follow(&mut table, now);
            if self.bulk.flowing.above(self.urgency, now) {
                self.give_way(now);
            } else {
                self.ask_what_they_have(now);
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

    /// Follows who is there, if anything has changed.
    fn follow(&mut self, table: &mut watch::Receiver<BTreeMap<MemberId, SocketAddr>>, now: Instant) {
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

    fn ask_what_they_have(&mut self, now: Instant) {
        let Some(first) = self.plan.pieces.keys().next().copied().filter(|_| !self.is_small()) else {
            return;
        };
        let (bulk, blob) = (self.bulk, self.blob);
        // home lines have nothing to tell as long as it comes from seeders; each is asked once, whether it is one
        let spared = self.seeders_serve() && self.unseeded(now) < GRACE;
        for (peer, source) in &mut self.sources {
            if spared && !source.seeder && !self.hints.contains(peer) && bulk.seeders.is_known(peer) {
                continue;
            }
            let knows = matches!(&source.held, Some((_, Held::Whole)))
                || source.held.as_ref().is_some_and(|(from, _)| {
                    first < from + wire::MAX_PIECES && self.plan.pieces.keys().all(|piece| source.has(*piece))
                });
            // what else it has is of no use before that is asked for
            let enough = source.seeder && has_more(&self.plan, source);
            if knows || enough || source.asked.is_some() || !source.is_due() {
                continue;
            }
            let stop = CancellationToken::new();
            self.tickets += 1;
            let ticket = self.tickets;
            source.asked = Some(Asked { ticket, since: now, stop: stop.clone() });
            let (peer, address) = (*peer, source.address);
            let asking = async move {
                let told = stop.run_until_cancelled(ask_pieces(bulk, peer, address, blob, first)).await;
                Answer::Told(peer, first, ticket, told)
            };
            self.running.push(asking.boxed());
        }
    }

    /// Whether somebody is there for others: us, or one of the sources.
    fn seeders_serve(&self) -> bool {
        self.bulk.seeder || self.sources.values().any(|source| source.seeder)
    }

    /// How long nothing has come from anywhere, of this blob or of others as urgent, which hold it back for so long only.
    fn quiet(&self, now: Instant) -> Duration {
        let own = self.moved.quiet(now);
        if own >= PASSED_OVER { own } else { own.min(self.bulk.flowing.quiet(self.urgency, now)) }
    }

    /// How long nothing has come that would be a reason to leave home lines in peace: once seeders bring nothing of this blob for
    /// long, what comes from home lines is no such reason.
    fn unseeded(&self, now: Instant) -> Duration {
        let seeded = self.seeded.quiet(now);
        if seeded >= PASSED_OVER { seeded } else { self.quiet(now) }
    }

    /// Whether a seeder that is there has something of the blob for us that it was not asked for, or may have.
    fn seeders_have_more(&self, now: Instant) -> bool {
        self.sources.iter().any(|(peer, source)| {
            if !source.seeder || !source.keeps_its_word(now) {
                return false;
            }
            let ago = |when: Instant| now.saturating_duration_since(when);
            let old = source.told.is_none_or(|told| ago(told) >= NEWS);
            let waited_for = ago(source.told.unwrap_or(source.met)) < PASSED_OVER;
            let heard = || self.bulk.dialler.heard(*peer).last();
            has_more(&self.plan, source)
                || (old && waited_for && heard().is_some_and(|heard| heard.elapsed() < GONE))
        })
    }

    /// Whether somebody who may be a seeder is about to say so.
    fn settles(&self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.begun);
        let first = since < SETTLE_FIRST && !self.seeders_serve();
        self.sources.iter().any(|(peer, source)| {
            let answers = source.asked.is_some() && source.held.is_none();
            answers && (since < SETTLE || (first && !self.bulk.seeders.is_tried(peer)))
        })
    }

    /// Gives every source that may help something to do.
    fn ask_for_pieces(&mut self, now: Instant) {
        let small = self.is_small();
        let settling = !small && !self.bulk.seeder && self.settles(now);
        let seeders_serve = self.seeders_serve();
        let quiet = self.quiet(now);
        let homes = self.unseeded(now) >= GRACE && !self.seeders_have_more(now);
        for peer in self.order(small) {
            let used = self.sources.values().filter(|source| !source.slices.is_empty()).count();
            while let Some(source) = self.sources.get(&peer) {
                let idle = source.slices.is_empty();
                if idle && (used >= MAX_PEERS || (small && !source.is_due())) {
                    break;
                }
                if settling && !source.seeder {
                    break;
                }
                let home = !small && seeders_serve && !source.seeder;
                // a seeder fetches at once from whose blob it is: somebody has to
                let first = self.bulk.seeder && (self.hints.is_empty() || self.hints.contains(&peer));
                if home && !first && !homes {
                    break;
                }
                let at_seeder = |piece: u64| {
                    self.sources.values().any(|s| s.seeder && s.has(piece) && s.keeps_its_word(now))
                };
                let away = |when: &Instant| now.saturating_duration_since(*when) < ELSEWHERE;
                let may_ask = |piece: u64| {
                    (small || source.has(piece))
                        && !source.slices.contains_key(&piece)
                        && !(home && at_seeder(piece))
                        && !source.elsewhere.get(&piece).is_some_and(away)
                };
                let holders = |piece| self.sources.values().filter(|source| source.has(piece)).count();
                let Some(piece) = self.plan.next(now, may_ask, holders) else { break };
                let Some(place) = self.seat.enter(peer, now) else { break };
                let insists = quiet >= PATIENCE && source.elsewhere.contains_key(&piece);
                if home {
                    tracing::debug!(%peer, blob = %self.blob, piece, insists, first, ?quiet, "a home line is asked");
                }
                self.ask_for(peer, piece, place, insists, now);
            }
        }
    }

    /// In which order sources are asked: for small blobs who should have it first, and last who could not be asked, least of all
    /// a moment ago; for others who is there for it.
    fn order(&self, small: bool) -> Vec<MemberId> {
        let mut order: Vec<_> = self.sources.iter().collect();
        order.sort_by_key(|(peer, source)| {
            let (hinted, seeder) = (!self.hints.contains(peer), !source.seeder);
            // those that could not be asked would else be asked again and again before others were asked once
            let failed = source.failed.as_ref().filter(|_| small).map(|(when, _)| *when);
            if small { (failed, hinted, seeder) } else { (failed, seeder, hinted) }
        });
        order.into_iter().map(|(peer, _)| *peer).collect()
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
            Answer::Sent(peer, number, ticket, outcome.unwrap_or(Outcome::Stopped))
        };
        self.running.push(asking.boxed());
    }

    /// Takes note of what a peer answered.
    fn take(&mut self, answer: Answer) -> Result<(), FetchError> {
        let now = self.bulk.awake.now();
        match answer {
            Answer::Told(peer, first, ticket, told) => self.told(peer, first, ticket, told, now),
            Answer::Sent(peer, piece, ticket, outcome) => {
                return self.sent(peer, piece, ticket, outcome, now);
            }
        }
        Ok(())
    }

    fn told(
        &mut self,
        peer: MemberId,
        first: u64,
        ticket: u64,
        told: Option<Result<(bool, Held), String>>,
        now: Instant,
    ) {
        let asked = |source: &&mut Source| source.asked.as_ref().is_some_and(|asked| asked.ticket == ticket);
        let Some(source) = self.sources.get_mut(&peer).filter(asked) else { return };
        source.asked = None;
        match told {
            Some(Ok((seeder, held))) => {
                source.seeder = seeder;
                self.bulk.note_seeder(peer, seeder);
                source.told = Some(now);
                source.failed = None;
                source.held = Some((first, held));
                if source.claims(self.plan.pieces.keys().copied()) && source.keeps_its_word(now) {
                    self.moved.touch(now);
                    if seeder {
                        self.seeded.touch(now);
                    }
                    source.forgive();
                }
                // it is asked again when there is a reason to think that it got more
                source.missed();
            }
            Some(Err(reason)) => {
                tracing::debug!(%peer, blob = %self.blob, reason, "a peer could not be asked; it is tried again");
                source.failed(now, reason);
                self.bulk.seeders.tried(peer);
            }
            None => {}
        }
    }

    fn sent(
        &mut self,
        peer: MemberId,
        number: u64,
        ticket: u64,
        outcome: Outcome,
        now: Instant,
    ) -> Result<(), FetchError> {
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
            (Outcome::NotNow, Some(source)) => {
                source.held = None;
                source.missed();
            }
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

/// Whether the source has a wanted piece that nobody is asked for.
fn has_more(plan: &Plan, source: &Source) -> bool {
    source.held.is_some()
        && plan.pieces.iter().any(|(number, piece)| piece.askers == 0 && source.has(*number))
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
