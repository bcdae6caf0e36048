//! A contribution as a pure function of public inputs.
//!
//! ```text
//! start state, packs, manifest, error feedback, moments ---execute---> contribution, trace, error feedback
//! a state between two of its steps ---execute_steps, encode_end------> the same from there on: what settles a dispute
//! start state, sealed contributions, manifest -----------aggregate--> next state
//! the last round's contributions, manifest ------------moments_of--> moments
//! ```
//! The node computes it, the verifier and the auditor compute it again; all of them call this crate, so that a
//! replay can only differ when the inputs did.

mod aggregate;
mod compare;
mod config;
mod engine;
mod error;
mod execute;
mod layout;
mod moments;
mod packs;
mod part;
mod sample;
mod usable;

pub use aggregate::{Aggregated, aggregate};
pub use compare::{compare, summarises, trace_of};
pub use config::{ConfigFileError, parse_config};
pub use engine::{Engine, choose_engine};
pub use error::ExecutionError;
pub use execute::{Executed, Job, execute, execute_on, restore};
pub use layout::{codec_settings, layout_of, modules_of};
pub use moments::moments_of;
pub use packs::{Packs, open_packs, pack_of};
pub use part::{Part, encode_end, execute_steps};
pub use sample::{Sample, Sampling};
pub use usable::Dropped;
