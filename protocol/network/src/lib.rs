//! How bytes travel: libp2p control plane, quinn bulk plane, the blob store and swarm.
//!
//! ```text
//! facade    one handle for both planes: request, publish, fetch
//! control   libp2p: who is there, gossip, requests and answers; small signed messages
//! bulk      quinn on its own socket: blobs, verified while they stream, from several members at once
//! ways      how bulk sockets behind routers are reached: holes, connections used both ways, seeders
//! store     blobs as plain files named by their BLAKE3 hash
//! keyfile   the secret key on disk
//! ```
//!
//! Two members on one machine, one fetching a blob from the other:
//!
//! ```
//! use talkoot_network::{BlobStore, NetworkConfig, start};
//! use talkoot_protocol::identity::Keypair;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! let giving = BlobStore::open(&dir.path().join("giving"))?;
//! let taking = BlobStore::open(&dir.path().join("taking"))?;
//! let blob = giving.put(b"a shard")?;
//! let (giver, _events) = start(NetworkConfig::default(), &Keypair::from_seed([1; 32]), giving).await?;
//! let config = NetworkConfig { bootstrap: giver.control_addresses(), ..NetworkConfig::default() };
//! let (taker, _events) = start(config, &Keypair::from_seed([2; 32]), taking.clone()).await?;
//! taker.fetch(blob).await?;
//! assert_eq!(taking.read(&blob.digest, blob.bytes)?, b"a shard");
//! # Ok(())
//! # }
//! ```

pub mod bulk;
pub mod control;
mod error;
mod facade;
#[doc(hidden)]
pub mod fuzzing;
pub mod keyfile;
pub mod signal;
pub mod store;
mod ways;

pub use bulk::{FetchError, Line, RangesError, Urgency};
pub use control::{
    MAX_GOSSIP_BYTES, MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES, NetworkEvent, Offence, ReachStatus,
    Reachability, ReplySender,
};
pub use error::{NetworkError, RequestError};
pub use facade::{Network, NetworkConfig, Traffic, start};
pub use store::{BlobStore, StoreError};
pub use ways::WaysStatus;
