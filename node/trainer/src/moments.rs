//! What AdamW remembers between steps, and how a round can begin with it without a private past.
//!
//! ```text
//! second moments v --row and column means--> Factors --rounded, range-coded--> in the contribution
//! Factors of the last round's contributions --median--> rows, columns --rank one--> v of the next round
//! aggregate of the last round, over the learning rates that made it, times sqrt(v) --> m of the next round
//! ```
//!
//! With [`public`] moments a contribution stays a function of public inputs: whoever has the last round's contributions
//! computes the same moments to the last bit. The idea of rows and columns is Adafactor's (Shazeer and Stern, arXiv
//! 1804.04235); `docs/contribution-format.md` gives the format and the arithmetic.

mod factors;
mod public;
mod range_coder;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use factors::{Factors, FactorsError, MatrixShape, ParameterFactors, matrix_shapes};
pub use public::{LAST_RATE_LIMIT, Published, public};

/// AdamW's moments, on the host.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Moments {
    /// Steps that they have seen, for the correction of their bias towards zero.
    pub steps: u64,
    /// First and second moments by parameter; a parameter that is missing starts from zero.
    pub tensors: BTreeMap<String, (Vec<f32>, Vec<f32>)>,
}

impl Moments {
    /// A number of steps after which no beta leaves a bias to correct.
    pub const SETTLED: u64 = 1 << 40;
}
