//! The ledger over HTTP: reading a log from a web server, asking witnesses to cosign its checkpoints, and being
//! a witness that anybody can run.
//!
//! ```text
//!   log's operator                                   witness
//!   Panel --POST add-checkpoint (old, proof, note)--> serve --> talkoot_ledger::Witness --fsync--+
//!     |  <-------------- cosignature ---------------------------------------------------------+
//!     |  a quorum of the policy: the note may be published
//!
//!   reader
//!   HttpLog --GET checkpoint, tile/...--> any web server        (a TileSource like any other)
//! ```
//!
//! Nothing here has to be trusted: a cosignature is checked against the policy's keys, a tile against a signed
//! root. So plain `http://` does no harm but that somebody on the way can keep things back.
//!
//! The protocol is `tlog-witness` at <https://c2sp.org>.

mod client;
mod http;
pub mod identity;
mod panel;
mod rate;
mod server;
mod source;

pub use client::{Trouble, WitnessClient};
pub use identity::IdentityError;
pub use panel::{Cosigned, NoQuorum, Panel, PanelError};
pub use server::{Limits, ServeError, serve};
pub use source::HttpLog;
