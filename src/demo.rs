//! The demo: everything that a run is, on one machine.
//!
//! It calls nothing that a user could not: it draws and packs data, makes a run, starts the program itself five times
//! as separate processes, reads the ledger as a stranger would, exports, asks, audits.

mod cast;
mod data;
mod report;
mod screen;
mod script;
mod watch;

pub(crate) use script::{Script, play};
pub(crate) use watch::LedgerWatch;
