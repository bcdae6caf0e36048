//! Who is there: heard a moment ago. A connection says little: a frozen member's stays open for seconds.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use talkoot_protocol::identity::MemberId;
use tokio::time::Instant;

/// Signs of life, with a grace for silence.
#[derive(Debug)]
pub(crate) struct Presence {
    grace: Duration,
    heard: BTreeMap<MemberId, Instant>,
}

impl Presence {
    /// Members stay present for `grace` after they were last heard.
    pub(crate) const fn new(grace: Duration) -> Self {
        Self { grace, heard: BTreeMap::new() }
    }

    /// Takes note of when connected members were last heard.
    pub(crate) fn hear(&mut self, heard: BTreeMap<MemberId, Instant>) {
        for (member, at) in heard {
            let last = self.heard.entry(member).or_insert(at);
            *last = at.max(*last);
        }
    }

    /// Whose grace has not run out.
    pub(crate) fn present(&mut self, now: Instant) -> BTreeSet<MemberId> {
        let grace = self.grace;
        self.heard.retain(|_, at| now.saturating_duration_since(*at) < grace);
        self.heard.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_member_is_present_until_its_grace_runs_out() {
        let (member, other) = (MemberId::from_bytes([1; 32]), MemberId::from_bytes([2; 32]));
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut presence = Presence::new(Duration::from_secs(5));
        presence.hear(BTreeMap::from([(member, start), (other, after(2))]));
        assert_eq!(presence.present(after(4)), BTreeSet::from([member, other]));
        // a connection that was lost: nothing new is heard, and nothing old is forgotten
        presence.hear(BTreeMap::new());
        assert_eq!(presence.present(after(6)), BTreeSet::from([other]));
        presence.hear(BTreeMap::from([(member, after(6)), (other, after(1))]));
        assert_eq!(presence.present(after(6)), BTreeSet::from([member, other]));
        assert_eq!(presence.present(after(8)), BTreeSet::from([member]));
    }
}
