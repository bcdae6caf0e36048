//! How members agree: messages, manifest, rounds as state machines.
//!
//! Pure: no clock, no socket, no file, no thread, no tensor. Time, randomness and membership come in as
//! arguments, so that a whole run can be simulated in milliseconds and replayed from its ledger.

pub mod digest;
pub mod identity;
