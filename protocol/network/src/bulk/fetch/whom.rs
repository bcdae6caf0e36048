//! Whom a download asks, and for which piece: seeders first; a home line only for what no seeder has, and only while seeders have
//! nothing else of the blob for us and nothing else comes, so that it sends its contribution about once.

use std::time::Duration;

use talkoot_protocol::identity::MemberId;
use tokio::time::Instant;

use super::{Download, plan::Plan, source::Source};

/// Peers asked for pieces of one blob at once.
const MAX_PEERS: usize = 8;
/// A home line is asked for what no seeder has when nothing has come for so long, of this blob or of others as urgent: a line
/// that is full of other blobs gains nothing from one more sender, and what is asked for later may be at a seeder by then.
pub(super) const GRACE: Duration = Duration::from_secs(1);
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
/// A seeder that has not said yet what it has is not waited for when nothing has been heard of it for so long.
const GONE: Duration = Duration::from_secs(3);

impl Download<'_> {
    /// Whether somebody is there for others: us, or one of the sources.
    pub(super) fn seeders_serve(&self) -> bool {
        self.bulk.seeder || self.sources.values().any(|source| source.seeder)
    }

    /// How long nothing has come from anywhere, of this blob or of others as urgent, which hold it back for so long only.
    fn quiet(&self, now: Instant) -> Duration {
        let own = self.moved.quiet(now);
        if own >= PASSED_OVER { own } else { own.min(self.bulk.flowing.quiet(self.urgency, now)) }
    }

    /// How long nothing has come that would be a reason to leave home lines in peace: once seeders bring nothing of this blob for
    /// long, what comes from home lines is no such reason.
    pub(super) fn unseeded(&self, now: Instant) -> Duration {
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
            let waited_for = || ago(source.told.unwrap_or(source.met)) < PASSED_OVER;
            let heard = || self.bulk.dialler.heard(*peer).last();
            has_more(&self.plan, source)
                || (source.held.is_none()
                    && waited_for()
                    && heard().is_some_and(|heard| heard.elapsed() < GONE))
        })
    }

    /// Whether somebody who may be a seeder is about to say so.
    fn settles(&self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.begun);
        let first = since < SETTLE_FIRST && !self.seeders_serve();
        self.sources.iter().any(|(peer, source)| {
            source.is_to_answer() && (since < SETTLE || (first && !self.bulk.seeders.is_tried(peer)))
        })
    }

    /// Gives every source that may help something to do.
    pub(super) fn ask_for_pieces(&mut self, now: Instant) {
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
}

/// Whether the source has a wanted piece that nobody is asked for.
fn has_more(plan: &Plan, source: &Source) -> bool {
    source.held.is_some()
        && plan.pieces.iter().any(|(number, piece)| piece.askers == 0 && source.has(*number))
}
