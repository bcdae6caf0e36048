//! The exact GELU.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::lanes::{exp, read, slice, tensor_like};

/// `x * Phi(x)`, elementwise, with Phi the normal distribution function.
pub(super) struct Gelu;

/// Phi, from the complementary error function's expansion in `t = 1 / (1 + z / 2)` (Press et al., Numerical Recipes in C,
/// second edition, 6.2): relative error below 1.2e-7 before rounding.
#[inline(always)]
fn normal_distribution(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.5 * z);
    let p = 0.170_872_77;
    let p = p * t - 0.822_152_23;
    let p = p * t + 1.488_515_9;
    let p = p * t - 1.135_204;
    let p = p * t + 0.278_868_07;
    let p = p * t - 0.186_288_06;
    let p = p * t + 0.096_784_18;
    let p = p * t + 0.374_091_96;
    let p = p * t + 1.000_023_7;
    let p = p * t - 1.265_512_2;
    let tail = 0.5 * t * exp(p - z * z);
    if x < 0.0 { tail } else { 1.0 - tail }
}

#[inline(always)]
fn derivative(x: f32) -> f32 {
    const ROOT: f32 = 0.398_942_3; // 1 / sqrt(2 pi)
    normal_distribution(x) + x * ROOT * exp(-0.5 * x * x)
}

impl CustomOp1 for Gelu {
    fn name(&self) -> &'static str {
        "gelu"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = slice(storage, layout)?;
        let y = x.iter().map(|&x| x * normal_distribution(x)).collect();
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let values = read(x, |x| {
            read(gradient, |g| x.iter().zip(g).map(|(&x, g)| g * derivative(x)).collect::<Vec<f32>>())
        })??;
        tensor_like(values, x).map(Some)
    }
}
