//! When a peer was last heard, and how long a question to it waits.
//!
//! On a slow line an answer waits behind slices that were asked for before it. So a question waits for as long as anything that
//! was asked of the peer comes, and is given up when nothing does; one that never comes although the rest does, ends as well.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

/// How long a peer may keep silent while something is asked of it.
pub(super) const STALL: Duration = Duration::from_secs(15);
/// How long one answer, or one group of a slice, may take while the peer is busy with others.
pub(super) const LONGEST: Duration = Duration::from_secs(120);

/// When an answer or a proven group last came from a peer. Bytes that prove nothing do not count: they cost nothing to send.
/// Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Heard(Arc<Mutex<Option<Instant>>>);

impl Heard {
    pub(super) fn touch(&self, now: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }

    /// When it was, if ever.
    pub(super) fn last(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When something that was begun at `begun`, and of which bytes came at `moved`, is given up, as far as is known now.
    fn deadline(&self, begun: Instant, moved: Instant) -> Instant {
        let heard = self.last().map_or(moved, |last| last.max(moved));
        (heard + STALL).min(begun + LONGEST)
    }

    /// Whether what was begun at `begun`, and of which nothing came, is to be given up by now.
    pub(super) fn overdue(&self, begun: Instant) -> Option<Silent> {
        (self.deadline(begun, begun) <= Instant::now()).then(|| self.silent_since(begun))
    }

    fn silent_since(&self, begun: Instant) -> Silent {
        Silent { altogether: self.last().is_none_or(|last| last < begun) }
    }

    /// Waits for `work` for as long as there is reason to: it is a part of what was begun at `begun`, and of which bytes last
    /// came at `moved`.
    ///
    /// # Errors
    ///
    /// [`Silent`] when there is none any more.
    pub(super) async fn wait<T>(
        &self,
        (begun, moved): (Instant, Instant),
        work: impl Future<Output = T>,
    ) -> Result<T, Silent> {
        tokio::pin!(work);
        loop {
            let deadline = self.deadline(begun, moved);
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                () = sleep_until(deadline) => {}
            }
            if self.deadline(begun, moved) <= deadline {
                return Err(self.silent_since(begun));
            }
        }
    }
}

/// The peer did not do what was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Silent {
    /// Nothing else came from it either since it was asked.
    pub(super) altogether: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_heard_is_waited_for_and_not_for_ever() {
        let (heard, begun) = (Heard::default(), Instant::now());
        assert_eq!(heard.deadline(begun, begun), begun + STALL);
        // what came before the question says nothing about it
        heard.touch(begun - Duration::from_secs(1));
        assert_eq!(heard.deadline(begun, begun), begun + STALL);
        let later = begun + Duration::from_secs(10);
        assert_eq!(heard.deadline(begun, later), later + STALL, "bytes of it came");
        heard.touch(later);
        assert_eq!(heard.deadline(begun, begun), later + STALL, "something else came");
        heard.touch(begun + LONGEST);
        assert_eq!(
            heard.deadline(begun, begun + LONGEST),
            begun + LONGEST,
            "but nothing that was waited for"
        );
    }

    #[tokio::test]
    async fn what_is_overdue_is_given_up_and_says_whether_the_peer_was_silent() {
        let heard = Heard::default();
        let never = std::future::pending::<()>;
        let long_ago = Instant::now() - LONGEST;
        assert_eq!(heard.wait((long_ago, long_ago), never()).await, Err(Silent { altogether: true }));
        heard.touch(Instant::now());
        assert_eq!(heard.wait((long_ago, long_ago), never()).await, Err(Silent { altogether: false }));
        // what is there is taken, however late
        assert_eq!(heard.wait((long_ago, long_ago), async { 7 }).await, Ok(7));
    }
}
