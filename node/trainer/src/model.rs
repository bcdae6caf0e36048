//! The model, written once against a [`Backend`]: forward, backward, and what is kept in between.
//!
//! ```text
//! pictures -> patches -> vision tower -> merger --.
//! tokens   -> embedding rows ----------------------+-> spliced rows -> decoder -> norm -> head + loss
//! ```
//! There is no tape. Forward leaves with each block its input and three small things (the attention's output, its
//! statistics, the middle of the block); backward goes through the blocks in reverse, computes the rest of one block
//! again, and hands each weight's gradient to [`Gradients`] at once. So memory is one block's worth whatever the depth,
//! and the values that are computed again are the same to the bit. With [`Keep::Everything`] nothing is computed again.
//!
//! Rows of all samples stand one behind the other in the order of the packs, nothing is padded; attention goes by
//! segments ([`Batch`]). Since gradients of weights are sums over rows in ascending order that go on from what is there,
//! it makes no difference to a bit how packs are joined into batches.

mod angles;
mod batch;
mod decoder;
mod gradients;
mod pooled;
mod relay;
mod vision;
pub(crate) mod weights;

pub use batch::{Batch, Sample};
pub use gradients::Gradients;
pub(crate) use relay::{Board, Turns};

use std::sync::Mutex;

use crate::{
    backend::{Backend, BackendError, HeadGradients, LinearShape, Targets},
    config::ModelConfig,
    state::{State, StateError},
};

/// A model that cannot be built or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The weights don't fit the config.
    #[error("the weights do not fit the model")]
    State(#[from] StateError),
    /// The device failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// A parameter that should be trained and isn't part of the model.
    #[error("{name} should be trained, but the model has no such parameter")]
    UnknownParameter {
        /// The name.
        name: String,
    },
}

/// How class tokens leave the vision tower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClassStrip {
    /// Every picture drops its own class token: what the model was trained with.
    #[default]
    PerSegment,
    /// As the released inference code does it, which forgets the class tokens of earlier pictures: picture `k` is
    /// shifted back by `k` rows. Only for comparison with that code.
    AsReleased,
}

/// What forward keeps of a block for backward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Keep {
    /// The block's input, middle and attention output; the rest is computed again.
    #[default]
    Inputs,
    /// Everything: faster, where memory abounds.
    Everything,
}

impl Keep {
    /// Everything, if that takes at most `bytes` for so many rows in decoder and tower each.
    pub fn within(config: &ModelConfig, rows: usize, bytes: u64) -> Self {
        let (t, v) = (&config.text, &config.vision);
        let heads = (3 * t.num_attention_heads + 3 * t.num_key_value_heads) * t.head_dim;
        let layer = 2 * t.hidden_size + heads + 2 * t.intermediate_size;
        let block = 6 * v.hidden_size + v.intermediate_size;
        let row = t.num_hidden_layers * layer + v.depth * block;
        if 4 * rows as u64 * row as u64 <= bytes { Self::Everything } else { Self::Inputs }
    }
}

/// Sees intermediate values by name, row-major: `vision.patch_embed`, `vision.rotary_angles`, `vision.pre_layernorm`,
/// `vision.block.i`, `vision.stripped`, `vision.merger`, `text.inputs_embeds`, `text.layer.i`.
pub type Probe<'a> = Option<&'a mut dyn FnMut(&str, Vec<f32>)>;

/// A model with its weights on a device.
#[derive(Debug)]
pub struct Model<'b, B: Backend> {
    backend: &'b B,
    config: ModelConfig,
    weights: weights::Weights<B>,
    strip: ClassStrip,
    keep: Keep,
    positions: Mutex<angles::PositionTable>,
}

impl<'b, B: Backend> Model<'b, B> {
    /// Puts the weights of `state` on the device.
    ///
    /// # Errors
    ///
    /// [`ModelError`] when a tensor is missing or misshapen, or the device has no room.
    pub fn new(backend: &'b B, config: &ModelConfig, state: &State) -> Result<Self, ModelError> {
        Ok(Self::of(backend, config, weights::Weights::upload(backend, config, state, |_| false)?))
    }

    /// The same, to train the parameters named in `trained`, in order of names, and no others: a device may hold the others in
    /// fewer bytes, where that changes no bit.
    ///
    /// # Errors
    ///
    /// As [`Self::new`].
    pub fn to_train(
        backend: &'b B,
        config: &ModelConfig,
        state: &State,
        trained: &[String],
    ) -> Result<Self, ModelError> {
        Ok(Self::of(backend, config, weights::Weights::upload(backend, config, state, is_frozen(trained))?))
    }

