//! The Qwen3 decoder, forward and backward.
//!
//! ```text
//! a = norm(x)   q, k = turn(norm(a Wq)), turn(norm(a Wk))   v = a Wv
//! m = x + attention(q, k, v) Wo
//! b = norm(m)   y = m + (silu(b Wg) * (b Wu)) Wd
//! ```

use super::{Batch, EMBEDDING, Gradients, Keep, Model, Probe, vision::Eyes};
use crate::backend::{
    Attention, Backend, BackendError, Columns, ColumnsMut, Done, HeadShape, LinearShape, Qkv, Resting,
    Segment, Store,
};

/// Queries, keys and values of a layer, before and after their norm and rotation.
#[derive(Debug)]
pub(crate) struct Projected<B: Backend> {
    q: B::Buffer,
    k: B::Buffer,
    pub(crate) v: B::Buffer,
    pub(crate) q_turned: B::Buffer,
    pub(crate) k_turned: B::Buffer,
}

/// Both halves of SwiGLU before they meet.
#[derive(Debug)]
struct Gated<B: Backend> {
    gate: B::Buffer,
    up: B::Buffer,
}

/// What backward needs of a layer.
#[derive(Debug)]
struct Layer<B: Backend> {
    /// The input.
    x: B::Buffer,
    /// The residual stream between attention and MLP.
    middle: B::Buffer,
    /// Of the attention.
    mixed: B::Buffer,
    statistics: B::Buffer,
    /// What can be computed again.
    rest: Option<(Projected<B>, Gated<B>)>,
}

impl<B: Backend> Layer<B> {
    fn buffers(&mut self) -> impl Iterator<Item = &mut B::Buffer> {
        let Self { x, middle, mixed, statistics, rest } = self;
        let rest = rest.iter_mut().flat_map(|(projected, gated)| {
            let (Projected { q, k, v, q_turned, k_turned }, Gated { gate, up }) = (projected, gated);
            [q, k, v, q_turned, k_turned, gate, up]
        });
        [x, middle, mixed, statistics].into_iter().chain(rest)
    }
}

/// What backward needs of all layers.
#[derive(Debug)]
pub(super) struct Layers<B: Backend> {
    turns: B::Buffer,
    layers: Vec<Layer<B>>,
}

