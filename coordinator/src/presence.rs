//! Who is there: connected now, or lost only a moment ago.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use talkoot_protocol::identity::MemberId;

/// Connections, with a grace for those that were lost.
#[derive(Debug)]
pub(crate) struct Presence {
    grace: Duration,
    lost: BTreeMap<MemberId, Instant>,
}

impl Presence {
    /// Members stay present for `grace` after their connection was lost.
    pub(crate) const fn new(grace: Duration) -> Self {
        Self { grace, lost: BTreeMap::new() }
    }

    pub(crate) fn connected(&mut self, member: MemberId) {
        self.lost.remove(&member);
    }

    pub(crate) fn disconnected(&mut self, member: MemberId, now: Instant) {
        self.lost.insert(member, now);
    }

    /// Those in `connected`, and those whose grace has not run out.
    pub(crate) fn present(&mut self, connected: BTreeSet<MemberId>, now: Instant) -> BTreeSet<MemberId> {
        let grace = self.grace;
        self.lost.retain(|member, at| !connected.contains(member) && now.duration_since(*at) < grace);
        connected.into_iter().chain(self.lost.keys().copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_member_is_present_until_its_grace_runs_out() {
        let member = MemberId::from_bytes([1; 32]);
        let start = Instant::now();
        let mut presence = Presence::new(Duration::from_secs(5));
        presence.disconnected(member, start);
        assert!(presence.present(BTreeSet::new(), start + Duration::from_secs(4)).contains(&member));
        assert!(presence.present(BTreeSet::new(), start + Duration::from_secs(6)).is_empty());
        presence.disconnected(member, start);
        presence.connected(member);
        assert!(presence.present(BTreeSet::from([member]), start).contains(&member));
        assert!(presence.present(BTreeSet::new(), start).is_empty(), "a reconnection ends the grace");
    }
}