    /// A model of this shape whose weights are of any value, to plan with: no state of its size has to exist. The numbers of
    /// `frozen` matrices are such that bf16 holds them.
    ///
    /// # Errors
    ///
    /// [`ModelError::Backend`] when the device has no room.
    pub(crate) fn unfilled(
        backend: &'b B,
        config: &ModelConfig,
        frozen: impl Fn(&str) -> bool,
    ) -> Result<Self, ModelError> {
        Ok(Self::of(backend, config, weights::Weights::unfilled(backend, config, frozen)?))
    }

    fn of(backend: &'b B, config: &ModelConfig, weights: weights::Weights<B>) -> Self {
        Self {
            backend,
            config: config.clone(),
            weights,
            strip: ClassStrip::default(),
            keep: Keep::default(),
            positions: Mutex::new(angles::PositionTable::new(&config.text)),
        }
    }

    /// The same model, dropping class tokens in another way.
    #[must_use]
    pub fn with_strip(self, strip: ClassStrip) -> Self {
        Self { strip, ..self }
    }

    /// The same model, keeping more or less for backward; no bit of any result depends on it.
    #[must_use]
    pub fn with_keep(self, keep: Keep) -> Self {
        Self { keep, ..self }
    }

    /// The model's shape.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The device.
    pub fn backend(&self) -> &'b B {
        self.backend
    }

    /// The weights as they are now.
    ///
    /// # Errors
    ///
    /// [`ModelError::Backend`] when the device fails.
    pub fn state(&self) -> Result<State, ModelError> {
        Ok(self.weights.download(self.backend, &self.config)?)
    }

    /// A parameter, by its name on disk, which has to be one of the model's.
    pub(crate) fn parameter(&self, name: &str) -> &B::Buffer {
        self.weights.get(name)
    }

    /// A parameter, by its name on disk, to be changed by the optimiser.
    ///
    /// # Errors
    ///
    /// [`ModelError::UnknownParameter`] when there is none of that name.
    pub fn parameter_mut(&mut self, name: &str) -> Result<&mut B::Buffer, ModelError> {
        self.weights.get_mut(name).ok_or_else(|| ModelError::UnknownParameter { name: name.to_owned() })
    }

    /// Gradients of the parameters named in `trainable`, nothing added yet.
    ///
    /// # Errors
    ///
    /// [`ModelError::UnknownParameter`] when a name is none of the model's; [`ModelError::Backend`] when the device has
    /// no room.
    pub fn gradients(&self, trainable: &[String]) -> Result<Gradients<B>, ModelError> {
        Gradients::new(&self.config, trainable)
    }

    /// The residual stream behind the last layer: `[batch.rows(), H]`.
    ///
    /// # Errors
    ///
    /// [`ModelError::Backend`] when the device fails.
    pub fn hidden(&self, batch: &Batch, mut probe: Probe<'_>) -> Result<B::Buffer, ModelError> {
        let rows = self.embed(batch, &mut probe)?;
        Ok(self.decode(rows, batch, &mut probe)?)
    }

    /// Rows that enter the decoder: `[batch.rows(), H]`.
    pub(crate) fn embed(&self, batch: &Batch, probe: &mut Probe<'_>) -> Result<B::Buffer, BackendError> {
        let merged = self.see(batch, probe)?;
        self.splice(batch, merged.as_ref(), probe)
    }

    /// Final norm of rows of the residual stream.
    ///
    /// # Errors
    ///
    /// [`ModelError::Backend`] when the device fails.
    pub fn final_norm(&self, hidden: &B::Buffer) -> Result<B::Buffer, ModelError> {
        Ok(self.rms_norm(hidden, "model.norm.weight", self.config.text.hidden_size)?)
    }

    /// Logits of normed rows `[n, H]`: `[n, V]`, row-major. For few rows; losses never go through here.
    ///
    /// # Errors
    ///
    /// [`ModelError::Backend`] when the device fails.
    pub fn logits(&self, normed: &B::Buffer) -> Result<Vec<f32>, ModelError> {
        let shape = self.head_shape(self.backend.len(normed) / self.config.text.hidden_size);
        let mut logits = self.backend.scratch(shape.rows * shape.outputs)?;
        self.backend.linear(shape, normed, self.head(), None, None, &mut logits)?;
        Ok(self.backend.download(&logits)?)
    }

    /// Negative log-likelihood of every learned position, in nats: `batch.learned()` numbers in the batch's order.
    ///
    /// # Errors
    ///
    /// [`ModelError::Backend`] when the device fails.
    pub fn losses(&self, batch: &Batch) -> Result<Vec<f32>, ModelError> {
        if batch.learned() == 0 {
            return Ok(Vec::new());
        }
        let hidden = self.hidden(batch, None)?;
        self.losses_behind(&hidden, &batch.target_rows, &batch.targets)
    }

    /// Negative log-likelihood of `targets[i]` behind row `rows[i]` of the residual stream, in nats.
    pub(crate) fn losses_behind(
        &self,
        hidden: &B::Buffer,
        rows: &[u32],
        targets: &[u32],
    ) -> Result<Vec<f32>, ModelError> {
        let normed = self.final_norm(&self.pick(hidden, rows)?)?;
        let scales = vec![0.0; targets.len()];
        let targets = Targets { tokens: targets, scales: &scales };
        Ok(self.backend.cross_entropy(self.head_shape(rows.len()), &normed, self.head(), targets, None)?)
    }

    /// The same losses; adds to `gradients` those of the sum of `scales[i] * loss[i]`.
    ///
    /// # Errors
    ///
    /// [`ModelError::Backend`] when the device fails.
    ///
    /// # Panics
    ///
    /// When there are not as many scales as learned positions.
    pub fn differentiate(
        &self,
        batch: &Batch,
        scales: &[f32],
        gradients: &mut Gradients<B>,
    ) -> Result<Vec<f32>, ModelError> {
        assert_eq!(scales.len(), batch.learned(), "a factor for every learned position");
        if batch.learned() == 0 {
            return Ok(Vec::new());
        }
        self.backend.inside(|| self.forward_backward(batch, scales, gradients))
    }

    fn forward_backward(
        &self,
        batch: &Batch,
        scales: &[f32],
        gradients: &mut Gradients<B>,
    ) -> Result<Vec<f32>, ModelError> {
        let (backend, width) = (self.backend, self.config.text.hidden_size);
        let tower = gradients.trains_tower() && batch.has_pictures();
        let eyes = self.see_to_learn(batch, tower, gradients.trains_merger())?;
        let rows = self.splice(batch, eyes.as_ref().map(|eyes| &eyes.merged), &mut None)?;
        let (hidden, layers) = self.decode_to_learn(rows, batch, gradients.trains_below_head())?;

        let picked = self.pick(&hidden, &batch.target_rows)?;
        drop(hidden);
        let normed = self.final_norm(&picked)?;
        let mut d_normed = backend.scratch(backend.len(&normed))?;
        let shape = self.head_shape(batch.learned());
        let targets = Targets { tokens: &batch.targets, scales };
        let head = HeadGradients { hidden: &mut d_normed, weight: gradients.head(backend)? };
        let losses = backend.cross_entropy(shape, &normed, self.head(), targets, Some(head))?;
        gradients.put_away_head(backend)?;
        let mut d_picked = backend.zeros(backend.len(&picked))?;
        let eps = self.config.text.rms_norm_eps as f32;
        backend.rms_norm_backward(
            width,
            eps,
            &picked,
            self.weight("model.norm.weight"),
            &d_normed,
            &mut d_picked,
            gradients.sum(backend, "model.norm.weight")?,
        )?;
        drop((picked, normed, d_normed));
        if let Some(layers) = layers {
            let mut d_rows = backend.zeros(batch.rows() * width)?;
            let all: Vec<u32> = (0..batch.learned() as u32).collect();
            backend.add_rows(width, &d_picked, &all, &mut d_rows, &batch.target_rows)?;
            drop(d_picked);
            let d_rows = self.decode_backward(layers, d_rows, batch, gradients)?;
            self.splice_backward(batch, &d_rows, gradients, eyes)?;
        }
        Ok(losses)
    }

    /// Some rows of the residual stream.
    pub(crate) fn pick(&self, hidden: &B::Buffer, rows: &[u32]) -> Result<B::Buffer, BackendError> {
        let width = self.config.text.hidden_size;
        let mut picked = self.backend.scratch(rows.len() * width)?;
        let all: Vec<u32> = (0..rows.len() as u32).collect();
        self.backend.copy_rows(width, hidden, rows, &mut picked, &all)?;
        Ok(picked)
    }

    fn head_shape(&self, rows: usize) -> LinearShape {
        LinearShape { rows, inputs: self.config.text.hidden_size, outputs: self.config.text.vocab_size }
    }

    fn head(&self) -> &B::Buffer {
        self.weight(if self.config.text.tie_word_embeddings { EMBEDDING } else { HEAD })
    }

    fn weight(&self, name: &str) -> &B::Buffer {
        self.weights.get(name)
    }

    fn look(&self, probe: &mut Probe<'_>, name: &str, value: &B::Buffer) -> Result<(), BackendError> {
        if let Some(probe) = probe {
            probe(name, self.backend.download(value)?);
        }
        Ok(())
    }
}

/// Says of a parameter whether it is none of `trained`, which are in order.
pub(crate) fn is_frozen(trained: &[String]) -> impl Fn(&str) -> bool {
    |name| trained.binary_search_by(|trained| trained.as_str().cmp(name)).is_err()
}

/// Name of the token embedding.
const EMBEDDING: &str = "model.embed_tokens.weight";
/// Name of the head, where it is not tied to the embedding.
const HEAD: &str = "lm_head.weight";

#[cfg(test)]
mod tests;
