//! The transparency log: tiles, checkpoints, proofs, mirrors.
//!
//! A log is a plain folder in the C2SP `tlog-tiles` layout, so any web server serves it and other
//! people's tools read it. This crate writes such folders, reads them as a stranger would, and keeps
//! a member's own copy of somebody else's. It knows nothing of what the entries mean.
//!
//! ```text
//!   entries --append--> Log ----------> checkpoint          one writer, one key, one origin
//!                        |              checkpoints/<size>   every note ever signed
//!                        |              tile/<L>/<N>         hashes, 256 to a file
//!                        |              tile/entries/<N>     entries, 256 to a file
//!                        |
//!        reader::replay -+-> every entry in order, or the file that is wrong and why
//!        Mirror ---------+-> the same folder again, held by somebody else
//!        Witness --------+-> a cosignature: this continues all I have seen of it
//! ```
//!
//! ```
//! use talkoot_ledger::{Log, SignerKey, reader};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let dir = tempfile::tempdir()?;
//! let seed = [7; 32];
//! let mut log = Log::create(dir.path(), "logs.example.org/run/1", &seed)?;
//! log.append(&[b"first".to_vec(), b"second".to_vec()])?;
//!
//! let vkey = SignerKey::log("logs.example.org/run/1", &seed)?.verifier();
//! let source = reader::Folder::new(dir.path());
//! let mut seen = Vec::new();
//! let signed = reader::replay(&source, &vkey, |index, entry| seen.push((index, entry.to_vec())))?;
//! assert_eq!(signed.checkpoint.size, 2);
//! assert_eq!(seen[1], (1, b"second".to_vec()));
//! # Ok(())
//! # }
//! ```
//!
//! The formats, and where each rule comes from: `tlog-tiles`, `tlog-checkpoint`, `signed-note`,
//! `tlog-cosignature`, `tlog-witness`, `tlog-policy` and `tlog-proof` at <https://c2sp.org>; hashing is RFC 6962 with SHA-256.

pub mod checkpoint;
mod disk;
mod encoding;
pub mod fork;
pub mod log;
pub mod mirror;
pub mod note;
pub mod policy;
pub mod reader;
pub mod receipt;
mod store;
pub mod tile;
pub mod tree;
pub mod witness;

pub use checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint};
pub use disk::DiskError;
pub use fork::{Fork, NoFork};
pub use log::{Log, LogError};
pub use mirror::{Mirror, MirrorError};
pub use note::{Note, NoteError, SignerKey, VerifierKey};
pub use policy::{Policy, PolicyError, Witnessed};
pub use reader::{Folder, ReadError, TileSource};
pub use receipt::{Receipt, ReceiptError};
pub use tree::{CompactRange, Hash};
pub use witness::{AddCheckpoint, Refusal, Witness, WitnessError};
