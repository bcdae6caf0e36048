//! Hearing from sources what they have.

use tokio::time::Instant;

use super::{
    super::{
        follow::Following,
        wire::{self, Held},
    },
    Download,
    whom::GRACE,
};

impl Download<'_> {
    /// Has everybody who may have something of it say what that is.
    pub(super) fn follow_sources(&mut self, now: Instant) {
        let Some(first) = self.plan.pieces.keys().next().copied().filter(|_| !self.is_small()) else {
            return;
        };
        let bulk = self.bulk;
        // home lines have nothing to tell as long as it comes from seeders; each is asked once, whether it is one
        let spared = self.seeders_serve() && self.unseeded(now) < GRACE;
        for (peer, source) in &mut self.sources {
            if spared && !source.seeder && !self.hints.contains(peer) && bulk.seeders.is_known(peer) {
                source.following = None;
                continue;
            }
            let whole = matches!(source.held, Some((_, Held::Whole)));
            let covers =
                |following: &Following| whole || first < following.first.saturating_add(wire::MAX_PIECES);
            if source.following.as_ref().is_some_and(|(following, _)| covers(following)) || !source.is_due() {
                continue;
            }
            let following = bulk.follows.follow((*peer, source.address), self.blob, first, self.seat.waker());
            source.following = following.map(|following| (following, now));
        }
    }

    /// Takes what sources have said meanwhile.
    pub(super) fn hear(&mut self, now: Instant) {
        let bulk = self.bulk;
        for (peer, source) in &mut self.sources {
            let Some((following, _)) = &source.following else { continue };
            match following.news() {
                Ok(None) => {}
                Ok(Some((seeder, held))) => {
                    source.held = Some((following.first, held));
                    source.seeder = seeder;
                    bulk.note_seeder(*peer, seeder);
                    source.told = Some(now);
                    source.failed = None;
                    if source.claims(self.plan.pieces.keys().copied()) && source.keeps_its_word(now) {
                        self.moved.touch(now);
                        if seeder {
                            self.seeded.touch(now);
                        }
                        source.forgive();
                    }
                }
                Err(reason) => {
                    tracing::debug!(%peer, blob = %self.blob, reason, "a peer could not be asked; it is tried again");
                    source.failed(now, reason);
                    bulk.seeders.tried(*peer);
                }
            }
        }
    }
}
