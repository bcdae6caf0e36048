//! From a round's contributions to the next state, bitwise by definition.
//!
//! ```text
//! w_i  = f32(weight_i) / f32(sum of weights)           each conversion and the division rounded to nearest
//! mean = (((0 + w_0 v_0) + w_1 v_1) + ...)              contributions in the order given
//! theta = theta - learning_rate x mean                  elementwise
//! ```
//!
//! Every `+ - x /` is one IEEE-754 f32 operation, rounded to nearest even, never fused. An entry that no
//! contribution sends keeps its bits. That is the rule `mean`; [`Rule`] has two more, for members that lie. Work goes segment by segment, in parallel, with one chunk of accumulator
//! per thread: memory doesn't grow with the model or the number of contributions, and the result doesn't
//! depend on the number of threads, as no sum crosses an element.

mod clip;
mod gates;
mod round;
#[cfg(test)]
mod tests;

use round::Round;

pub use gates::{GateError, Measure, NormGate, Overlap, measure, overlap};

use crate::contribution::{CodecSettings, DecodeError, Layout, SettingsError};

/// What a contribution counts for: usually its tokens; 1 each for a plain mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Weight(pub u64);

/// How contributions become one update. An entry that a contribution doesn't send counts as zero.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Rule {
    /// The weighted mean.
    Mean,
    /// The weighted mean of contributions that are shortened towards their common centre (centered clipping: Karimireddy,
    /// He and Jaggi, arXiv 2012.10333), with the shares `a_i` in place of `w_i`:
    ///
    /// ```text
    /// tau = clip x median of |x_i|;  a_i = 0;  then three times
    ///     v   = sum of a_j x_j;  d_i = |x_i - v|;  s_i = min(1, tau / d_i)        1 where d_i is 0
    ///     a_i = w_i s_i + (1 - sum of w_j s_j) a_i
    /// ```
    ///
    /// in f64, sums in the order given; `a_i` is rounded to f32 at the end.
    CenteredClip {
        /// How far a contribution may lie from the centre, as a multiple of the median norm.
        clip: f64,
    },
    /// Entry by entry, the plain mean of what is left of all `n` values without the `floor(trim x n)` smallest and as
    /// many of the largest (Yin et al., arXiv 1803.01498), added in ascending order and divided once. Weights don't count.
    Trimmed {
        /// The share left out at either end, below a half.
        trim: f64,
    },
}

/// What an aggregation did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AggregateReport {
    /// The round of all contributions.
    pub round: u64,
    /// How many contributions went in.
    pub contributions: usize,
    /// Sum of their weights.
    pub weight: u64,
    /// Entries sent, over all contributions.
    pub entries: u64,
    /// Elements of the aggregate that are not zero.
    pub moved: u64,
    /// Euclidean norm of the aggregate, before the learning rate.
    pub norm: f64,
}

/// Why a round's contributions are not aggregated. Nothing has been changed then.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AggregateError {
    /// The settings are out of bounds.
    #[error("the codec's settings are out of bounds")]
    Settings(#[from] SettingsError),
    /// The state has not the layout's shape.
    #[error("tensor {tensor} of the layout has {expected} elements; the state has {got} there")]
    Shape {
        /// Which tensor of the layout.
        tensor: usize,
        /// Elements in the layout; 0 when the tensor is not in it.
        expected: u64,
        /// Elements in the state; 0 when the tensor is missing.
        got: u64,
    },
    /// There is nothing to aggregate.
    #[error("no contributions to aggregate")]
    Empty,
    /// A weight of zero, or weights whose sum passes 2^64.
    #[error("contribution {index} has weight {weight}: weights are positive and sum up to less than 2^64")]
    Weight {
        /// Which contribution.
        index: usize,
        /// Its weight.
        weight: u64,
    },
    /// The learning rate is no positive number.
    #[error("the outer learning rate must be positive and finite, got {got}")]
    LearningRate {
        /// The rate as given.
        got: f32,
    },
    /// A contribution can't be decoded: leave it out, and say whose it is.
    #[error("contribution {index} is refused")]
    Decode {
        /// Which contribution.
        index: usize,
        /// Why.
        #[source]
        source: DecodeError,
    },
    /// A contribution to another round than the first one.
    #[error("contribution {index} is for round {got}, the first one for round {expected}")]
    Round {
        /// Which contribution.
        index: usize,
        /// Round of the first contribution.
        expected: u64,
        /// Round of this one.
        got: u64,
    },
    /// Two contributions of one member.
    #[error("contributions {first} and {second} are of the same member")]
    Repeated {
        /// The earlier one.
        first: usize,
        /// The later one.
        second: usize,
    },
}

/// Takes the outer step in place: `start`, one slice per tensor of the layout, becomes the next state.
///
/// Contributions are `(blob, weight)` in member order; that order is part of the result's definition.
///
/// # Errors
///
/// [`AggregateError`] when anything at all is wrong with state, settings or a contribution; all of them are
/// checked to the last bit before the first element changes.
pub fn outer_step(
    start: &mut [&mut [f32]],
    contributions: &[(&[u8], Weight)],
    settings: &CodecSettings,
    layout: &Layout,
    outer_learning_rate: f32,
    rule: Rule,
) -> Result<AggregateReport, AggregateError> {
    if !(outer_learning_rate > 0.0 && outer_learning_rate.is_finite()) {
        return Err(AggregateError::LearningRate { got: outer_learning_rate });
    }
    let round = Round::open(start, contributions, settings, layout)?;
    Ok(round.combine_into(rule, start, settings, |theta, mean| {
        for (theta, mean) in theta.iter_mut().zip(mean) {
            *theta -= outer_learning_rate * mean;
        }
    }))
}

/// Puts the aggregate itself, without a learning rate, into `out`, one slice per tensor of the layout.
///
/// It is what the next round's public first moments start from.
///
/// # Errors
///
/// As [`outer_step`]'s.
pub fn aggregate_into(
    out: &mut [&mut [f32]],
    contributions: &[(&[u8], Weight)],
    settings: &CodecSettings,
    layout: &Layout,
    rule: Rule,
) -> Result<AggregateReport, AggregateError> {
    let round = Round::open(out, contributions, settings, layout)?;
    for tensor in out.iter_mut() {
        tensor.fill(0.0);
    }
    Ok(round.combine_into(rule, out, settings, |out, mean| out.copy_from_slice(mean)))
}
