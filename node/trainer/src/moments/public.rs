//! The moments that a round begins with, from what the round before it published.

use rayon::prelude::*;

use super::{Factors, MatrixShape, Moments, ParameterFactors, factors::value_of};
use crate::contribution::Layout;

/// The largest share of its learning rate that a parameter is taken to have moved by in a step of the last round.
///
/// AdamW moves a parameter by about its learning rate at most; error feedback that comes at last makes an aggregate's
/// entry look like more.
pub const LAST_RATE_LIMIT: f32 = 1.0;

/// The largest second moment, 2^60.
const MOST: f32 = f32::from_bits((127 + 60) << 23);

/// What public moments are made of.
#[derive(Debug)]
pub struct Published<'a> {
    /// The aggregate of the last round, without a learning rate, tensor by tensor in the layout's order.
    pub aggregate: &'a [Vec<f32>],
    /// The middle ones of the last round's factors, in the same order.
    pub factors: &'a Factors,
    /// The tensors as matrices, in the same order.
    pub shapes: &'a [MatrixShape],
    /// Sum of the learning rates of the steps that made the aggregate, weighted as the contributions are.
    pub rates: f32,
    /// AdamW's epsilon.
    pub epsilon: f32,
}

/// The moments that everybody starts from alike. With `r` and `c` the means of rows and columns, `R` the mean of the `r`,
/// `g` the aggregate and `S` the sum of learning rates:
///
/// ```text
/// v_ij = min(r_i x min(c_j / R, 2^60), 2^60)                     0 where R is 0
/// m_ij = min(max(g_ij / S, -1), 1) x (sqrt(v_ij) + epsilon)      0 where S is 0
/// ```
///
/// Every operation is one of f32, rounded to nearest, but for `R`: a sum in f64, row after row, divided by the number of rows,
/// then rounded.
///
/// # Panics
///
/// When aggregate, factors or shapes are not those of the layout.
pub fn public(layout: &Layout, published: &Published<'_>) -> Moments {
    let tensors = layout
        .tensors()
        .par_iter()
        .enumerate()
        .map(|(at, (name, _))| {
            let second = second(&published.factors.0[at], published.shapes[at]);
            let first = first(&published.aggregate[at], &second, published);
            (name.clone(), (first, second))
        })
        .collect();
    Moments { steps: Moments::SETTLED, tensors }
}

fn second(factors: &ParameterFactors, shape: MatrixShape) -> Vec<f32> {
    let rows: Vec<f32> = factors.rows.iter().copied().map(value_of).collect();
    let mean = (rows.iter().map(|&row| f64::from(row)).sum::<f64>() / shape.rows as f64) as f32;
    if mean == 0.0 {
        return vec![0.0; shape.rows * shape.columns];
    }
    // The bounds are far from anything that training makes; they keep lies from becoming infinities.
    let columns: Vec<f32> = factors.columns.iter().map(|&code| (value_of(code) / mean).min(MOST)).collect();
    rows.iter().flat_map(|row| columns.iter().map(move |column| (row * column).min(MOST))).collect()
}

fn first(aggregate: &[f32], second: &[f32], published: &Published<'_>) -> Vec<f32> {
    assert_eq!(aggregate.len(), second.len(), "an aggregate of another shape");
    if published.rates == 0.0 {
        return vec![0.0; aggregate.len()];
    }
    let one = |(&moved, &second): (&f32, &f32)| {
        let share = (moved / published.rates).clamp(-LAST_RATE_LIMIT, LAST_RATE_LIMIT);
        share * (second.sqrt() + published.epsilon)
    };
    aggregate.iter().zip(second).map(one).collect()
}
