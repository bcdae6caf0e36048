//! Challenges, replays, gives verdicts; audit for strangers.
//!
//! [`Verifier`] is a member: it follows the ledger, draws which contributions it has to check, executes them again
//! and says what it found. [`audit`] needs no membership and trusts nobody: files in, report out.

pub mod audit;
mod replay;
mod service;

pub use service::{Options, Verifier, VerifierError};
