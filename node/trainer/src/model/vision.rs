//! The RICE vision tower and the merger, forward and backward.
//!
//! ```text
//! x0 = norm(class row, patches W)          for each picture
//! q, k, v = norm(x) Wqkv + b, q and k turned by row and column of the patch
//! m = x + attention(q, k, v) Wproj + b
//! y = m + gelu(norm(m) W1 + b) W2 + b
//! merged = gelu(four patches side by side of norm(y), without class rows, W0 + b) W2 + b
//! ```

use super::{
    Batch, ClassStrip, Gradients, Keep, Model, Probe,
    angles::{vision_angles, vision_turns},
};
use crate::backend::{
    Attention, Backend, Columns, ColumnsMut, Done, HeadShape, LinearShape, Qkv, Resting, Segment, Store, Turn,
};

/// Epsilon of the two norms inside a block, whatever the config says about the others.
const BLOCK_EPS: f32 = 1e-5;

/// What backward needs of a block.
#[derive(Debug)]
struct Block<B: Backend> {
    /// The input.
    x: B::Buffer,
    /// The residual stream between attention and MLP.
    middle: B::Buffer,
    /// Of the attention.
    mixed: B::Buffer,
    statistics: B::Buffer,
    /// Turned queries and keys with values, and the MLP's inner rows before GELU.
    rest: Option<(B::Buffer, B::Buffer)>,
}

impl<B: Backend> Block<B> {
    fn buffers(&mut self) -> impl Iterator<Item = &mut B::Buffer> {
        let Self { x, middle, mixed, statistics, rest } = self;
        let rest = rest.iter_mut().flat_map(|(qkv, inner)| [qkv, inner]);
        [x, middle, mixed, statistics].into_iter().chain(rest)
    }
}

/// What stands in front of the first block.
#[derive(Debug)]
struct Entered<B: Backend> {
    patches: B::Buffer,
    /// Class rows and patches before the first norm.
    rows: B::Buffer,
    turns: B::Buffer,
}

/// What backward needs of the tower.
#[derive(Debug)]
struct Tower<B: Backend> {
    entered: Entered<B>,
    blocks: Vec<Block<B>>,
}

/// What backward needs of tower and merger.
#[derive(Debug)]
pub(super) struct Eyes<B: Backend> {
    /// Rows for the decoder, `[patches / 4, H]`.
    pub(super) merged: B::Buffer,
    /// Patch rows that go into the merger; none when nothing of tower or merger is trained.
    kept: Option<B::Buffer>,
    /// None when nothing of the tower is trained.
    tower: Option<Tower<B>>,
}

impl<B: Backend> Eyes<B> {
    /// Whether gradients come this far.
    pub(super) fn learns(&self) -> bool {
        self.kept.is_some()
    }

    /// What is needed first when gradients come here: patch rows in front of the merger, and the last block.
    fn first(&mut self) -> impl Iterator<Item = &mut B::Buffer> {
        let last = self.tower.iter_mut().filter_map(|tower| tower.blocks.last_mut());
        self.kept.iter_mut().chain(last.flat_map(Block::buffers))
    }

    /// What is needed last.
    fn entered(&mut self) -> impl Iterator<Item = &mut B::Buffer> {
        let entered = self.tower.iter_mut().map(|tower| &mut tower.entered);
        entered.flat_map(|Entered { patches, rows, .. }| [patches, rows])
    }
}

