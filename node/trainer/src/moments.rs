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

pub mod eight_bit;
mod factors;
mod public;
mod range_coder;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, str::FromStr};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

pub use factors::{Factors, FactorsError, MatrixShape, ParameterFactors, matrix_shapes};
pub use public::{LAST_RATE_LIMIT, Published, public};

/// How AdamW's moments are held between steps. It decides bits, so a run's manifest says which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub enum MomentFormat {
    /// As they are: 4 bytes a number.
    #[default]
    #[serde(rename = "f32")]
    F32,
    /// Packed block by block, see [`eight_bit`]: a little more than a byte a number.
    #[serde(rename = "8bit")]
    EightBit,
}

impl FromStr for MomentFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "f32" => Ok(Self::F32),
            "8bit" => Ok(Self::EightBit),
            other => Err(format!("no format `{other}` of moments; there are f32, 8bit")),
        }
    }
}

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

    /// What becomes of them when they are held in a format.
    #[must_use]
    pub fn held_as(mut self, format: MomentFormat) -> Self {
        if format == MomentFormat::EightBit {
            self.tensors.par_iter_mut().for_each(|(_, (first, second))| {
                *first = eight_bit::Side::First.round(first);
                *second = eight_bit::Side::Second.round(second);
            });
        }
        self
    }
}
