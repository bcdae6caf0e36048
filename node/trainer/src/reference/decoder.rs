//! The Qwen3 decoder.

use candle_core::{Device, Result, Tensor};

use super::{Batch, Look, Model, attention, look, ops};
use crate::elementary::{exp, ln, sin_cos};

/// How a layer's queries meet keys: `(layer, q [n, heads, d], k, v [n, groups, d])` to `[n, heads * d]`.
pub(crate) type Attend<'a> = &'a mut dyn FnMut(usize, &Tensor, &Tensor, &Tensor) -> Result<Tensor>;

impl Model {
    /// Rows that enter the decoder: embeddings of the tokens, merger rows in place of image tokens.
    pub(crate) fn embed(&self, batch: &Batch, probe: &mut Look<'_>) -> Result<Tensor> {
        let rows = match (batch.embedded.is_empty(), batch.pictures) {
            (_, 0) => self.embedding_rows(&batch.embedded)?,
            (true, _) => self.see(batch, probe)?,
            (false, _) => Tensor::cat(&[self.embedding_rows(&batch.embedded)?, self.see(batch, probe)?], 0)?,
        };
        let order = Tensor::from_slice(&batch.spliced, batch.spliced.len(), &Device::Cpu)?;
        let rows = rows.index_select(&order, 0)?;
        look(probe, || "text.inputs_embeds".to_owned(), &rows);
        Ok(rows)
    }

    /// The embedding's rows of these tokens, `[tokens, H]`.
    pub(crate) fn embedding_rows(&self, tokens: &[u32]) -> Result<Tensor> {
        let ids = Tensor::from_slice(tokens, tokens.len(), &Device::Cpu)?;
        self.weight("model.embed_tokens.weight").index_select(&ids, 0)
    }

    /// All layers over a batch, every sample seeing its own past only.
    pub(super) fn decode(&self, rows: &Tensor, batch: &Batch, probe: &mut Look<'_>) -> Result<Tensor> {
        let (cos, sin) = self.text_turns(&batch.positions)?;
        let mut attend = |_: usize, q: &Tensor, k: &Tensor, v: &Tensor| {
            attention::over_runs(q, k, v, &batch.text_runs, true)
        };
        let mut x = rows.clone();
        for i in 0..self.config.text.num_hidden_layers {
            x = self.layer(i, &x, &cos, &sin, &mut attend)?;
            look(probe, || format!("text.layer.{i}"), &x);
        }
        Ok(x)
    }

    /// One layer; `attend` decides what the queries see.
    pub(crate) fn layer(
        &self,
        i: usize,
        x: &Tensor,
        cos: &Tensor,
        sin: &Tensor,
        attend: Attend<'_>,
    ) -> Result<Tensor> {
        let t = &self.config.text;
        let weight = |part: &str| self.weight(&format!("model.layers.{i}.{part}.weight"));
        let heads = |x: &Tensor, name: &str, count: usize| {
            ops::linear(x, weight(name), None)?.reshape((x.dim(0)?, count, t.head_dim))
        };
        let normal = ops::rms_norm(x, weight("input_layernorm"), t.rms_norm_eps)?;
        let q = heads(&normal, "self_attn.q_proj", t.num_attention_heads)?;
        let k = heads(&normal, "self_attn.k_proj", t.num_key_value_heads)?;
        let v = heads(&normal, "self_attn.v_proj", t.num_key_value_heads)?;
        let q = ops::rotate(&ops::rms_norm(&q, weight("self_attn.q_norm"), t.rms_norm_eps)?, cos, sin)?;
        let k = ops::rotate(&ops::rms_norm(&k, weight("self_attn.k_norm"), t.rms_norm_eps)?, cos, sin)?;
        let mixed = attend(i, &q, &k, &v)?;
        let x = (x + ops::linear(&mixed, weight("self_attn.o_proj"), None)?)?;
        let normal = ops::rms_norm(&x, weight("post_attention_layernorm"), t.rms_norm_eps)?;
        let gate = ops::linear(&normal, weight("mlp.gate_proj"), None)?;
        let up = ops::linear(&normal, weight("mlp.up_proj"), None)?;
        x + ops::linear(&ops::swiglu(&gate, &up)?, weight("mlp.down_proj"), None)?
    }

    /// Final norm and head: the normed rows, and their logits.
    pub(crate) fn head(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let t = &self.config.text;
        let normal = ops::rms_norm(x, self.weight("model.norm.weight"), t.rms_norm_eps)?;
        let head = if t.tie_word_embeddings { "model.embed_tokens.weight" } else { "lm_head.weight" };
        let logits = ops::linear(&normal, self.weight(head), None)?;
        Ok((normal, logits))
    }

    /// Cosines and sines of rows at these positions, `[rows, head / 2]`: frequency and angle in f32 as upstream has
    /// them, the functions in f64 and then rounded.
    pub(crate) fn text_turns(&self, positions: &[u32]) -> Result<(Tensor, Tensor)> {
        let t = &self.config.text;
        let half = t.head_dim / 2;
        let log = ln(t.rope_theta);
        let frequencies: Vec<f32> =
            (0..half).map(|j| exp(-(2.0 * j as f64 / t.head_dim as f64) * log) as f32).collect();
        let longest = positions.iter().max().map_or(0, |&last| last as usize + 1);
        // one row per position, then copies: samples repeat the same positions over and over
        let angles = (0..longest).flat_map(|p| frequencies.iter().map(move |f| f64::from(p as f32 * f)));
        let (sin, cos): (Vec<f32>, Vec<f32>) =
            angles.map(sin_cos).map(|(sin, cos)| (sin as f32, cos as f32)).unzip();
        let spread = |table: &[f32]| {
            let rows = positions.iter().flat_map(|&p| &table[p as usize * half..(p as usize + 1) * half]);
            Tensor::from_vec(rows.copied().collect::<Vec<_>>(), (positions.len(), half), &Device::Cpu)
        };
        Ok((spread(&cos)?, spread(&sin)?))
    }
}