impl<B: Backend> Model<'_, B> {
    /// Rows that enter the decoder: embeddings of the tokens, merger rows in place of image tokens.
    pub(super) fn splice(
        &self,
        batch: &Batch,
        merged: Option<&B::Buffer>,
        probe: &mut Probe<'_>,
    ) -> Done<B::Buffer> {
        let (backend, width) = (self.backend, self.config.text.hidden_size);
        let mut rows = backend.scratch(batch.rows() * width)?;
        backend.copy_rows(width, self.weight(EMBEDDING), &batch.words, &mut rows, &batch.word_rows)?;
        if let Some(merged) = merged {
            let all: Vec<u32> = (0..batch.image_rows.len() as u32).collect();
            backend.copy_rows(width, merged, &all, &mut rows, &batch.image_rows)?;
        }
        self.look(probe, "text.inputs_embeds", &rows)?;
        Ok(rows)
    }

    /// Gradients of embedding rows, merger and tower.
    pub(super) fn splice_backward(
        &self,
        batch: &Batch,
        d_rows: &B::Buffer,
        gradients: &mut Gradients<B>,
        eyes: Option<Eyes<B>>,
    ) -> Done {
        let (backend, width) = (self.backend, self.config.text.hidden_size);
        if let Some(d_table) = gradients.sum(backend, EMBEDDING)? {
            backend.add_rows(width, d_rows, &batch.word_rows, d_table, &batch.words)?;
        }
        gradients.put_away(backend, EMBEDDING)?;
        match eyes {
            Some(eyes) if eyes.learns() => {
                let all: Vec<u32> = (0..batch.image_rows.len() as u32).collect();
                let mut d_merged = backend.scratch(all.len() * width)?;
                backend.copy_rows(width, d_rows, &batch.image_rows, &mut d_merged, &all)?;
                self.see_backward(batch, eyes, d_merged, gradients)
            }
            _ => Ok(()),
        }
    }

    /// Cosines and sines of text rows, `[rows, d]`.
    pub(crate) fn text_turns(&self, positions: &[u32]) -> Done<B::Buffer> {
        let mut table = self.positions.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.backend.upload(&table.turns(positions))
    }

    /// All layers over a batch, every sample seeing its own past only.
    pub(super) fn decode(&self, rows: B::Buffer, batch: &Batch, probe: &mut Probe<'_>) -> Done<B::Buffer> {
        let turns = self.text_turns(&batch.positions)?;
        let mut x = rows;
        for i in 0..self.config.text.num_hidden_layers {
            let projected = self.project(i, &x, &turns)?;
            let (mixed, _) = self.mix(&projected, &batch.samples)?;
            drop(projected);
            x = self.finish_layer(i, &x, &mixed)?;
            self.look(probe, &format!("text.layer.{i}"), &x)?;
        }
        Ok(x)
    }

    /// The same, keeping what backward needs where gradients go through the layers.
    pub(super) fn decode_to_learn(
        &self,
        rows: B::Buffer,
        batch: &Batch,
        learn: bool,
    ) -> Done<(B::Buffer, Option<Layers<B>>)> {
        if !learn {
            return Ok((self.decode(rows, batch, &mut None)?, None));
        }
        let turns = self.text_turns(&batch.positions)?;
        let mut x = rows;
        let mut layers = Vec::with_capacity(self.config.text.num_hidden_layers);
        for i in 0..self.config.text.num_hidden_layers {
            let projected = self.project(i, &x, &turns)?;
            let (mixed, statistics) = self.mix(&projected, &batch.samples)?;
            let middle = self.attention_out(i, &x, &mixed)?;
            let gated = self.gate(i, &middle)?;
            let y = self.mlp_out(i, &middle, &gated)?;
            let rest = (self.keep == Keep::Everything).then_some((projected, gated));
            let mut layer = Layer { x: std::mem::replace(&mut x, y), middle, mixed, statistics, rest };
            // backward begins with the last one
            if i + 1 < self.config.text.num_hidden_layers {
                layer.buffers().try_for_each(|buffer| self.backend.put_away(Resting::Value, buffer))?;
            }
            layers.push(layer);
        }
        Ok((x, Some(Layers { turns, layers })))
    }

    /// From the gradient of the last layer's output to that of the first one's input.
    pub(super) fn decode_backward(
        &self,
        layers: Layers<B>,
        d_rows: B::Buffer,
        batch: &Batch,
        gradients: &mut Gradients<B>,
    ) -> Done<B::Buffer> {
        let Layers { turns, mut layers } = layers;
        let mut dy = d_rows;
        let backend = self.backend;
        while let Some(mut layer) = layers.pop() {
            let i = layers.len();
            layer.buffers().try_for_each(|buffer| backend.fetch(buffer))?;
            // what the next one needs comes while this one is computed
            if let Some(next) = layers.last_mut() {
                next.buffers().try_for_each(|buffer| backend.send_for(buffer))?;
                gradients.send_for(backend, &layer_names(i - 1))?;
            }
            dy = self.layer_backward(i, layer, &turns, dy, batch, gradients)?;
            gradients.put_away(backend, &layer_names(i))?;
        }
        Ok(dy)
    }

    /// Queries, keys and values of a layer's input.
    pub(crate) fn project(&self, i: usize, x: &B::Buffer, turns: &B::Buffer) -> Done<Projected<B>> {
        let t = &self.config.text;
        let a = self.rms_norm(x, &layer_name(i, "input_layernorm"), t.hidden_size)?;
        let q = self.map(&a, &layer_name(i, "self_attn.q_proj"), self.query_map())?;
        let k = self.map(&a, &layer_name(i, "self_attn.k_proj"), self.key_map())?;
        let v = self.map(&a, &layer_name(i, "self_attn.v_proj"), self.key_map())?;
        let turned = |x: &B::Buffer, norm: &str, heads: usize| {
            let shape = HeadShape { rows: self.rows_of(x, heads * t.head_dim), heads, width: t.head_dim };
            let mut y = self.backend.scratch(self.backend.len(x))?;
            let (eps, weight) = (t.rms_norm_eps as f32, self.weight(&layer_name(i, norm)));
            self.backend.norm_and_rotate(shape, eps, x, weight, turns, &mut y)?;
            Ok::<_, BackendError>(y)
        };
        let q_turned = turned(&q, "self_attn.q_norm", t.num_attention_heads)?;
        let k_turned = turned(&k, "self_attn.k_norm", t.num_key_value_heads)?;
        Ok(Projected { q, k, v, q_turned, k_turned })
    }

    /// Who looks at whom in a layer.
    pub(crate) fn text_attention<'s>(&self, segments: &'s [Segment]) -> Attention<'s> {
        let t = &self.config.text;
        Attention {
            segments,
            heads: t.num_attention_heads,
            groups: t.num_key_value_heads,
            width: t.head_dim,
            causal: true,
        }
    }

    /// Attention's output and statistics.
    fn mix(&self, projected: &Projected<B>, samples: &[Segment]) -> Done<(B::Buffer, B::Buffer)> {
        let heads = self.config.text.num_attention_heads;
        let mut mixed = self.backend.scratch(self.backend.len(&projected.q_turned))?;
        let rows = self.rows_of(&mixed, heads * self.config.text.head_dim);
        let mut statistics = self.backend.scratch(rows * heads * 2)?;
        let qkv = self.columns(&projected.q_turned, &projected.k_turned, &projected.v);
        self.backend.attention(self.text_attention(samples), qkv, &mut mixed, &mut statistics)?;
        Ok((mixed, statistics))
    }

    /// Queries, keys and values in buffers of their own.
    pub(crate) fn columns<'a>(
        &self,
        q: &'a B::Buffer,
        k: &'a B::Buffer,
        v: &'a B::Buffer,
    ) -> Qkv<Columns<'a, B::Buffer>> {
        let (q_width, k_width) = (self.query_map().1, self.key_map().1);
        let whole = |buffer, stride| Columns { buffer, start: 0, stride };
        Qkv { q: whole(q, q_width), k: whole(k, k_width), v: whole(v, k_width) }
    }

    /// A layer's output from its input and what the attention mixed.
    pub(crate) fn finish_layer(&self, i: usize, x: &B::Buffer, mixed: &B::Buffer) -> Done<B::Buffer> {
        let middle = self.attention_out(i, x, mixed)?;
        let gated = self.gate(i, &middle)?;
        self.mlp_out(i, &middle, &gated)
    }

    fn attention_out(&self, i: usize, x: &B::Buffer, mixed: &B::Buffer) -> Done<B::Buffer> {
        let (outputs, inputs) = self.query_map();
        self.map_onto(mixed, &layer_name(i, "self_attn.o_proj"), (inputs, outputs), x)
    }

    fn gate(&self, i: usize, middle: &B::Buffer) -> Done<Gated<B>> {
        let t = &self.config.text;
        let b = self.rms_norm(middle, &layer_name(i, "post_attention_layernorm"), t.hidden_size)?;
        let gate = self.map(&b, &layer_name(i, "mlp.gate_proj"), self.mlp_map())?;
        let up = self.map(&b, &layer_name(i, "mlp.up_proj"), self.mlp_map())?;
        Ok(Gated { gate, up })
    }

    fn mlp_out(&self, i: usize, middle: &B::Buffer, gated: &Gated<B>) -> Done<B::Buffer> {
        let (outputs, inputs) = self.mlp_map();
        let mut h = self.backend.scratch(self.backend.len(&gated.gate))?;
        self.backend.swiglu(&gated.gate, &gated.up, &mut h)?;
        self.map_onto(&h, &layer_name(i, "mlp.down_proj"), (inputs, outputs), middle)
    }

    fn layer_backward(
        &self,
        i: usize,
        layer: Layer<B>,
        turns: &B::Buffer,
        dy: B::Buffer,
        batch: &Batch,
        gradients: &mut Gradients<B>,
    ) -> Done<B::Buffer> {
        let Layer { x, middle, mixed, statistics, rest } = layer;
        let (projected, gated) = match rest {
            Some((projected, gated)) => (Some(projected), gated),
            None => (None, self.gate(i, &middle)?),
        };
        let d_middle = self.mlp_backward(i, &middle, gated, dy, gradients)?;
        drop(middle);
        let projected = match projected {
            Some(projected) => projected,
            None => self.project(i, &x, turns)?,
        };
        let kept = (&x, mixed, statistics);
        self.attention_part_backward(i, kept, projected, turns, d_middle, batch, gradients)
    }

    /// Gradient of the layer's middle: `dy` and what comes through the MLP.
    fn mlp_backward(
        &self,
        i: usize,
        middle: &B::Buffer,
        gated: Gated<B>,
        dy: B::Buffer,
        gradients: &mut Gradients<B>,
    ) -> Done<B::Buffer> {
        let backend = self.backend;
        let (width, inner) = self.mlp_map();
        let Gated { mut gate, mut up } = gated;
        let down = layer_name(i, "mlp.down_proj");
        let mut h = backend.scratch(backend.len(&gate))?;
        if gradients.wants(&down) {
            backend.swiglu(&gate, &up, &mut h)?;
        }
        let dh = self.map_backward(&down, (inner, width), &h, &dy, gradients)?;
        drop(h);
        backend.swiglu_backward(&mut gate, &mut up, &dh)?;
        drop(dh);

        let norm = layer_name(i, "post_attention_layernorm");
        let b = self.rms_norm(middle, &norm, width)?;
        let mut db =
            self.map_backward(&layer_name(i, "mlp.gate_proj"), (width, inner), &b, &gate, gradients)?;
        self.map_backward_onto(
            &layer_name(i, "mlp.up_proj"),
            (width, inner),
            &b,
            &up,
            gradients,
            (Store::Add, &mut db),
        )?;
        let mut d_middle = dy;
        self.rms_norm_backward(&norm, middle, &db, &mut d_middle, gradients)?;
        Ok(d_middle)
    }

    /// Gradient of the layer's input: that of its middle and what comes through the attention.
    #[expect(clippy::too_many_arguments, reason = "everything that forward kept, and where gradients go")]
    fn attention_part_backward(
        &self,
        i: usize,
        (x, mixed, statistics): (&B::Buffer, B::Buffer, B::Buffer),
        projected: Projected<B>,
        turns: &B::Buffer,
        d_middle: B::Buffer,
        batch: &Batch,
        gradients: &mut Gradients<B>,
    ) -> Done<B::Buffer> {
        let backend = self.backend;
        let (q_map, k_map) = (self.query_map(), self.key_map());
        let out = layer_name(i, "self_attn.o_proj");
        let d_mixed = self.map_backward(&out, (q_map.1, q_map.0), &mixed, &d_middle, gradients)?;
        let Projected { q, k, v, q_turned, k_turned } = projected;
        let [mut dq, mut dk, mut dv] = [
            backend.scratch(backend.len(&q))?,
            backend.scratch(backend.len(&k))?,
            backend.scratch(backend.len(&v))?,
        ];
        let into = Qkv {
            q: ColumnsMut { buffer: &mut dq, start: 0, stride: q_map.1 },
            k: ColumnsMut { buffer: &mut dk, start: 0, stride: k_map.1 },
            v: ColumnsMut { buffer: &mut dv, start: 0, stride: k_map.1 },
        };
        let qkv = self.columns(&q_turned, &k_turned, &v);
        let attention = self.text_attention(&batch.samples);
        backend.attention_backward(attention, qkv, &mixed, &statistics, &d_mixed, into)?;
        drop((mixed, statistics, d_mixed, q_turned, k_turned, v));
        self.turn_backward(&layer_name(i, "self_attn.q_norm"), &q, turns, &mut dq, gradients)?;
        self.turn_backward(&layer_name(i, "self_attn.k_norm"), &k, turns, &mut dk, gradients)?;
        drop((q, k));

        let norm = layer_name(i, "input_layernorm");
        let a = self.rms_norm(x, &norm, self.config.text.hidden_size)?;
        let mut da = self.map_backward(&layer_name(i, "self_attn.q_proj"), q_map, &a, &dq, gradients)?;
        for (part, d) in [("self_attn.k_proj", &dk), ("self_attn.v_proj", &dv)] {
            let onto = (Store::Add, &mut da);
            self.map_backward_onto(&layer_name(i, part), k_map, &a, d, gradients, onto)?;
        }
        let mut dx = d_middle;
        self.rms_norm_backward(&norm, x, &da, &mut dx, gradients)?;
        Ok(dx)
    }

    /// Turns the gradient of normed and rotated heads into that of the heads.
    fn turn_backward(
        &self,
        norm: &str,
        x: &B::Buffer,
        turns: &B::Buffer,
        d: &mut B::Buffer,
        gradients: &mut Gradients<B>,
    ) -> Done {
        let t = &self.config.text;
        let rows = self.rows_of(turns, t.head_dim);
        let heads = self.backend.len(x) / (rows * t.head_dim).max(1);
        let shape = HeadShape { rows, heads, width: t.head_dim };
        let (eps, weight) = (t.rms_norm_eps as f32, self.weight(norm));
        let dweight = gradients.sum(self.backend, norm)?;
        self.backend.norm_and_rotate_backward(shape, eps, x, weight, turns, d, dweight)
    }

    /// `(inputs, outputs)` of the query projection.
    fn query_map(&self) -> (usize, usize) {
        let t = &self.config.text;
        (t.hidden_size, t.num_attention_heads * t.head_dim)
    }

    /// `(inputs, outputs)` of the key and value projections.
    pub(crate) fn key_map(&self) -> (usize, usize) {
        let t = &self.config.text;
        (t.hidden_size, t.num_key_value_heads * t.head_dim)
    }

    /// `(inputs, outputs)` of the MLP's way up.
    fn mlp_map(&self) -> (usize, usize) {
        (self.config.text.hidden_size, self.config.text.intermediate_size)
    }

    fn rows_of(&self, x: &B::Buffer, width: usize) -> usize {
        self.backend.len(x) / width
    }

    pub(super) fn rms_norm(&self, x: &B::Buffer, name: &str, width: usize) -> Done<B::Buffer> {
        let mut y = self.backend.scratch(self.backend.len(x))?;
        let eps = self.config.text.rms_norm_eps as f32;
        self.backend.rms_norm(width, eps, x, self.weight(name), &mut y)?;
        Ok(y)
    }

    fn rms_norm_backward(
        &self,
        name: &str,
        x: &B::Buffer,
        dy: &B::Buffer,
        dx: &mut B::Buffer,
        gradients: &mut Gradients<B>,
    ) -> Done {
        let (width, eps) = (self.config.text.hidden_size, self.config.text.rms_norm_eps as f32);
        let dweight = gradients.sum(self.backend, name)?;
        self.backend.rms_norm_backward(width, eps, x, self.weight(name), dy, dx, dweight)
    }

    /// `x W^T` without a bias.
    fn map(&self, x: &B::Buffer, name: &str, (inputs, outputs): (usize, usize)) -> Done<B::Buffer> {
        let shape = LinearShape { rows: self.rows_of(x, inputs), inputs, outputs };
        let mut y = self.backend.scratch(shape.rows * outputs)?;
        self.backend.linear(shape, x, self.weight(name), None, None, &mut y)?;
        Ok(y)
    }

    /// `x W^T + residual`.
    fn map_onto(
        &self,
        x: &B::Buffer,
        name: &str,
        (inputs, outputs): (usize, usize),
        residual: &B::Buffer,
    ) -> Done<B::Buffer> {
        let shape = LinearShape { rows: self.rows_of(x, inputs), inputs, outputs };
        let mut y = self.backend.scratch(shape.rows * outputs)?;
        self.backend.linear(shape, x, self.weight(name), None, Some(residual), &mut y)?;
        Ok(y)
    }

    /// Gradient of a map's input; that of its weight goes to `gradients`.
    fn map_backward(
        &self,
        name: &str,
        map: (usize, usize),
        x: &B::Buffer,
        dy: &B::Buffer,
        gradients: &mut Gradients<B>,
    ) -> Done<B::Buffer> {
        let mut dx = self.backend.scratch(self.rows_of(dy, map.1) * map.0)?;
        self.map_backward_onto(name, map, x, dy, gradients, (Store::Replace, &mut dx))?;
        Ok(dx)
    }

    fn map_backward_onto(
        &self,
        name: &str,
        (inputs, outputs): (usize, usize),
        x: &B::Buffer,
        dy: &B::Buffer,
        gradients: &mut Gradients<B>,
        (store, dx): (Store, &mut B::Buffer),
    ) -> Done {
        let shape = LinearShape { rows: self.rows_of(dy, outputs), inputs, outputs };
        if let Some((store, dweight)) = gradients.product(self.backend, name)? {
            self.backend.linear_backward_weight(shape, x, dy, store, dweight)?;
        }
        self.backend.linear_backward_input(shape, dy, self.weight(name), store, dx)
    }
}

/// How names on disk of a layer's weights begin.
fn layer_names(i: usize) -> String {
    format!("model.layers.{i}.")
}

/// Name on disk of a layer's weight.
fn layer_name(i: usize, part: &str) -> String {
    format!("model.layers.{i}.{part}.weight")
}
