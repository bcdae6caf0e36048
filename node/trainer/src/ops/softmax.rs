//! Softmax over rows of scores, causal or not.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::lanes::{exp, read, slice, sum, tensor_like};

/// Softmax of `scale` times the last axis.
pub(super) struct Softmax {
    pub(super) scale: f32,
    /// Number of queries whose rows repeat, when row `i` sees only its past; see [`super::softmax`].
    pub(super) causal: Option<usize>,
}

impl Softmax {
    /// How many columns each of the rows sees.
    fn seen(&self, row: usize, columns: usize) -> usize {
        match self.causal {
            None => columns,
            Some(queries) => row % queries + 1 + columns - queries,
        }
    }
}

fn last(layout: &Layout) -> usize {
    layout.dims().last().copied().unwrap_or(1)
}

impl CustomOp1 for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (scores, columns) = (slice(storage, layout)?, last(layout));
        let mut weights = vec![0.0f32; scores.len()];
        let rows = scores.chunks_exact(columns).zip(weights.chunks_exact_mut(columns));
        // the queries of a head make whole blocks of rows, so the row's number may run on over heads and samples
        for (row, (scores, weights)) in rows.enumerate() {
            let seen = self.seen(row, columns);
            let (scores, weights) = (&scores[..seen], &mut weights[..seen]);
            let largest = scores.iter().fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
            for (weight, score) in weights.iter_mut().zip(scores) {
                *weight = exp((score - largest) * self.scale);
            }
            let share = 1.0 / sum(seen, |i| weights[i]);
            weights.iter_mut().for_each(|weight| *weight *= share);
        }
        Ok((CpuStorage::F32(weights), layout.shape().clone()))
    }

    fn bwd(&self, scores: &Tensor, result: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let columns = scores.dims().last().copied().unwrap_or(1);
        let back = |weights: &[f32], gradients: &[f32]| {
            let mut values = vec![0.0f32; weights.len()];
            let rows = weights.chunks_exact(columns).zip(gradients.chunks_exact(columns));
            for ((weights, gradients), values) in rows.zip(values.chunks_exact_mut(columns)) {
                // unseen columns have weight 0 and so gradient 0
                let mean = sum(columns, |i| weights[i] * gradients[i]);
                for ((value, weight), gradient) in values.iter_mut().zip(weights).zip(gradients) {
                    *value = self.scale * weight * (gradient - mean);
                }
            }
            values
        };
        let values = read(result, |weights| read(gradient, |gradients| back(weights, gradients)))??;
        tensor_like(values, scores).map(Some)
    }
}
