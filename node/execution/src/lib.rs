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
mod check;
mod compare;
mod config;
mod deviation;
mod engine;
mod error;
mod execute;
mod layout;
mod moments;
mod packs;
mod part;
mod sample;
mod signals;
mod usable;

pub use aggregate::{Aggregated, aggregate};
pub use check::{Claimed, Comparison, check};
pub use compare::{compare, summarises, trace_of};
pub use config::{ConfigFileError, parse_config};
pub use deviation::{Distances, Learnt, Yardstick, limits};
pub use engine::{Engine, Unavailable, choose_engine, chosen};
pub use error::ExecutionError;
pub use execute::{
    Arithmetic, Executed, Job, ParseArithmeticError, execute, execute_on, execute_with, restore,
};
pub use layout::{codec_settings, layout_of, modules_of};
pub use moments::moments_of;
pub use packs::{Packs, open_packs, pack_of};
pub use part::{Part, encode_end, execute_steps};
pub use sample::{Sample, Sampling};
pub use signals::{Look, Signals, separation};
pub use usable::Dropped;
