//! How members agree: messages, manifest, rounds as state machines.
//!
//! Pure: no clock, no socket, no file, no thread, no tensor. Time, randomness and membership come in as
//! arguments, so that a whole run can be simulated in milliseconds and replayed from its ledger.
//!
//! ```text
//! manifest   the rules, hashed into the run id
//! event      what can be said                 entry      who said it, and where it stands in the log
//! run        the fold: entries in, state of the run out; every rule is checked here
//! conductor  what the operator has to say next, as a function of that state
//! canary     known lies that find verifiers who stamp everything
//! assignment which packs a seat trains on     challenge  which contributions are checked
//! dispute    where two accounts of the same work part
//! message    requests and answers between members and the coordinator
//! announcement  what is told to everybody by gossip      link  how newcomers are told where to go
//! ```

pub mod announcement;
pub mod assignment;
pub mod canary;
pub mod canonical;
pub mod challenge;
pub mod conductor;
pub mod digest;
pub mod dispute;
pub mod entry;
pub mod event;
pub mod identity;
pub mod link;
pub mod manifest;
pub mod message;
pub mod real;
pub mod run;