impl<B: Backend> Model<'_, B> {
    /// Pictures to rows of the language model; none without pictures.
    pub(super) fn see(&self, batch: &Batch, probe: &mut Probe<'_>) -> Done<Option<B::Buffer>> {
        if !batch.has_pictures() {
            return Ok(None);
        }
        let (Entered { turns, .. }, mut x) = self.enter_tower(batch, probe)?;
        for i in 0..self.config.vision.depth {
            let qkv = self.vision_project(i, &x, &turns)?;
            let (mixed, _) = self.vision_mix(&qkv, &batch.pictures)?;
            drop(qkv);
            let middle = self.vision_attention_out(i, &x, &mixed)?;
            let inner = self.vision_inner(i, &middle)?;
            x = self.vision_mlp_out(i, &middle, &inner)?;
            self.look(probe, &format!("vision.block.{i}"), &x)?;
        }
        let kept = self.strip_classes(batch, &x)?;
        self.look(probe, "vision.stripped", &kept)?;
        let merged = self.merge(&kept)?;
        self.look(probe, "vision.merger", &merged)?;
        Ok(Some(merged))
    }

    /// The same, keeping what backward needs.
    pub(super) fn see_to_learn(&self, batch: &Batch, tower: bool, merger: bool) -> Done<Option<Eyes<B>>> {
        if !batch.has_pictures() {
            return Ok(None);
        }
        if !tower && !merger {
            let merged = self.see(batch, &mut None)?;
            return Ok(merged.map(|merged| Eyes { merged, kept: None, tower: None }));
        }
        let (entered, mut x) = self.enter_tower(batch, &mut None)?;
        let mut blocks = Vec::new();
        for i in 0..self.config.vision.depth {
            let qkv = self.vision_project(i, &x, &entered.turns)?;
            let (mixed, statistics) = self.vision_mix(&qkv, &batch.pictures)?;
            let middle = self.vision_attention_out(i, &x, &mixed)?;
            let inner = self.vision_inner(i, &middle)?;
            let y = self.vision_mlp_out(i, &middle, &inner)?;
            let x = std::mem::replace(&mut x, y);
            if tower {
                let rest = (self.keep == Keep::Everything).then_some((qkv, inner));
                let mut block = Block { x, middle, mixed, statistics, rest };
                block.buffers().try_for_each(|buffer| self.backend.put_away(Resting::Value, buffer))?;
                blocks.push(block);
            }
        }
        let kept = self.strip_classes(batch, &x)?;
        let merged = self.merge(&kept)?;
        let tower = tower.then_some(Tower { entered, blocks });
        let mut eyes = Eyes { merged, kept: Some(kept), tower };
        eyes.entered().try_for_each(|buffer| self.backend.put_away(Resting::Value, buffer))?;
        if let Some(kept) = &mut eyes.kept {
            self.backend.put_away(Resting::Value, kept)?;
        }
        Ok(Some(eyes))
    }

    /// Gradients of merger and tower from that of the merged rows.
    pub(super) fn see_backward(
        &self,
        batch: &Batch,
        eyes: Eyes<B>,
        d_merged: B::Buffer,
        gradients: &mut Gradients<B>,
    ) -> Done {
        let backend = self.backend;
        let mut eyes = eyes;
        eyes.first().try_for_each(|buffer| backend.fetch(buffer))?;
        let Eyes { kept: Some(kept), tower, merged } = eyes else { return Ok(()) };
        drop(merged);
        let d_kept = self.merge_backward(&kept, d_merged, tower.is_some(), gradients)?;
        drop(kept);
        gradients.put_away(backend, MERGER)?;
        let (Some(Tower { mut entered, mut blocks }), Some(d_kept)) = (tower, d_kept) else {
            return Ok(());
        };
        let width = self.config.vision.hidden_size;
        let mut dy = backend.zeros(batch.vision_rows() * width)?;
        let kept_rows = batch.kept_rows(self.strip == ClassStrip::AsReleased);
        let all: Vec<u32> = (0..kept_rows.len() as u32).collect();
        backend.add_rows(width, &d_kept, &all, &mut dy, &kept_rows)?;
        drop(d_kept);
        while let Some(mut block) = blocks.pop() {
            let i = blocks.len();
            block.buffers().try_for_each(|buffer| backend.fetch(buffer))?;
            // what the next one needs comes while this one is computed
            match blocks.last_mut() {
                Some(next) => {
                    next.buffers().try_for_each(|buffer| backend.send_for(buffer))?;
                    gradients.send_for(backend, &block_names(i - 1))?;
                }
                None => {
                    [&mut entered.patches, &mut entered.rows]
                        .into_iter()
                        .try_for_each(|buffer| backend.send_for(buffer))?;
                }
            }
            dy = self.vision_block_backward(i, block, &entered.turns, dy, batch, gradients)?;
            gradients.put_away(backend, &block_names(i))?;
        }
        backend.fetch(&mut entered.patches)?;
        backend.fetch(&mut entered.rows)?;
        self.enter_backward(batch, &entered, &dy, gradients)
    }

    /// What stands in front of the first block, and that block's input.
    fn enter_tower(&self, batch: &Batch, probe: &mut Probe<'_>) -> Done<(Entered<B>, B::Buffer)> {
        let (backend, v) = (self.backend, &self.config.vision);
        let patches = backend.upload(&batch.patches)?;
        let mut embedded = backend.scratch(batch.patch_rows.len() * v.hidden_size)?;
        let kernel = self.weight(PATCH_EMBED);
        backend.linear(self.patch_map(batch), &patches, kernel, None, None, &mut embedded)?;
        self.look(probe, "vision.patch_embed", &embedded)?;
        let mut rows = backend.scratch(batch.vision_rows() * v.hidden_size)?;
        let first = vec![0; batch.class_rows.len()];
        backend.copy_rows(v.hidden_size, self.weight(CLASS), &first, &mut rows, &batch.class_rows)?;
        let all: Vec<u32> = (0..batch.patch_rows.len() as u32).collect();
        backend.copy_rows(v.hidden_size, &embedded, &all, &mut rows, &batch.patch_rows)?;
        drop(embedded);

        let class = backend.download(self.weight(CLASS_ANGLES))?;
        let turns = backend.upload(&vision_turns(v, &batch.cells, &class))?;
        if let Some(probe) = probe {
            probe("vision.rotary_angles", vision_angles(v, &batch.cells, &class));
        }
        let x = self.layer_norm(&rows, "visual.pre_layernorm", v.layer_norm_eps as f32)?;
        self.look(probe, "vision.pre_layernorm", &x)?;
        Ok((Entered { patches, rows, turns }, x))
    }

    fn enter_backward(
        &self,
        batch: &Batch,
        entered: &Entered<B>,
        dx: &B::Buffer,
        gradients: &mut Gradients<B>,
    ) -> Done {
        let (backend, v) = (self.backend, &self.config.vision);
        let Entered { patches, rows, .. } = entered;
        let mut d_entered = backend.zeros(backend.len(rows))?;
        let eps = v.layer_norm_eps as f32;
        self.layer_norm_backward("visual.pre_layernorm", eps, rows, dx, &mut d_entered, gradients)?;
        if let Some(d_class) = gradients.sum(backend, CLASS)? {
            let first = vec![0; batch.class_rows.len()];
            backend.add_rows(v.hidden_size, &d_entered, &batch.class_rows, d_class, &first)?;
        }
        if let Some((store, d_kernel)) = gradients.product(backend, PATCH_EMBED)? {
            let all: Vec<u32> = (0..batch.patch_rows.len() as u32).collect();
            let mut d_embedded = backend.scratch(all.len() * v.hidden_size)?;
            backend.copy_rows(v.hidden_size, &d_entered, &batch.patch_rows, &mut d_embedded, &all)?;
            backend.linear_backward_weight(self.patch_map(batch), patches, &d_embedded, store, d_kernel)?;
        }
        Ok(())
    }

    fn vision_project(&self, i: usize, x: &B::Buffer, turns: &B::Buffer) -> Done<B::Buffer> {
        let width = self.config.vision.hidden_size;
        let normal = self.layer_norm(x, &block_name(i, "norm1"), BLOCK_EPS)?;
        let mut qkv = self.biased(&normal, &block_name(i, "attn.qkv"), (width, 3 * width), None)?;
        self.turn_queries_and_keys(&mut qkv, turns, Turn::Forward)?;
        Ok(qkv)
    }

    /// Turns both in place, or turns their gradients back.
    fn turn_queries_and_keys(&self, qkv: &mut B::Buffer, turns: &B::Buffer, turn: Turn) -> Done {
        let (v, width) = (&self.config.vision, self.config.vision.hidden_size);
        let rows = self.backend.len(qkv) / (3 * width);
        let shape = HeadShape { rows, heads: v.num_heads, width: v.head_dim() };
        for start in [0, width] {
            let part = ColumnsMut { buffer: &mut *qkv, start, stride: 3 * width };
            self.backend.rotate(shape, turns, turn, part)?;
        }
        Ok(())
    }

    fn vision_attention<'s>(&self, pictures: &'s [Segment]) -> Attention<'s> {
        let v = &self.config.vision;
        Attention {
            segments: pictures,
            heads: v.num_heads,
            groups: v.num_heads,
            width: v.head_dim(),
            causal: false,
        }
    }

    /// Queries, keys and values side by side in one buffer.
    fn thirds<'a>(&self, qkv: &'a B::Buffer) -> Qkv<Columns<'a, B::Buffer>> {
        let width = self.config.vision.hidden_size;
        let part = |i| Columns { buffer: qkv, start: i * width, stride: 3 * width };
        Qkv { q: part(0), k: part(1), v: part(2) }
    }

    fn vision_mix(&self, qkv: &B::Buffer, pictures: &[Segment]) -> Done<(B::Buffer, B::Buffer)> {
        let v = &self.config.vision;
        let rows = self.backend.len(qkv) / (3 * v.hidden_size);
        let mut mixed = self.backend.scratch(rows * v.hidden_size)?;
        let mut statistics = self.backend.scratch(rows * v.num_heads * 2)?;
        let attention = self.vision_attention(pictures);
        self.backend.attention(attention, self.thirds(qkv), &mut mixed, &mut statistics)?;
        Ok((mixed, statistics))
    }

    fn vision_attention_out(&self, i: usize, x: &B::Buffer, mixed: &B::Buffer) -> Done<B::Buffer> {
        let width = self.config.vision.hidden_size;
        self.biased(mixed, &block_name(i, "attn.proj"), (width, width), Some(x))
    }

    fn vision_inner(&self, i: usize, middle: &B::Buffer) -> Done<B::Buffer> {
        let v = &self.config.vision;
        let normal = self.layer_norm(middle, &block_name(i, "norm2"), BLOCK_EPS)?;
        self.biased(&normal, &block_name(i, "mlp.fc1"), (v.hidden_size, v.intermediate_size), None)
    }

    fn vision_mlp_out(&self, i: usize, middle: &B::Buffer, inner: &B::Buffer) -> Done<B::Buffer> {
        let v = &self.config.vision;
        let mut active = self.backend.scratch(self.backend.len(inner))?;
        self.backend.gelu(inner, &mut active)?;
        let map = (v.intermediate_size, v.hidden_size);
        self.biased(&active, &block_name(i, "mlp.fc2"), map, Some(middle))
    }

    fn vision_block_backward(
        &self,
        i: usize,
        block: Block<B>,
        turns: &B::Buffer,
        dy: B::Buffer,
        batch: &Batch,
        gradients: &mut Gradients<B>,
    ) -> Done<B::Buffer> {
        let Block { x, middle, mixed, statistics, rest } = block;
        let (qkv, inner) = match rest {
            Some((qkv, inner)) => (Some(qkv), inner),
            None => (None, self.vision_inner(i, &middle)?),
        };
        let d_middle = self.vision_mlp_backward(i, &middle, inner, dy, gradients)?;
        drop(middle);
        let qkv = match qkv {
            Some(qkv) => qkv,
            None => self.vision_project(i, &x, turns)?,
        };
        let (backend, v) = (self.backend, &self.config.vision);
        let width = v.hidden_size;
        let proj = block_name(i, "attn.proj");
        let d_mixed = self.biased_backward(&proj, (width, width), &mixed, &d_middle, gradients)?;
        let mut d_qkv = backend.scratch(backend.len(&qkv))?;
        self.vision_attention_backward(&qkv, (&mixed, &statistics), &d_mixed, batch, &mut d_qkv)?;
        drop((mixed, statistics, d_mixed));
        if let Some(d_angles) = gradients.angles(backend, i)? {
            let shape = HeadShape { rows: batch.vision_rows(), heads: v.num_heads, width: v.head_dim() };
            for (d_angles, start) in d_angles.into_iter().zip([0, width]) {
                let part = |buffer| Columns { buffer, start, stride: 3 * width };
                backend.angle_gradient(shape, &batch.class_rows, part(&qkv), part(&d_qkv), d_angles)?;
            }
        }
        drop(qkv);
        self.turn_queries_and_keys(&mut d_qkv, turns, Turn::Back)?;
        let norm = block_name(i, "norm1");
        let normal = self.layer_norm(&x, &norm, BLOCK_EPS)?;
        let name = block_name(i, "attn.qkv");
        let d_normal = self.biased_backward(&name, (width, 3 * width), &normal, &d_qkv, gradients)?;
        let mut dx = d_middle;
        self.layer_norm_backward(&norm, BLOCK_EPS, &x, &d_normal, &mut dx, gradients)?;
        Ok(dx)
    }

    /// Gradient of turned queries and keys and of values, side by side.
    fn vision_attention_backward(
        &self,
        qkv: &B::Buffer,
        (mixed, statistics): (&B::Buffer, &B::Buffer),
        d_mixed: &B::Buffer,
        batch: &Batch,
        d_qkv: &mut B::Buffer,
    ) -> Done {
        let (backend, width) = (self.backend, self.config.vision.hidden_size);
        let rows = batch.vision_rows();
        let [mut dq, mut dk, mut dv] =
            [backend.scratch(rows * width)?, backend.scratch(rows * width)?, backend.scratch(rows * width)?];
        fn whole<T>(buffer: &mut T, stride: usize) -> ColumnsMut<'_, T> {
            ColumnsMut { buffer, start: 0, stride }
        }
        let into = Qkv { q: whole(&mut dq, width), k: whole(&mut dk, width), v: whole(&mut dv, width) };
        let attention = self.vision_attention(&batch.pictures);
        backend.attention_backward(attention, self.thirds(qkv), mixed, statistics, d_mixed, into)?;
        // three buffers into one: rows of thirds are rows of a table that is three times as long
        for (third, part) in [dq, dk, dv].iter().enumerate() {
            let from: Vec<u32> = (0..rows as u32).collect();
            let to: Vec<u32> = (0..rows as u32).map(|row| 3 * row + third as u32).collect();
            backend.copy_rows(width, part, &from, d_qkv, &to)?;
        }
        Ok(())
    }

    /// Gradient of a block's middle: `dy` and what comes through the MLP.
    fn vision_mlp_backward(
        &self,
        i: usize,
        middle: &B::Buffer,
        inner: B::Buffer,
        dy: B::Buffer,
        gradients: &mut Gradients<B>,
    ) -> Done<B::Buffer> {
        let (backend, v) = (self.backend, &self.config.vision);
        let mut active = backend.scratch(backend.len(&inner))?;
        backend.gelu(&inner, &mut active)?;
        let map = (v.intermediate_size, v.hidden_size);
        let mut d_inner = self.biased_backward(&block_name(i, "mlp.fc2"), map, &active, &dy, gradients)?;
        drop(active);
        backend.gelu_backward(&inner, &mut d_inner)?;
        drop(inner);
        let norm = block_name(i, "norm2");
        let normal = self.layer_norm(middle, &norm, BLOCK_EPS)?;
        let map = (v.hidden_size, v.intermediate_size);
        let d_normal = self.biased_backward(&block_name(i, "mlp.fc1"), map, &normal, &d_inner, gradients)?;
        let mut d_middle = dy;
        self.layer_norm_backward(&norm, BLOCK_EPS, middle, &d_normal, &mut d_middle, gradients)?;
        Ok(d_middle)
    }

    /// Patch rows alone.
    fn strip_classes(&self, batch: &Batch, x: &B::Buffer) -> Done<B::Buffer> {
        let width = self.config.vision.hidden_size;
        let rows = batch.kept_rows(self.strip == ClassStrip::AsReleased);
        let all: Vec<u32> = (0..rows.len() as u32).collect();
        let mut kept = self.backend.scratch(rows.len() * width)?;
        self.backend.copy_rows(width, x, &rows, &mut kept, &all)?;
        Ok(kept)
    }

    /// Norm, four patches side by side, two maps.
    fn merge(&self, kept: &B::Buffer) -> Done<B::Buffer> {
        let (joined, out) = self.merger_maps();
        let normal = self.layer_norm(kept, MERGER_NORM, self.config.vision.layer_norm_eps as f32)?;
        let inner = self.biased(&normal, MERGER_IN, joined, None)?;
        let mut active = self.backend.scratch(self.backend.len(&inner))?;
        self.backend.gelu(&inner, &mut active)?;
        self.biased(&active, MERGER_OUT, out, None)
    }

    /// Gradient of the merger's input where it is wanted.
    fn merge_backward(
        &self,
        kept: &B::Buffer,
        d_merged: B::Buffer,
        wanted: bool,
        gradients: &mut Gradients<B>,
    ) -> Done<Option<B::Buffer>> {
        let backend = self.backend;
        let (joined, out) = self.merger_maps();
        let eps = self.config.vision.layer_norm_eps as f32;
        let normal = self.layer_norm(kept, MERGER_NORM, eps)?;
        let inner = self.biased(&normal, MERGER_IN, joined, None)?;
        let mut active = backend.scratch(backend.len(&inner))?;
        backend.gelu(&inner, &mut active)?;
        let mut d_inner = self.biased_backward(MERGER_OUT, out, &active, &d_merged, gradients)?;
        drop((active, d_merged));
        backend.gelu_backward(&inner, &mut d_inner)?;
        let d_normal = self.biased_backward(MERGER_IN, joined, &normal, &d_inner, gradients)?;
        drop((inner, d_inner, normal));
        let mut d_kept = backend.zeros(backend.len(kept))?;
        self.layer_norm_backward(MERGER_NORM, eps, kept, &d_normal, &mut d_kept, gradients)?;
        Ok(wanted.then_some(d_kept))
    }

    fn patch_map(&self, batch: &Batch) -> LinearShape {
        let v = &self.config.vision;
        LinearShape { rows: batch.patch_rows.len(), inputs: v.patch_values(), outputs: v.hidden_size }
    }

    /// `(inputs, outputs)` of both maps of the merger.
    fn merger_maps(&self) -> ((usize, usize), (usize, usize)) {
        let joined = self.config.vision.patches_per_token() * self.config.vision.hidden_size;
        ((joined, joined), (joined, self.config.text.hidden_size))
    }

    fn layer_norm(&self, x: &B::Buffer, name: &str, eps: f32) -> Done<B::Buffer> {
        let mut y = self.backend.scratch(self.backend.len(x))?;
        let (weight, bias) = names(name);
        let width = self.config.vision.hidden_size;
        self.backend.layer_norm(width, eps, x, self.weight(&weight), self.weight(&bias), &mut y)?;
        Ok(y)
    }

    fn layer_norm_backward(
        &self,
        name: &str,
        eps: f32,
        x: &B::Buffer,
        dy: &B::Buffer,
        dx: &mut B::Buffer,
        gradients: &mut Gradients<B>,
    ) -> Done {
        let width = self.config.vision.hidden_size;
        let (weight, bias) = names(name);
        let parameters = gradients.pair(self.backend, &weight, &bias, width)?;
        self.backend.layer_norm_backward(width, eps, x, self.weight(&weight), dy, dx, parameters)
    }

    /// `x W^T + b`, then `+ residual`.
    fn biased(
        &self,
        x: &B::Buffer,
        name: &str,
        (inputs, outputs): (usize, usize),
        residual: Option<&B::Buffer>,
    ) -> Done<B::Buffer> {
        let shape = LinearShape { rows: self.backend.len(x) / inputs, inputs, outputs };
        let mut y = self.backend.scratch(shape.rows * outputs)?;
        let (weight, bias) = names(name);
        let bias = Some(self.weight(&bias));
        self.backend.linear(shape, x, self.weight(&weight), bias, residual, &mut y)?;
        Ok(y)
    }

    fn biased_backward(
        &self,
        name: &str,
        (inputs, outputs): (usize, usize),
        x: &B::Buffer,
        dy: &B::Buffer,
        gradients: &mut Gradients<B>,
    ) -> Done<B::Buffer> {
        let shape = LinearShape { rows: self.backend.len(dy) / outputs, inputs, outputs };
        let (weight, bias) = names(name);
        if let Some((store, dweight)) = gradients.product(self.backend, &weight)? {
            self.backend.linear_backward_weight(shape, x, dy, store, dweight)?;
        }
        if let Some(dbias) = gradients.sum(self.backend, &bias)? {
            self.backend.linear_backward_bias(dy, dbias)?;
        }
        let mut dx = self.backend.scratch(shape.rows * inputs)?;
        let weight = self.weight(&weight);
        self.backend.linear_backward_input(shape, dy, weight, Store::Replace, &mut dx)?;
        Ok(dx)
    }
}

const PATCH_EMBED: &str = "visual.patch_embed.proj.weight";
const CLASS: &str = "visual.class_embedding";
const CLASS_ANGLES: &str = "visual.class_pos_emb";
const MERGER: &str = "visual.merger.";
const MERGER_NORM: &str = "visual.merger.ln_q";
const MERGER_IN: &str = "visual.merger.mlp.0";
const MERGER_OUT: &str = "visual.merger.mlp.2";

/// How names on disk of a block's parameters begin.
fn block_names(i: usize) -> String {
    format!("visual.blocks.{i}.")
}

/// Name on disk of a block's part.
fn block_name(i: usize, part: &str) -> String {
    format!("visual.blocks.{i}.{part}")
}

/// Names on disk of its weight and its bias.
fn names(part: &str) -> (String, String) {
    (format!("{part}.weight"), format!("{part}.bias"))
}
