//! The operations of the model, from candle-core's own differentiable ones: slow, and plainly right.
//!
//! candle-nn's fused `rms_norm`, `layer_norm`, `softmax_last_dim` and `rope` cut the graph without a word, so none of
//! them is used. The processor's own operations are held to these in its tests.

use candle_core::{D, Result, Tensor};

/// `x [n, in]` times the transpose of `weight [out, in]`, plus `bias [out]`.
pub(crate) fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let y = x.matmul(&weight.t()?)?;
    match bias {
        Some(bias) => y.broadcast_add(bias),
        None => Ok(y),
    }
}

/// LayerNorm over the last axis.
pub(crate) fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    let normal = centred.broadcast_div(&(variance + eps)?.sqrt()?)?;
    normal.broadcast_mul(weight)?.broadcast_add(bias)
}

/// RMSNorm over the last axis.
pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let square = x.sqr()?.mean_keepdim(D::Minus1)?;
    x.broadcast_div(&(square + eps)?.sqrt()?)?.broadcast_mul(weight)
}

/// Turns every head of `x [n, heads, d]` by its row's angles, given as `cos` and `sin [n, d / 2]`.
///
/// Half-split form: the pair of element `i` is `i + d / 2`.
pub(crate) fn rotate(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let half = x.dim(D::Minus1)? / 2;
    let (cos, sin) = (cos.unsqueeze(1)?, sin.unsqueeze(1)?);
    let (a, b) = (x.narrow(D::Minus1, 0, half)?, x.narrow(D::Minus1, half, half)?);
    let first = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
    let second = (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?;
    Tensor::cat(&[first, second], D::Minus1)
}

/// Softmax over the last axis of `scores [.., n, m]` times `scale`.
///
/// With `causal`, row `i` (counted modulo `queries`) sees only the first `i + 1 + m - queries` columns.
pub(crate) fn softmax(scores: &Tensor, scale: f64, causal: Option<usize>) -> Result<Tensor> {
    let mut scores = (scores * scale)?;
    if let Some(queries) = causal {
        let (rows, columns) = (scores.dim(D::Minus2)?, scores.dim(D::Minus1)?);
        let seen = |row: usize| row % queries + 1 + columns - queries;
        let mask: Vec<f32> = (0..rows)
            .flat_map(|row| {
                (0..columns).map(move |column| if column < seen(row) { 0.0 } else { f32::NEG_INFINITY })
            })
            .collect();
        scores = scores.broadcast_add(&Tensor::from_vec(mask, (rows, columns), scores.device())?)?;
    }
    let largest = scores.max_keepdim(D::Minus1)?.detach();
    let exponentials = scores.broadcast_sub(&largest)?.exp()?;
    exponentials.broadcast_div(&exponentials.sum_keepdim(D::Minus1)?)
}

/// `silu(gate) * up`, elementwise.
pub(crate) fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gate.silu()? * up
}

/// The exact GELU, `x * Phi(x)`.
pub(crate) fn gelu(x: &Tensor) -> Result<Tensor> {
    x.gelu_erf()
}

/// Negative log-likelihood of `targets [n]` under `logits [n, vocabulary]`, in nats per row.
pub(crate) fn nll(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let largest = logits.max_keepdim(D::Minus1)?.detach();
    let shifted = logits.broadcast_sub(&largest)?;
    let normaliser = shifted.exp()?.sum(D::Minus1)?.log()?;
    let picked = shifted.gather(&targets.unsqueeze(1)?, D::Minus1)?.squeeze(1)?;
    normaliser - picked
}
