//! Why the network does not start, and why a request has no answer.

use std::{io, net::SocketAddr};

use talkoot_protocol::identity::MemberId;

use crate::{
    bulk::BulkError,
    control::{MAX_RESPONSE_BYTES, REQUEST_TIMEOUT},
};

/// Why the network does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// Somebody else has the control port.
    #[error(
        "UDP address {address} is in use by another program; stop that program or choose another control port (0 takes any free one)"
    )]
    AddressInUse {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The control address cannot be listened on for another reason.
    #[error("listening on the control address {address} (UDP): {source}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system or libp2p said.
        source: io::Error,
    },
    /// A bootstrap address is not one.
    #[error(
        "{text:?} is no bootstrap address: {reason}; it has to look like /ip4/192.0.2.1/udp/4001/quic-v1/p2p/12D3KooW..., as a running member prints it"
    )]
    BadAddress {
        /// The text as it came, cut to 200 characters.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// libp2p takes neither the key nor the settings; a mistake in this program.
    #[error("setting up the control plane: {reason}")]
    Setup {
        /// What libp2p said.
        reason: String,
    },
    /// The bulk plane does not start.
    #[error(transparent)]
    Bulk(#[from] BulkError),
}

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// There is no connection to the peer now. Nothing was sent.
    #[error("{} is not connected", peer.short())]
    NotConnected {
        /// Who was asked.
        peer: MemberId,
    },
    /// The request is longer than anybody reads. Nothing was sent.
    #[error("a request to {} has {bytes} bytes, at most {max_bytes} are allowed; store it as a blob and send its name", peer.short())]
    TooLong {
        /// Who was asked.
        peer: MemberId,
        /// Length of the request.
        bytes: usize,
        /// The limit.
        max_bytes: usize,
    },
    /// The peer took too long; it may or may not have done what was asked.
    #[error("{} gave no answer within {} s", peer.short(), REQUEST_TIMEOUT.as_secs())]
    Timeout {
        /// Who was asked.
        peer: MemberId,
    },
    /// The connection ended first; the peer may or may not have done what was asked.
    #[error("the connection to {} ended before it answered", peer.short())]
    ConnectionClosed {
        /// Who was asked.
        peer: MemberId,
    },
    /// The peer closed the stream without an answer: it asks for less, or has nothing to say to this request.
    #[error("{} refused to answer: {reason}", peer.short())]
    Refused {
        /// Who was asked.
        peer: MemberId,
        /// What the stream said.
        reason: String,
    },
    /// The answer is longer than it may be, and was not read.
    #[error("{} announces an answer above {MAX_RESPONSE_BYTES} bytes: {reason}", peer.short())]
    AnswerTooLong {
        /// Who was asked.
        peer: MemberId,
        /// What was announced.
        reason: String,
    },
    /// The network has been shut down.
    #[error("the network has been shut down")]
    ShutDown,
}

impl RequestError {
    /// Whether the same request may succeed later.
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::NotConnected { .. }
            | Self::Timeout { .. }
            | Self::ConnectionClosed { .. }
            | Self::Refused { .. } => true,
            Self::TooLong { .. } | Self::AnswerTooLong { .. } | Self::ShutDown => false,
        }
    }
}
