//! What a download that stands still waits for, for whoever reads the log.

use std::{fmt::Write, time::Duration};

use tokio::time::Instant;

use super::{Download, source::Source};

/// A download of which nothing has come for so long says so; then again after twice as long, and so on.
const STALLED: Duration = Duration::from_secs(30);
/// Peers that are told of.
const PEERS: usize = 24;

/// When to say it next.
#[derive(Debug, Default)]
pub(super) struct Stalled {
    doublings: u32,
}

impl Stalled {
    /// Whether it is time to say that nothing has come for so long.
    fn is_due(&mut self, quiet: Duration) -> bool {
        if quiet < STALLED {
            self.doublings = 0;
        }
        let due = quiet >= STALLED * (1 << self.doublings.min(12));
        self.doublings += u32::from(due);
        due
    }
}

impl Download<'_> {
    /// Says what is waited for, and of whom, when nothing has come for long.
    pub(super) fn say_if_stalled(&mut self, now: Instant) {
        let quiet = self.moved.quiet(now);
        if self.stalled.is_due(quiet) {
            let (blob, waits) = (self.blob, self.waits(now));
            tracing::warn!(%blob, quiet_s = quiet.as_secs(), waits, "a download stands still");
        }
    }

    /// What is missing, who is asked for it, and what the others said.
    fn waits(&self, now: Instant) -> String {
        let wanted = &self.plan.pieces;
        let asked = wanted.values().filter(|piece| piece.askers > 0).count();
        let nowhere = |piece: &u64| !self.sources.values().any(|source| source.has(*piece));
        let mut text = format!(
            "{} pieces are missing, {asked} of them are asked for, {} are at nobody who said so; of {} peers:",
            wanted.len(),
            wanted.keys().filter(|piece| nowhere(piece)).count(),
            self.sources.len(),
        );
        for (peer, source) in self.sources.iter().take(PEERS) {
            let hint = if self.hints.contains(peer) { ", should have it" } else { "" };
            let _ = write!(text, " [{}{hint}{}]", peer.short(), self.says(source, now));
        }
        text
    }

    fn says(&self, source: &Source, now: Instant) -> String {
        let ago = |when: Instant| now.saturating_duration_since(when).as_secs();
        let mut text = String::new();
        if source.seeder {
            text += ", seeder";
        }
        if !source.keeps_its_word(now) {
            text += ", gives nothing of what it says it has";
        }
        if let Some(told) = source.told {
            let has = self.plan.pieces.keys().filter(|piece| source.has(**piece)).count();
            let _ = write!(text, ", has {has} (said {} s ago)", ago(told));
        }
        if let Some((_, since)) = source.following.as_ref().filter(|_| source.is_to_answer()) {
            let _ = write!(text, ", asked what it has {} s ago", ago(*since));
        }
        if let Some(first) = source.slices.values().map(|slice| slice.since).min() {
            let _ = write!(text, ", asked for {} pieces, first {} s ago", source.slices.len(), ago(first));
        }
        if !source.elsewhere.is_empty() {
            let _ = write!(text, ", says that {} are elsewhere", source.elsewhere.len());
        }
        if let Some((when, reason)) = &source.failed {
            let _ = write!(text, ", failed {} s ago: {reason}", ago(*when));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_now_and_then_and_anew_after_something_came() {
        let mut stalled = Stalled::default();
        let due: Vec<u64> =
            (0..600).filter(|seconds| stalled.is_due(Duration::from_secs(*seconds))).collect();
        assert_eq!(due, [30, 60, 120, 240, 480]);
        assert!(!stalled.is_due(Duration::ZERO));
        assert!(stalled.is_due(STALLED));
    }
}
