//! What the network tells its owner.

use std::fmt;

use talkoot_protocol::identity::MemberId;
use tokio::sync::oneshot;

use super::codec::MAX_RESPONSE_BYTES;

/// Something that happened. Events of one peer come in the order in which they happened, with one exception: a request may
/// come a moment before its sender's [`Connected`](Self::Connected).
#[derive(Debug)]
pub enum NetworkEvent {
    /// A peer is connected and has introduced itself; its bulk address is known. Said once however many connections there are.
    Connected(MemberId),
    /// The last connection to a peer is gone. When the peer's process was restarted, a [`Connected`](Self::Connected)
    /// follows at once.
    Disconnected(MemberId),
    /// A peer asks something and waits for [`REQUEST_TIMEOUT`](super::REQUEST_TIMEOUT).
    Request {
        /// Who asks; proven by the connection.
        from: MemberId,
        /// The question, at most [`MAX_REQUEST_BYTES`](super::MAX_REQUEST_BYTES).
        body: Vec<u8>,
        /// Where the answer goes.
        reply: ReplySender,
    },
    /// A message on a topic this process subscribed to. Dropped first when the owner falls behind.
    Gossip {
        /// The topic.
        topic: String,
        /// Its author, proven by a signature; not the neighbour that passed it on.
        from: MemberId,
        /// The message, at most [`MAX_GOSSIP_BYTES`](super::MAX_GOSSIP_BYTES).
        body: Vec<u8>,
    },
}

/// The way back to one asker. Dropped without [`send`](Self::send), nothing is answered and the asker gets an error.
pub struct ReplySender {
    asker: MemberId,
    channel: oneshot::Sender<Vec<u8>>,
}

impl ReplySender {
    pub(crate) fn new(asker: MemberId) -> (Self, oneshot::Receiver<Vec<u8>>) {
        let (channel, answer) = oneshot::channel();
        (Self { asker, channel }, answer)
    }

    /// Answers. An answer above [`MAX_RESPONSE_BYTES`](super::MAX_RESPONSE_BYTES) is not sent, and one that comes too late is
    /// lost; both are logged.
    pub fn send(self, body: Vec<u8>) {
        if body.len() > MAX_RESPONSE_BYTES {
            tracing::error!(asker = %self.asker.short(), bytes = body.len(), max_bytes = MAX_RESPONSE_BYTES, "an answer is too long to send");
        } else if self.channel.send(body).is_err() {
            tracing::debug!(asker = %self.asker.short(), "an answer came after its asker had gone");
        }
    }
}

impl fmt::Debug for ReplySender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplySender").field("asker", &self.asker).finish_non_exhaustive()
    }
}
