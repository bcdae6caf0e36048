//! Challenges, replays, gives verdicts; audit for strangers.
//!
//! [`Verifier`] is a member: it follows the ledger, draws which contributions it has to check, executes them again
//! and says what it found. [`audit`] needs no membership and trusts nobody: files in, report out.
//! [`dispute`] settles who is right where a member and a verifier contradict each other; [`calibrate`] measures what a run of
//! the class `fast` has to tolerate.

pub mod audit;
pub mod calibrate;
mod cheat;
pub mod dispute;
mod replay;
mod service;

pub use cheat::Cheat;
pub use service::{Options, Verifier, VerifierError};
