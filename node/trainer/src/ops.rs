//! The operations that the model is made of, each with a gradient.
//!
//! candle-nn's fused `rms_norm`, `layer_norm`, `softmax_last_dim` and `rope` cut the graph without a word, so none of
//! them is used: everything here is either candle-core's own differentiable operation or has its own backward, held to
//! the plain form in tests. Sums have a fixed shape and the exponential is our own, so apart from matrix products the
//! bits depend neither on threads nor on the system's mathematics library.

use candle_core::{D, Result, Tensor};

mod gelu;
mod lanes;
mod linear;
mod norms;
#[cfg(test)]
pub(crate) mod plain;
mod rotate;
mod softmax;
mod swiglu;

/// `x [n, in]` times the transpose of `weight [out, in]`, plus `bias [out]`.
pub(crate) fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let input_wanted = x.track_op();
    let y = x.contiguous()?.apply_op2(weight, linear::Linear { input_wanted })?;
    match bias {
        Some(bias) => y.broadcast_add(bias),
        None => Ok(y),
    }
}

/// LayerNorm over the last axis.
pub(crate) fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    x.contiguous()?.apply_op3(weight, bias, norms::LayerNorm { eps: eps as f32 })
}

/// RMSNorm over the last axis.
pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    x.contiguous()?.apply_op2(weight, norms::RmsNorm { eps: eps as f32 })
}

/// Turns every head of `x [n, heads, d]` by its row's angles, given as `cos` and `sin [n, d / 2]`.
///
/// Half-split form: the pair of element `i` is `i + d / 2`.
pub(crate) fn rotate(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let (_, heads, _) = x.dims3()?;
    x.contiguous()?.apply_op3(cos, sin, rotate::Rotate { heads, learned_angles: cos.track_op() })
}

/// Softmax over the last axis of `scores [.., n, m]` times `scale`.
///
/// With `causal`, row `i` (counted modulo `queries`) sees only the first `i + 1 + m - queries` columns.
pub(crate) fn softmax(scores: &Tensor, scale: f64, causal: Option<usize>) -> Result<Tensor> {
    scores.contiguous()?.apply_op1(softmax::Softmax { scale: scale as f32, causal })
}

/// `silu(gate) * up`, elementwise.
pub(crate) fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gate.contiguous()?.apply_op2(&up.contiguous()?, swiglu::SwiGlu)
}

/// The exact GELU, `x * Phi(x)`.
pub(crate) fn gelu(x: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op1(gelu::Gelu)
}

/// Negative log-likelihood of `targets [n]` under `logits [n, vocabulary]`, in nats per row.
pub(crate) fn nll(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let largest = logits.max_keepdim(D::Minus1)?.detach();
    let shifted = logits.broadcast_sub(&largest)?;
    let normaliser = shifted.exp()?.sum(D::Minus1)?.log()?;
    let picked = shifted.gather(&targets.unsqueeze(1)?, D::Minus1)?.squeeze(1)?;
    normaliser - picked
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    fn random(shape: &[usize], seed: u64) -> Var {
        let count = shape.iter().product();
        let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            (x >> 40) as f32 / (1u64 << 22) as f32 - 2.0
        };
        let values: Vec<f32> = (0..count).map(|_| next()).collect();
        Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu).unwrap()).unwrap()
    }

    type Operation<'a> = &'a dyn Fn(&[Tensor]) -> Result<Tensor>;

    /// Both forms on random arguments: values, and gradients of a weighted sum for every argument.
    fn same(what: &str, shapes: &[&[usize]], ours: Operation<'_>, plain: Operation<'_>) {
        let arguments: Vec<Var> = shapes.iter().enumerate().map(|(i, s)| random(s, i as u64 + 1)).collect();
        let tensors: Vec<Tensor> = arguments.iter().map(|var| var.as_tensor().clone()).collect();
        let run = |operation: Operation<'_>| {
            let y = operation(&tensors).unwrap();
            let weights = random(y.dims(), 99);
            let gradients = (&y * weights.as_tensor()).unwrap().sum_all().unwrap().backward().unwrap();
            let mut all = vec![y.flatten_all().unwrap().to_vec1::<f32>().unwrap()];
            for tensor in &tensors {
                let gradient =
                    gradients.get(tensor).unwrap_or_else(|| panic!("{what}: an argument has no gradient"));
                all.push(gradient.flatten_all().unwrap().to_vec1().unwrap());
            }
            all
        };
        for (i, (a, b)) in run(ours).iter().zip(run(plain)).enumerate() {
            let largest = b.iter().fold(1.0f32, |most, x| most.max(x.abs()));
            for (j, (a, b)) in a.iter().zip(b).enumerate() {
                assert!((a - b).abs() <= 1e-5 * largest, "{what}: output {i} at {j}: {a} instead of {b}");
            }
        }
    }

    #[test]
    fn every_operation_agrees_with_its_plain_form_and_has_every_gradient() {
        same("linear", &[&[7, 5], &[3, 5]], &|a| linear(&a[0], &a[1], None), &|a| {
            plain::linear(&a[0], &a[1], None)
        });
        same("biased", &[&[7, 5], &[3, 5], &[3]], &|a| linear(&a[0], &a[1], Some(&a[2])), &|a| {
            plain::linear(&a[0], &a[1], Some(&a[2]))
        });
        same("layer norm", &[&[6, 13], &[13], &[13]], &|a| layer_norm(&a[0], &a[1], &a[2], 1e-3), &|a| {
            plain::layer_norm(&a[0], &a[1], &a[2], 1e-3)
        });
        same("rms norm", &[&[6, 2, 19], &[19]], &|a| rms_norm(&a[0], &a[1], 1e-3), &|a| {
            plain::rms_norm(&a[0], &a[1], 1e-3)
        });
        same("rotate", &[&[5, 3, 8], &[5, 4], &[5, 4]], &|a| rotate(&a[0], &a[1], &a[2]), &|a| {
            plain::rotate(&a[0], &a[1], &a[2])
        });
        same("softmax", &[&[2, 3, 4, 9]], &|a| softmax(&a[0], 0.7, None), &|a| {
            plain::softmax(&a[0], 0.7, None)
        });
        for (queries, columns) in [(4, 4), (1, 6), (2, 5)] {
            same("causal softmax", &[&[2, 3, 4, columns]], &|a| softmax(&a[0], 0.7, Some(queries)), &|a| {
                plain::softmax(&a[0], 0.7, Some(queries))
            });
        }
        same("swiglu", &[&[6, 7], &[6, 7]], &|a| swiglu(&a[0], &a[1]), &|a| plain::swiglu(&a[0], &a[1]));
        same("gelu", &[&[60, 70]], &|a| gelu(&a[0]), &|a| plain::gelu(&a[0]));
    }
}
