//! Attention over runs of equally long sequences.

use candle_core::{D, Result, Tensor};

use super::{layout::Run, ops};

/// Attention inside every sequence of every run: rows in, rows out.
///
/// `q [rows, heads, d]`, `k` and `v [rows, groups, d]`; the result is `[rows, heads * d]`. Query head `h` reads key head
/// `h / (heads / groups)`.
pub(crate) fn over_runs(q: &Tensor, k: &Tensor, v: &Tensor, runs: &[Run], causal: bool) -> Result<Tensor> {
    let part = |x: &Tensor, run: &Run| {
        let (_, heads, width) = x.dims3()?;
        let x = if runs.len() == 1 { x.clone() } else { x.narrow(0, run.start, run.rows())? };
        x.reshape((run.count, run.length, heads, width))
    };
    let mut parts = Vec::with_capacity(runs.len());
    for run in runs {
        parts.push(attend(&part(q, run)?, &part(k, run)?, &part(v, run)?, causal)?);
    }
    if parts.len() == 1 { Ok(parts.remove(0)) } else { Tensor::cat(&parts, 0) }
}

/// `q [b, n, heads, d]` against `k`, `v [b, m, groups, d]`, to `[b * n, heads * d]`; the last query sees every key.
pub(crate) fn attend(q: &Tensor, k: &Tensor, v: &Tensor, causal: bool) -> Result<Tensor> {
    let (count, queries, heads, width) = q.dims4()?;
    let groups = k.dim(2)?;
    // the heads that share a key stand one below the other, so keys are never repeated
    let q = q.transpose(1, 2)?.contiguous()?.reshape((count, groups, heads / groups * queries, width))?;
    let k = k.transpose(1, 2)?.contiguous()?;
    let v = v.transpose(1, 2)?.contiguous()?;
    let scores = q.matmul(&k.transpose(D::Minus1, D::Minus2)?)?;
    let scale = 1.0 / (width as f64).sqrt();
    let mixed = ops::softmax(&scores, scale, causal.then_some(queries))?.matmul(&v)?;
    let mixed = mixed.reshape((count, heads, queries, width))?.transpose(1, 2)?;
    mixed.contiguous()?.reshape((count * queries, heads * width))
}
