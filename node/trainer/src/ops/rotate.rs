//! Rotary positions, half-split.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};

use super::lanes::{read, slice, tensor_like};

/// Turns every head of `x [n, heads, d]` by its row's `cos` and `sin [n, d / 2]`.
pub(super) struct Rotate {
    pub(super) heads: usize,
    /// Whether gradients for `cos` and `sin` are wanted.
    pub(super) learned_angles: bool,
}

/// Turns one head forwards.
#[inline(always)]
fn turn(x: &[f32], cos: &[f32], sin: &[f32], y: &mut [f32]) {
    let half = cos.len();
    let ((a, b), (first, second)) = (x.split_at(half), y.split_at_mut(half));
    for i in 0..half {
        first[i] = a[i] * cos[i] - b[i] * sin[i];
        second[i] = b[i] * cos[i] + a[i] * sin[i];
    }
}

impl Rotate {
    fn back(&self, x: &[f32], cos: &[f32], sin: &[f32], gradient: &[f32], half: usize) -> [Vec<f32>; 3] {
        let (width, row) = (2 * half, 2 * half * self.heads);
        let mut d_x = vec![0.0f32; x.len()];
        let angles = if self.learned_angles { cos.len() } else { 0 };
        let (mut d_cos, mut d_sin) = (vec![0.0f32; angles], vec![0.0f32; angles]);
        let back_sin: Vec<f32> = sin.iter().map(|s| -s).collect();
        for n in 0..x.len() / row {
            let at = n * half..(n + 1) * half;
            for head in 0..self.heads {
                let start = n * row + head * width;
                let (x, g) = (&x[start..start + width], &gradient[start..start + width]);
                turn(g, &cos[at.clone()], &back_sin[at.clone()], &mut d_x[start..start + width]);
                if self.learned_angles {
                    let ((a, b), (ga, gb)) = (x.split_at(half), g.split_at(half));
                    for i in 0..half {
                        d_cos[n * half + i] += ga[i] * a[i] + gb[i] * b[i];
                        d_sin[n * half + i] += gb[i] * a[i] - ga[i] * b[i];
                    }
                }
            }
        }
        [d_x, d_cos, d_sin]
    }
}

impl CustomOp3 for Rotate {
    fn name(&self) -> &'static str {
        "rotate"
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
        let (x, cos, sin) = (slice(s1, l1)?, slice(s2, l2)?, slice(s3, l3)?);
        let half = l2.dims()[1];
        let mut y = vec![0.0f32; x.len()];
        let heads = x.chunks_exact(2 * half).zip(y.chunks_exact_mut(2 * half));
        for (head, (x, y)) in heads.enumerate() {
            let at = head / self.heads * half;
            turn(x, &cos[at..at + half], &sin[at..at + half], y);
        }
        Ok((CpuStorage::F32(y), l1.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        cos: &Tensor,
        sin: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let half = cos.dim(1)?;
        let [d_x, d_cos, d_sin] = read(x, |x| {
            read(cos, |cos| read(sin, |sin| read(gradient, |g| self.back(x, cos, sin, g, half))))
        })????;
        let angles = |values, like| self.learned_angles.then(|| tensor_like(values, like)).transpose();
        Ok((Some(tensor_like(d_x, x)?), angles(d_cos, cos)?, angles(d_sin, sin)?))
    }
}
