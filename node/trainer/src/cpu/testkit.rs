//! What the tests of operations share: numbers, an error in units, finite differences, candle's graph, the same bits.

mod candle;
mod floats;
mod gradient;
mod same_bits;

pub(in crate::cpu) use candle::graph;
pub(in crate::cpu) use floats::{all_floats, close, plain_normal, random, ulps, worst};
pub(in crate::cpu) use gradient::{Case, check_gradients};
pub(in crate::cpu) use same_bits::same_bits_everywhere;

/// Widths of rows that the tests of row operations go through: one, odd, below, at and above whole lanes.
pub(in crate::cpu) const WIDTHS: [usize; 6] = [1, 7, 13, 32, 96, 257];
