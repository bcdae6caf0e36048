//! Does it learn? Ways to train together, compared by what they reach for the same tokens and what they send for it.
//!
//! | method | exchanged | inner moments |
//! |---|---|---|
//! | `synchronous` | every gradient, f32 | one optimiser for all |
//! | `diloco` | pseudo-gradients, f32, Nesterov outside (arXiv 2311.08105) | carried |
//! | `carried`, `fresh`, `public` | contributions of this project | carried by each member; zero; from the last round |
//!
//! Every trial of one seed starts from the same weights and deals the same packs, so that methods differ in nothing else.

mod chart;
mod exchange;
mod report;
mod trial;

pub use report::{Summary, summarise, table, write_plots};
pub use trial::{Curve, Failure, Method, Point, Size, Trial};

#[cfg(test)]
mod tests;
