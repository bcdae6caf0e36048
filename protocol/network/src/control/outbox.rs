//! Events that wait for the owner: the network never does.

use std::collections::VecDeque;

use talkoot_protocol::identity::MemberId;

use super::event::NetworkEvent;

/// Requests and gossip that may wait besides the event channel; above it they are dropped. At the largest request this is 64 MiB.
pub(crate) const OUTBOX_CAPACITY: usize = 256;

/// A queue whose length is bounded whatever happens: messages by a count, arrivals and departures by the number of peers.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    queue: VecDeque<NetworkEvent>,
    messages: usize,
}

impl Outbox {
    /// Takes a request or gossip; hands it back when there is no room.
    #[must_use]
    pub(crate) fn push_message(&mut self, event: NetworkEvent) -> Option<NetworkEvent> {
        if self.messages >= OUTBOX_CAPACITY {
            return Some(event);
        }
        self.messages += 1;
        self.queue.push_back(event);
        None
    }

    /// A peer has come.
    pub(crate) fn connected(&mut self, member: MemberId) {
        self.queue.push_back(NetworkEvent::Connected(member));
    }

    /// A peer has gone. If nobody has heard yet that it came, nobody has to hear either.
    pub(crate) fn disconnected(&mut self, member: MemberId) {
        let unheard = self
            .queue
            .iter()
            .rposition(|event| matches!(event, NetworkEvent::Connected(peer) if *peer == member));
        match unheard {
            Some(index) => drop(self.queue.remove(index)),
            None => self.queue.push_back(NetworkEvent::Disconnected(member)),
        }
    }

    pub(crate) fn pop(&mut self) -> Option<NetworkEvent> {
        let event = self.queue.pop_front()?;
        if !matches!(event, NetworkEvent::Connected(_) | NetworkEvent::Disconnected(_)) {
            self.messages -= 1;
        }
        Some(event)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comings_and_goings_do_not_pile_up() {
        let member = MemberId::from_bytes([1; 32]);
        let mut outbox = Outbox::default();
        for _ in 0..1000 {
            outbox.connected(member);
            outbox.disconnected(member);
        }
        assert!(outbox.is_empty());
        outbox.disconnected(member); // the owner knew it as connected
        for _ in 0..1000 {
            outbox.connected(member);
            outbox.disconnected(member);
        }
        outbox.connected(member);
        assert!(matches!(outbox.pop(), Some(NetworkEvent::Disconnected(_))));
        assert!(matches!(outbox.pop(), Some(NetworkEvent::Connected(_))));
        assert!(outbox.is_empty());
    }

    #[test]
    fn messages_are_dropped_above_the_bound_and_taken_again_below_it() {
        let gossip = || NetworkEvent::Gossip {
            topic: "t".to_owned(),
            from: MemberId::from_bytes([1; 32]),
            body: Vec::new(),
        };
        let mut outbox = Outbox::default();
        assert!((0..OUTBOX_CAPACITY).all(|_| outbox.push_message(gossip()).is_none()));
        assert!(outbox.push_message(gossip()).is_some());
        outbox.connected(MemberId::from_bytes([2; 32])); // always has room
        assert!(outbox.pop().is_some());
        assert!(outbox.push_message(gossip()).is_none());
    }
}
