//! The RICE vision tower and the merger.

use candle_core::{D, Device, Result, Tensor};

use super::{Batch, ClassStrip, Look, Model, attention, look, ops};
use crate::elementary::{exp, ln};

/// Base of the rotary frequencies of the tower.
const THETA: f64 = 10_000.0;
/// Epsilon of the two norms inside a block, whatever the config says about the others.
const BLOCK_EPS: f64 = 1e-5;

impl Model {
    /// Pictures to rows of the language model: `[patches / 4, H]`, in order of the pictures in the sequence.
    pub(super) fn see(&self, batch: &Batch, probe: &mut Look<'_>) -> Result<Tensor> {
        let v = &self.config.vision;
        let (width, eps) = (v.hidden_size, v.layer_norm_eps);
        let kernel = self.weight("visual.patch_embed.proj.weight").reshape((width, v.patch_values()))?;
        let patches = ops::linear(&batch.patches, &kernel, None)?;
        look(probe, || "vision.patch_embed".to_owned(), &patches);

        let x = self.with_class_rows(&patches, batch)?;
        let mut x = self.layer_norm(&x, "visual.pre_layernorm", eps)?;
        look(probe, || "vision.pre_layernorm".to_owned(), &x);
        let (cos, sin) = self.turns(batch, probe)?;
        for i in 0..v.depth {
            x = self.vision_block(i, &x, &cos, &sin, batch)?;
            look(probe, || format!("vision.block.{i}"), &x);
        }
        let kept = batch.kept_vision_rows(self.strip == ClassStrip::AsReleased);
        let kept = Tensor::from_slice(&kept, kept.len(), &Device::Cpu)?;
        let x = x.index_select(&kept, 0)?;
        look(probe, || "vision.stripped".to_owned(), &x);
        let x = self.merge(&x)?;
        look(probe, || "vision.merger".to_owned(), &x);
        Ok(x)
    }

    /// Puts a class row in front of every picture's patches.
    fn with_class_rows(&self, patches: &Tensor, batch: &Batch) -> Result<Tensor> {
        let class = self.weight("visual.class_embedding").unsqueeze(0)?;
        let mut patch = 0;
        let place = |cell: &Option<(u32, u32)>| match cell {
            None => 0,
            Some(_) => {
                patch += 1;
                patch
            }
        };
        let order: Vec<u32> = batch.cells.iter().map(place).collect();
        let order = Tensor::from_slice(&order, order.len(), &Device::Cpu)?;
        Tensor::cat(&[&class, patches], 0)?.index_select(&order, 0)
    }

    /// Cosines and sines of every row's angles, `[rows, head / 2]`: rows of the grid first, then columns.
    ///
    /// A class row has learned angles, so gradients flow through here.
    fn turns(&self, batch: &Batch, probe: &mut Look<'_>) -> Result<(Tensor, Tensor)> {
        let half = self.config.vision.head_dim() / 2;
        let frequency = |j: usize| exp(-(2.0 * j as f64 / half as f64) * ln(THETA)) as f32;
        let frequencies: Vec<f32> = (0..half / 2).map(frequency).collect();
        let side = batch.cells.iter().flatten().map(|&(y, x)| y.max(x) + 1).max().unwrap_or(1);
        let mut cells = Vec::with_capacity((side * side) as usize * half);
        for cell in 0..side * side {
            let (y, x) = ((cell / side) as f32, (cell % side) as f32);
            cells.extend(frequencies.iter().map(|f| y * f));
            cells.extend(frequencies.iter().map(|f| x * f));
        }
        let cells = Tensor::from_vec(cells, ((side * side) as usize, half), &Device::Cpu)?;
        let angles = Tensor::cat(&[self.weight("visual.class_pos_emb"), &cells], 0)?;
        let row = |cell: &Option<(u32, u32)>| cell.map_or(0, |(y, x)| 1 + y * side + x);
        let order: Vec<u32> = batch.cells.iter().map(row).collect();
        let order = Tensor::from_slice(&order, order.len(), &Device::Cpu)?;
        if probe.is_some() {
            look(probe, || "vision.rotary_angles".to_owned(), &angles.index_select(&order, 0)?);
        }
        Ok((angles.cos()?.index_select(&order, 0)?, angles.sin()?.index_select(&order, 0)?))
    }

    fn vision_block(
        &self,
        i: usize,
        x: &Tensor,
        cos: &Tensor,
        sin: &Tensor,
        batch: &Batch,
    ) -> Result<Tensor> {
        let name = |part: &str| format!("visual.blocks.{i}.{part}");
        let v = &self.config.vision;
        let rows = x.dim(0)?;
        let normal = self.layer_norm(x, &name("norm1"), BLOCK_EPS)?;
        let qkv = self.biased(&normal, &name("attn.qkv"))?;
        let part = |at: usize| {
            let part = qkv.narrow(D::Minus1, at * v.hidden_size, v.hidden_size)?.contiguous()?;
            part.reshape((rows, v.num_heads, v.head_dim()))
        };
        let (q, k) = (ops::rotate(&part(0)?, cos, sin)?, ops::rotate(&part(1)?, cos, sin)?);
        let mixed = attention::over_runs(&q, &k, &part(2)?, &batch.vision_runs, false)?;
        let x = (x + self.biased(&mixed, &name("attn.proj"))?)?;
        let normal = self.layer_norm(&x, &name("norm2"), BLOCK_EPS)?;
        let inner = ops::gelu(&self.biased(&normal, &name("mlp.fc1"))?)?;
        x + self.biased(&inner, &name("mlp.fc2"))?
    }

    /// Norm, four patches side by side, two linear maps.
    fn merge(&self, x: &Tensor) -> Result<Tensor> {
        let v = &self.config.vision;
        let normal = self.layer_norm(x, "visual.merger.ln_q", v.layer_norm_eps)?;
        let joined =
            normal.reshape((x.dim(0)? / v.patches_per_token(), v.patches_per_token() * v.hidden_size))?;
        let inner = ops::gelu(&self.biased(&joined, "visual.merger.mlp.0")?)?;
        self.biased(&inner, "visual.merger.mlp.2")
    }

    fn layer_norm(&self, x: &Tensor, name: &str, eps: f64) -> Result<Tensor> {
        ops::layer_norm(x, self.weight(&format!("{name}.weight")), self.weight(&format!("{name}.bias")), eps)
    }

    fn biased(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        ops::linear(x, self.weight(&format!("{name}.weight")), Some(self.weight(&format!("{name}.bias"))))
    }
}
