//! The gate of the decoder's MLP.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use super::lanes::{exp, read, slice, tensor_like};

/// `silu(gate) * up`, elementwise.
pub(super) struct SwiGlu;

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

impl CustomOp2 for SwiGlu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (gate, up) = (slice(s1, l1)?, slice(s2, l2)?);
        let y = gate.iter().zip(up).map(|(&gate, up)| gate * sigmoid(gate) * up).collect();
        Ok((CpuStorage::F32(y), l1.shape().clone()))
    }

    fn bwd(
        &self,
        gate: &Tensor,
        up: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let both = |gates: &[f32], ups: &[f32], gradients: &[f32]| {
            let triples = gates.iter().zip(ups).zip(gradients);
            let one = |((&gate, &up), &g): ((&f32, &f32), &f32)| {
                let s = sigmoid(gate);
                (g * up * s * (1.0 + gate * (1.0 - s)), g * gate * s)
            };
            triples.map(one).unzip()
        };
        let (d_gate, d_up) = read(gate, |a| read(up, |b| read(gradient, |g| both(a, b, g))))???;
        Ok((Some(tensor_like(d_gate, gate)?), Some(tensor_like(d_up, up)?)))
    }
}
