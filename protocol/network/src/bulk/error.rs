//! Why the bulk plane cannot start, and why a blob can never be fetched.

use std::{io, net::SocketAddr};

use talkoot_protocol::{
    digest::{BlobRef, Digest},
    identity::MemberId,
};

use crate::store::StoreError;

/// Why the bulk plane does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BulkError {
    /// Somebody else has the port.
    #[error(
        "UDP address {address} is in use by another program; stop that program or choose another bulk port (0 takes any free one)"
    )]
    InUse {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The socket cannot be opened for another reason.
    #[error("opening the UDP socket {address} for bulk transfers: {source}")]
    Socket {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The identity does not make a TLS certificate.
    #[error("making the TLS identity for bulk transfers: {reason}")]
    Identity {
        /// What the TLS library said.
        reason: String,
    },
}

/// Why a blob will not come, however long one waits. Absent and lying peers are no reason: they are waited for and passed by.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The reference gives a length that the blob with this hash does not have.
    #[error(
        "blob {digest} has {actual} bytes{}, the reference says {expected}; whoever published the reference made a mistake",
        proof(peer.as_ref())
    )]
    SizeMismatch {
        /// Which blob.
        digest: Digest,
        /// Length according to the reference.
        expected: u64,
        /// Length proved by the hash.
        actual: u64,
        /// Who sent the proof; none when the blob is in our own store.
        peer: Option<MemberId>,
    },
    /// The reference names a length that no blob may have.
    #[error("blob {blob} is over the limit of {limit} bytes for one blob")]
    TooLarge {
        /// Which blob.
        blob: BlobRef,
        /// The limit in bytes.
        limit: u64,
    },
    /// The local store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// [`Bulk::shutdown`](super::Bulk::shutdown) was called.
    #[error("the bulk plane has been shut down")]
    Stopped,
}

/// Who proved a length, for the message.
fn proof(peer: Option<&MemberId>) -> String {
    peer.map(|peer| format!(" (member {} has it and sent the proof)", peer.short())).unwrap_or_default()
}
