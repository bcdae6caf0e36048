//! Experiments: how a run learns, and what it costs, before anybody lends a GPU to it.
//!
//! ```text
//! Material (drawn, packed data) --> Trial (one training, all members in this process) --> Curve --> table, plots
//! ```
//!
//! Members are simulated, what they do is not: inner steps, error feedback, codec, moments and outer step are those that
//! nodes run.

pub mod attack;
pub mod converge;
mod material;

pub use material::{Material, MaterialError};
