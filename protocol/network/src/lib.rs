//! How bytes travel: libp2p control plane, quinn bulk plane, the blob store and swarm.
//!
//! ```text
//! facade    one handle for both planes: request, publish, fetch
//! control   libp2p: who is there, gossip, requests and answers; small signed messages
//! bulk      quinn on its own socket: blobs, verified while they stream, from several members at once
//! store     blobs as plain files named by their BLAKE3 hash
//! keyfile   the secret key on disk
//! ```

pub mod bulk;
pub mod control;
mod error;
mod facade;
pub mod keyfile;
pub mod store;

pub use bulk::FetchError;
pub use control::{MAX_GOSSIP_BYTES, MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES, NetworkEvent, ReplySender};
pub use error::{NetworkError, RequestError};
pub use facade::{Network, NetworkConfig, Traffic, start};
pub use store::{BlobStore, StoreError};
