//! Opens and closes rounds, writes the ledger.
//!
//! The coordinator orders what members say and decides when a phase is over. It sees no tensor: contributions pass
//! through it as blobs. Its state is a fold over the ledger; it can be killed at any moment and goes on from there.
//!
//! ```text
//! folder/
//!   keys/operator.key  keys/log.key   who it is; the log has a key of its own
//!   ledger/                           the log as static files: any web server may serve it
//!   store/                            blobs: data, contributions, states
//!   link.txt                          the join link, rewritten at every start
//! ```

mod archive;
mod clock;
mod desk;
mod folder;
mod presence;
mod publishing;
mod service;

pub use folder::{Folder, FolderError, NewRun};
pub use service::{Coordinator, CoordinatorError, Options};
