//! The model as a plain, obviously right graph on candle-core: the reference that faster kernels are held to.
//!
//! ```text
//! pictures -> patches -> vision tower -> merger --.
//! tokens   -> embedding rows ----------------------+-> spliced rows -> decoder -> norm -> head -> loss
//! ```
//!
//! Rows of many pictures and many samples go through together; only attention looks at who belongs to whom, and it
//! works on runs of equally long sequences ([`Batch`]), so no S x S mask over a whole pack is ever built.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor, Var};

use crate::{
    config::ModelConfig,
    model::ClassStrip,
    state::{State, StateError},
};

mod attention;
mod decoder;
mod layout;
pub(crate) mod ops;
mod vision;

pub use layout::Batch;

/// A model that cannot be built or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The weights don't fit the config.
    #[error("the weights do not fit the model")]
    State(#[from] StateError),
    /// A tensor operation was refused, which points to a defect of this crate or to a lack of memory.
    #[error("a tensor operation failed")]
    Tensor(#[from] candle_core::Error),
    /// A parameter that should be trained and isn't part of the model.
    #[error("{name} should be trained, but the model has no such parameter")]
    UnknownParameter {
        /// The name.
        name: String,
    },
    /// A trained parameter got no gradient: a cut in the graph.
    #[error("parameter {name} got no gradient: an operation of the model has cut the graph")]
    NoGradient {
        /// The name.
        name: String,
    },
}

/// Intermediate values by name, kept for whoever looks into the model.
///
/// Rows are in the model's own order; [`Batch`] says which row belongs to what.
#[derive(Debug, Default)]
pub struct Probe {
    /// The values: `vision.patch_embed`, `vision.rotary_angles`, `vision.pre_layernorm`, `vision.block.i`,
    /// `vision.stripped`, `vision.merger`, `text.inputs_embeds`, `text.layer.i`.
    pub tensors: BTreeMap<String, Tensor>,
}

/// Where [`Model::hidden`] leaves what passes by.
pub(crate) type Look<'a> = Option<&'a mut Probe>;

pub(crate) fn look(probe: &mut Look<'_>, name: impl FnOnce() -> String, value: &Tensor) {
    if let Some(probe) = probe {
        probe.tensors.insert(name(), value.detach());
    }
}

/// A model with its weights, ready to run.
#[derive(Debug)]
pub struct Model {
    config: ModelConfig,
    weights: BTreeMap<String, Tensor>,
    variables: BTreeMap<String, Var>,
    strip: ClassStrip,
}

impl Model {
    /// Puts the weights of `state` into a graph; gradients flow to the parameters named in `trainable`.
    ///
    /// # Errors
    ///
    /// [`ModelError`] when a tensor is missing or misshapen, or `trainable` names one that isn't there.
    pub fn new(config: &ModelConfig, state: &State, trainable: &[String]) -> Result<Self, ModelError> {
        let mut weights = BTreeMap::new();
        let mut variables = BTreeMap::new();
        if let Some(name) = trainable.iter().find(|name| !state.tensors.contains_key(*name)) {
            return Err(ModelError::UnknownParameter { name: name.clone() });
        }
        for (name, shape) in config.parameter_shapes() {
            let tensor =
                state.tensors.get(&name).ok_or_else(|| StateError::Missing { name: name.clone() })?;
            if tensor.shape != shape {
                let got = tensor.shape.clone();
                return Err(StateError::Shape { name, expected: shape, got }.into());
            }
            let value = Tensor::from_slice(&tensor.values, shape, &Device::Cpu)?;
            if trainable.contains(&name) {
                let variable = Var::from_tensor(&value)?;
                weights.insert(name.clone(), variable.as_tensor().clone());
                variables.insert(name, variable);
            } else {
                weights.insert(name, value);
            }
        }
        Ok(Self { config: config.clone(), weights, variables, strip: ClassStrip::default() })
    }

    /// The same model, dropping class tokens in another way.
    #[must_use]
    pub fn with_strip(self, strip: ClassStrip) -> Self {
        Self { strip, ..self }
    }

    /// The model's shape.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn weight(&self, name: &str) -> &Tensor {
        self.weights.get(name).expect("every parameter of the config was put in by `new`")
    }

    /// The residual stream behind the last layer, one row per position of `batch`: `[batch.rows(), H]`.
    ///
    /// # Errors
    ///
    /// [`ModelError::Tensor`] when an operation fails.
    pub fn hidden(&self, batch: &Batch, mut probe: Option<&mut Probe>) -> Result<Tensor, ModelError> {
        let rows = self.embed(batch, &mut probe)?;
        Ok(self.decode(&rows, batch, &mut probe)?)
    }

    /// Final norm and head: `[n, H]` to `[n, vocabulary]`; the norm's output comes first.
    ///
    /// # Errors
    ///
    /// [`ModelError::Tensor`] when an operation fails.
    pub fn logits(&self, hidden: &Tensor) -> Result<(Tensor, Tensor), ModelError> {
        Ok(self.head(hidden)?)
    }

    /// Logits of every token of every sample, in order: `[tokens, vocabulary]`, row-major.
    ///
    /// # Errors
    ///
    /// [`ModelError::Tensor`] when an operation fails.
    pub fn logits_in_order(&self, batch: &Batch) -> Result<Vec<f32>, ModelError> {
        let (_, logits) = self.logits(&self.hidden(batch, None)?)?;
        let rows = batch.token_rows();
        let rows = Tensor::from_slice(&rows, rows.len(), &Device::Cpu)?;
        Ok(logits.index_select(&rows, 0)?.flatten_all()?.to_vec1()?)
    }

    /// Negative log-likelihood of every learned position, in nats: `[batch.learned()]`, in the batch's order.
    ///
    /// Only learned positions go through the head.
    ///
    /// # Errors
    ///
    /// [`ModelError::Tensor`] when an operation fails, also when the batch has nothing to learn.
    pub fn losses(&self, batch: &Batch) -> Result<Tensor, ModelError> {
        let hidden = self.hidden(batch, None)?;
        let count = batch.targets.len();
        let rows = Tensor::from_slice(&batch.target_rows, count, &Device::Cpu)?;
        let targets = Tensor::from_slice(&batch.targets, count, &Device::Cpu)?;
        let (_, logits) = self.head(&hidden.index_select(&rows, 0)?)?;
        Ok(ops::nll(&logits, &targets)?)
    }

    /// Sum of the losses of `batch` in nats, and the gradient of `scale` times that sum for every trained parameter.
    ///
    /// A parameter that the batch does not touch (the vision tower, in a batch without pictures) has a gradient of
    /// zeros.
    ///
    /// # Errors
    ///
    /// [`ModelError::NoGradient`] when the graph is cut, [`ModelError::Tensor`] when an operation fails.
    pub fn gradients(
        &self,
        batch: &Batch,
        scale: f32,
    ) -> Result<(f64, BTreeMap<String, Vec<f32>>), ModelError> {
        let losses = self.losses(batch)?;
        let sum = losses.to_vec1::<f32>()?.into_iter().map(f64::from).sum();
        let grads = (losses.sum_all()? * f64::from(scale))?.backward()?;
        let mut gradients = BTreeMap::new();
        for (name, variable) in &self.variables {
            let values = match grads.get(variable.as_tensor()) {
                Some(gradient) => gradient.flatten_all()?.to_vec1()?,
                None if batch.pictures == 0 && name.starts_with("visual.") => {
                    vec![0.0; variable.elem_count()]
                }
                None => return Err(ModelError::NoGradient { name: name.clone() }),
            };
            gradients.insert(name.clone(), values);
        }
        Ok((sum, gradients))
    }
}
