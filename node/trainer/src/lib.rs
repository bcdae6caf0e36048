//! The model, the stages, the contribution codec, exact replay.
//!
//! ```text
//! BatchSource -- packs --> inner::run_inner_steps <-- State (start), InnerPlan
//!                                |
//!                                +--> State (end) --> contribution --> aggregate --> State (next start)
//!                                +--> step records, state digests --> trace (what a verifier compares)
//! moments (v in rows and columns) <-- contribution <-- AdamW; last round's contributions --> moments of the next
//! State <--> huggingface folder       State --> evaluate, generate
//! ```
//!
//! Everything here is a pure function of its arguments: a verifier that calls [`inner::run_inner_steps`] with the same
//! public inputs gets the same bits, whatever the number of threads, the caches and the vector width of its processor.
//! Threads are rayon's: `RAYON_NUM_THREADS` bounds them.
//!
//! ```text
//! model       the model, written once: forward, backward, what is kept
//! backend     what a device must be able to do; the rules of the exact class
//! cpu         the processor as a device
//! team        several devices as one
//! reference   the same model as a plain graph on candle-core, which the fast one is held to
//! plan        what a step needs, from running the model's code on a device that only counts; arena: who gets which bytes
//! ```
//!
//! ```
//! use std::ops::ControlFlow;
//! use talkoot_trainer::{batch::Pack, inner::*, modules::Module, moments::MomentFormat, presets::demo_model, state::State};
//!
//! # fn main() -> Result<(), InnerError> {
//! let config = demo_model(64);
//! let start = State::initial(&config, 1);
//! let packs = vec![Pack {
//!     tokens: vec![5, 6, 7, 8],
//!     labels: vec![-100, -100, 7, 8],
//!     sample_lengths: vec![4],
//!     images: vec![],
//! }];
//! let optimizer = OptimizerSettings {
//!     peak_learning_rate: 1e-3,
//!     final_learning_rate: 1e-4,
//!     warmup_steps: 0,
//!     total_steps: 2,
//!     beta1: 0.9,
//!     beta2: 0.95,
//!     epsilon: 1e-8,
//!     weight_decay: 0.01,
//!     clip_norm: 1.0,
//!     moments: MomentFormat::F32,
//! };
//! let plan = InnerPlan {
//!     trainable: vec![Module::Language],
//!     optimizer,
//!     normalisation: Normalisation::Token,
//!     first_step: 0,
//!     steps: vec![vec![0], vec![0]],
//!     digest_interval: 1,
//! };
//! let outcome = run_inner_steps(&config, &start, &plan, &packs, &mut |_, _| ControlFlow::Continue(()))?;
//! assert!(outcome.trace.steps[1].loss < outcome.trace.steps[0].loss);
//! println!("{} -> {}", start.digest(), outcome.end.digest());
//! # Ok(())
//! # }
//! ```

pub mod adamw;
pub mod aggregate;
pub mod arena;
pub mod backend;
pub mod batch;
pub mod config;
pub mod contribution;
pub mod cpu;
pub mod evaluate;
pub mod generate;
pub mod huggingface;
pub mod inner;
pub mod measure;
pub mod model;
pub mod modules;
pub mod moments;
pub mod patches;
pub mod plan;
pub mod presets;
pub mod reach;
pub mod reference;
pub mod schedule;
pub mod snapshot;
pub mod state;
pub mod team;
pub mod trace;

mod elementary;
