//! The process that a donor runs.
//!
//! ```text
//!   ledger says            the node does
//!   -----------            -------------
//!   not a member           joins
//!   my seat is open        fetches shards and state, trains, keeps the blobs hidden, commits
//!   the round is sealed    reveals its blobs
//!   the round is closed    fetches the others' contributions, computes the next state, says its hash
//!   the run has ended      stops
//! ```
//! What to do next is a function of the ledger alone ([`task`]), so that a node can be killed at any moment: it
//! reads its copy of the ledger and goes on.

pub mod cheat;
mod daemon;
mod pending;
pub mod status;
pub mod task;
mod training;

pub use cheat::Cheat;
pub use daemon::{Node, NodeError, Options};
