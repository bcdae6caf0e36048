//! The networks' own words, as the driver handles them.

use std::collections::BTreeMap;

use futures::{future::BoxFuture, stream::FuturesUnordered};
use libp2p::{
    PeerId,
    request_response::{self, Message, OutboundRequestId, ResponseChannel},
};
use talkoot_protocol::identity::MemberId;
use tokio::sync::{mpsc, oneshot};

use super::{Driver, Offence, wire::blame};
use crate::{
    control::{
        IncomingSignal,
        peer::{member_of, peer_of},
    },
    error::RequestError,
    signal::{Reply, Signal},
};

/// Signals of others that wait for an answer, of all peers together.
const MAX_UNANSWERED: usize = 256;

type Answer = oneshot::Sender<Result<Reply, RequestError>>;

/// Signals under way.
pub(super) struct Signals {
    inbox: mpsc::Sender<IncomingSignal>,
    asked: BTreeMap<OutboundRequestId, (MemberId, Answer)>,
    pub(super) replies: FuturesUnordered<BoxFuture<'static, (ResponseChannel<Vec<u8>>, Reply)>>,
}

impl Signals {
    pub(super) fn new(inbox: mpsc::Sender<IncomingSignal>) -> Self {
        Self { inbox, asked: BTreeMap::new(), replies: FuturesUnordered::new() }
    }
}

impl Driver {
    pub(super) fn send_signal(&mut self, to: MemberId, signal: &Signal, answer: Answer) {
        match peer_of(&to).filter(|peer| self.roster.is_connected(peer)) {
            Some(peer) => {
                let id = self.swarm.behaviour_mut().signal.send_request(&peer, signal.to_bytes());
                self.signals.asked.insert(id, (to, answer));
            }
            None => drop(answer.send(Err(RequestError::NotConnected { peer: to }))),
        }
    }

    pub(super) fn answer_signal(&mut self, channel: ResponseChannel<Vec<u8>>, reply: Reply) {
        // an error is an asker that has gone
        let _ = self.swarm.behaviour_mut().signal.send_response(channel, reply.to_bytes());
    }

    pub(super) fn on_signal(&mut self, event: request_response::Event<Vec<u8>, Vec<u8>>) {
        match event {
            request_response::Event::Message { peer, message, .. } => match message {
                Message::Request { request, channel, .. } => self.on_signal_request(peer, &request, channel),
                Message::Response { request_id, response } => {
                    let Some((member, answer)) = self.signals.asked.remove(&request_id) else { return };
                    let reply = Reply::from_bytes(&response);
                    if reply.is_err() {
                        self.blame(peer, Offence::Garbage);
                    }
                    let reason = |error| RequestError::Refused { peer: member, reason: format!("{error}") };
                    let _ = answer.send(reply.map_err(reason)); // the asker may have given up
                }
            },
            request_response::Event::OutboundFailure { request_id, error, .. } => {
                if let Some((member, answer)) = self.signals.asked.remove(&request_id) {
                    let _ = answer.send(Err(blame(member, error)));
                }
            }
            request_response::Event::InboundFailure { .. } | request_response::Event::ResponseSent { .. } => {
            }
        }
    }

    fn on_signal_request(&mut self, peer: PeerId, body: &[u8], channel: ResponseChannel<Vec<u8>>) {
        if !self.admits(peer, |buckets| &mut buckets.requests) {
            return;
        }
        let Some(from) = member_of(&peer) else { return };
        let Ok(signal) = Signal::from_bytes(body) else { return self.blame(peer, Offence::Garbage) };
        let (reply, answer) = oneshot::channel();
        let full = self.signals.replies.len() >= MAX_UNANSWERED;
        if full || self.signals.inbox.try_send(IncomingSignal { from, signal, reply }).is_err() {
            return self.answer_signal(channel, Reply::No);
        }
        let answered = async move { (channel, answer.await.unwrap_or(Reply::No)) };
        self.signals.replies.push(Box::pin(answered));
    }
}
