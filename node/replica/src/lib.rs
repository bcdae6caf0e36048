//! A member's replica of a run.
//!
//! ```text
//! Follower   the member's own copy of the ledger, the fold over it, and the way to the coordinator
//! Heads      what others say of the log: is it the same for all, does it go on
//! Receipts   proofs of the member's own commits and verdicts
//! Inputs     the model's config, the data sets' indexes, the shards that some work needs
//! Weights    the state that the run has agreed on, moved on by every closed round
//! exchange   a round's exchange alone, between processes of their own, to be measured
//! ```
//! Trainer and verifier are both built on it: what a verifier holds is what a trainer holds.

mod error;
pub mod exchange;
mod follower;
mod heads;
mod inputs;
mod receipts;
mod weights;

pub use error::ReplicaError;
pub use follower::{Follower, Submission};
pub use heads::Alarm;
pub use inputs::Inputs;
pub use weights::Weights;
