//! Requests, answers and gossip, as the driver handles them.

use std::{collections::btree_map::Entry, io};

use libp2p::{
    PeerId, gossipsub,
    request_response::{self, Message, OutboundFailure, ResponseChannel},
};
use talkoot_protocol::identity::MemberId;
use tokio::{sync::oneshot, time::Instant};

use super::{Answer, Buckets, Driver, Offence};
use crate::{
    control::{
        event::{NetworkEvent, ReplySender},
        peer::{member_of, peer_of},
        rate::{Bucket, GOSSIP_PACE, REQUEST_PACE, Verdict},
    },
    error::RequestError,
};

/// Requests that wait for the owner's answer, of all peers together; at the largest request this is 256 MiB.
const MAX_UNANSWERED: usize = 1024;
/// Peers whose pace is remembered before the rested ones are forgotten; twice the connections that there may be.
const MAX_BUCKETS: usize = 1024;

impl Driver {
    pub(super) fn ask(&mut self, to: MemberId, body: Vec<u8>, answer: Answer) {
        match peer_of(&to).filter(|peer| self.roster.is_connected(peer)) {
            Some(peer) => {
                let id = self.swarm.behaviour_mut().rpc.send_request(&peer, body);
                self.asked.insert(id, (to, answer));
            }
            None => {
                let _ = answer.send(Err(RequestError::NotConnected { peer: to }));
            }
        }
    }

    pub(super) fn answer(
        &mut self,
        asker: MemberId,
        channel: ResponseChannel<Vec<u8>>,
        answer: Result<Vec<u8>, oneshot::error::RecvError>,
    ) {
        if let Entry::Occupied(mut count) = self.unanswered.entry(asker) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        // without an answer the channel is dropped, which closes the stream
        if let Ok(body) = answer
            && self.swarm.behaviour_mut().rpc.send_response(channel, body).is_err()
        {
            tracing::debug!("an answer came after its asker had gone");
        }
    }

    pub(super) fn publish(&mut self, topic: String, body: Vec<u8>) {
        let bytes = body.len();
        match self.swarm.behaviour_mut().gossip.publish(gossipsub::IdentTopic::new(topic.clone()), body) {
            Ok(_) => {}
            Err(gossipsub::PublishError::NoPeersSubscribedToTopic) => {
                tracing::debug!(%topic, bytes, "nobody we know listens to this topic");
            }
            Err(error) => tracing::warn!(%topic, bytes, %error, "a message was not published"),
        }
    }

    /// Judges one message of `peer` by its pace.
    pub(super) fn admits(&mut self, peer: PeerId, bucket: fn(&mut Buckets) -> &mut Bucket) -> bool {
        let now = Instant::now();
        // they outlive the connection, or a flood would only have to reconnect; a rested one is as good as a new one
        if self.buckets.len() >= MAX_BUCKETS {
            self.buckets
                .retain(|_, buckets| !(buckets.requests.is_rested(now) && buckets.gossip.is_rested(now)));
        }
        let buckets = self.buckets.entry(peer).or_insert_with(|| Buckets {
            requests: Bucket::new(REQUEST_PACE, now),
            gossip: Bucket::new(GOSSIP_PACE, now),
        });
        match bucket(buckets).take(now) {
            Verdict::Take => true,
            Verdict::Drop => {
                tracing::debug!(%peer, "a message came too soon after others and is dropped");
                false
            }
            Verdict::Close => {
                self.turn_away(peer, Offence::Flood, "it sends without end");
                false
            }
        }
    }

    pub(super) fn on_gossip(&mut self, neighbour: PeerId, message: gossipsub::Message) {
        if !self.admits(neighbour, |buckets| &mut buckets.gossip) {
            return;
        }
        // strict validation lets nothing without an author pass; the key may still be of another kind
        let Some(from) = message.source.as_ref().and_then(member_of) else { return };
        let topic = message.topic.into_string();
        if let Some(NetworkEvent::Gossip { topic, .. }) =
            self.outbox.push_message(NetworkEvent::Gossip { topic, from, body: message.data })
        {
            tracing::warn!(%topic, from = %from.short(), "gossip is dropped: the owner of the network does not keep up");
        }
    }

    pub(super) fn on_rpc(&mut self, event: request_response::Event<Vec<u8>, Vec<u8>>) {
        match event {
            request_response::Event::Message { peer, message, .. } => match message {
                Message::Request { request, channel, .. } => self.on_request(peer, request, channel),
                Message::Response { request_id, response } => {
                    if let Some((_, answer)) = self.asked.remove(&request_id) {
                        let _ = answer.send(Ok(response)); // the asker may have given up
                    }
                }
            },
            request_response::Event::OutboundFailure { request_id, error, .. } => {
                if let Some((peer, answer)) = self.asked.remove(&request_id) {
                    let _ = answer.send(Err(blame(peer, error)));
                }
            }
            request_response::Event::InboundFailure { peer, error, .. } => {
                tracing::debug!(%peer, %error, "a request is not answered");
            }
            request_response::Event::ResponseSent { .. } => {}
        }
    }

    fn on_request(&mut self, peer: PeerId, body: Vec<u8>, channel: ResponseChannel<Vec<u8>>) {
        if !self.admits(peer, |buckets| &mut buckets.requests) {
            return;
        }
        // that is what our own codec makes of a request that is longer than any
        if body.is_empty() {
            return self.blame(peer, Offence::Garbage);
        }
        let Some(from) = member_of(&peer) else { return };
        if self.replies.len() >= MAX_UNANSWERED {
            tracing::warn!(from = %from.short(), "a request is refused: too many wait for an answer");
            return;
        }
        let (reply, answer) = ReplySender::new(from);
        if self.outbox.push_message(NetworkEvent::Request { from, body, reply }).is_some() {
            tracing::warn!(from = %from.short(), "a request is refused: the owner of the network does not keep up");
            return;
        }
        *self.unanswered.entry(from).or_default() += 1;
        self.replies.push(Box::pin(async move { (from, channel, answer.await) }));
    }
}

/// What a failed request means to its asker.
pub(super) fn blame(peer: MemberId, error: OutboundFailure) -> RequestError {
    match error {
        OutboundFailure::DialFailure => RequestError::NotConnected { peer },
        OutboundFailure::Timeout => RequestError::Timeout { peer },
        OutboundFailure::ConnectionClosed => RequestError::ConnectionClosed { peer },
        OutboundFailure::UnsupportedProtocols => {
            RequestError::Refused { peer, reason: "it takes no requests".to_owned() }
        }
        // our own codec's verdict on the announced length
        OutboundFailure::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            RequestError::AnswerTooLong { peer, reason: error.to_string() }
        }
        OutboundFailure::Io(error) => {
            RequestError::Refused { peer, reason: format!("the stream ended without an answer ({error})") }
        }
    }
}
