//! RMSNorm and LayerNorm over the last axis.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};

use super::lanes::{read, slice, sum, tensor_like};

/// `x / rms(x) * weight`.
pub(super) struct RmsNorm {
    pub(super) eps: f32,
}

impl RmsNorm {
    #[inline(always)]
    fn inverse(&self, x: &[f32]) -> f32 {
        1.0 / (sum(x.len(), |i| x[i] * x[i]) / x.len() as f32 + self.eps).sqrt()
    }

    /// Gradients of input and weight.
    fn back(&self, x: &[f32], weight: &[f32], gradient: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let width = weight.len();
        let mut d_x = vec![0.0; x.len()];
        let mut d_weight = vec![0.0f32; width];
        let rows = x.chunks_exact(width).zip(gradient.chunks_exact(width));
        for ((x, g), d_x) in rows.zip(d_x.chunks_exact_mut(width)) {
            let inverse = self.inverse(x);
            let mean = sum(width, |i| g[i] * weight[i] * x[i]) / width as f32;
            let pull = inverse * inverse * inverse * mean;
            for i in 0..width {
                d_x[i] = inverse * g[i] * weight[i] - pull * x[i];
                d_weight[i] += g[i] * x[i] * inverse;
            }
        }
        (d_x, d_weight)
    }
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight) = (slice(s1, l1)?, slice(s2, l2)?);
        let mut y = vec![0.0; x.len()];
        for (x, y) in x.chunks_exact(weight.len()).zip(y.chunks_exact_mut(weight.len())) {
            let inverse = self.inverse(x);
            for ((y, x), weight) in y.iter_mut().zip(x).zip(weight) {
                *y = x * inverse * weight;
            }
        }
        Ok((CpuStorage::F32(y), l1.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (d_x, d_weight) =
            read(x, |x| read(weight, |weight| read(gradient, |g| self.back(x, weight, g))))???;
        let d_weight = weight.is_variable().then(|| tensor_like(d_weight, weight)).transpose()?;
        Ok((Some(tensor_like(d_x, x)?), d_weight))
    }
}

/// `(x - mean) / deviation * weight + bias`.
pub(super) struct LayerNorm {
    pub(super) eps: f32,
}

impl LayerNorm {
    /// Mean and inverse deviation.
    #[inline(always)]
    fn moments(&self, x: &[f32]) -> (f32, f32) {
        let width = x.len() as f32;
        let mean = sum(x.len(), |i| x[i]) / width;
        let variance = sum(x.len(), |i| (x[i] - mean) * (x[i] - mean)) / width;
        (mean, 1.0 / (variance + self.eps).sqrt())
    }

    /// Gradients of input, weight and bias.
    fn back(&self, x: &[f32], weight: &[f32], gradient: &[f32]) -> [Vec<f32>; 3] {
        let width = weight.len();
        let mut d_x = vec![0.0; x.len()];
        let (mut d_weight, mut d_bias) = (vec![0.0f32; width], vec![0.0f32; width]);
        let rows = x.chunks_exact(width).zip(gradient.chunks_exact(width));
        for ((x, g), d_x) in rows.zip(d_x.chunks_exact_mut(width)) {
            let (mean, inverse) = self.moments(x);
            let pull = sum(width, |i| g[i] * weight[i]) / width as f32;
            let twist = sum(width, |i| g[i] * weight[i] * (x[i] - mean) * inverse) / width as f32;
            for i in 0..width {
                let normal = (x[i] - mean) * inverse;
                d_x[i] = inverse * (g[i] * weight[i] - pull - normal * twist);
                d_weight[i] += g[i] * normal;
                d_bias[i] += g[i];
            }
        }
        [d_x, d_weight, d_bias]
    }
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight, bias) = (slice(s1, l1)?, slice(s2, l2)?, slice(s3, l3)?);
        let mut y = vec![0.0; x.len()];
        for (x, y) in x.chunks_exact(weight.len()).zip(y.chunks_exact_mut(weight.len())) {
            let (mean, inverse) = self.moments(x);
            for (((y, x), weight), bias) in y.iter_mut().zip(x).zip(weight).zip(bias) {
                *y = (x - mean) * inverse * weight + bias;
            }
        }
        Ok((CpuStorage::F32(y), l1.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [d_x, d_weight, d_bias] =
            read(x, |x| read(weight, |weight| read(gradient, |g| self.back(x, weight, g))))???;
        let d_weight = weight.is_variable().then(|| tensor_like(d_weight, weight)).transpose()?;
        let d_bias = bias.is_variable().then(|| tensor_like(d_bias, bias)).transpose()?;
        Ok((Some(tensor_like(d_x, x)?), d_weight, d_bias))
    }
}
