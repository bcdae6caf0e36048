//! The parameters on a device.

use std::collections::BTreeMap;

use crate::{
    backend::{Backend, BackendError},
    config::ModelConfig,
    model::{ModelError, gradients::ANGLES},
    state::{State, StateError, Tensor32},
};

/// Whether a parameter of this name and shape is a matrix or a table: what a linear map or rows are read of. The class token's
/// angles are read on the host.
pub(crate) fn is_matrix(name: &str, shape: &[usize]) -> bool {
    shape.len() >= 2 && name != ANGLES
}

/// Every parameter by its name on disk.
#[derive(Debug)]
pub(super) struct Weights<B: Backend>(BTreeMap<String, B::Buffer>);

impl<B: Backend> Weights<B> {
    /// Copies a state that fits the config to the device. `frozen` says which parameters are not trained.
    pub(super) fn upload(
        backend: &B,
        config: &ModelConfig,
        state: &State,
        frozen: impl Fn(&str) -> bool,
    ) -> Result<Self, ModelError> {
        let mut weights = BTreeMap::new();
        for (name, expected) in config.parameter_shapes() {
            let tensor =
                state.tensors.get(&name).ok_or_else(|| StateError::Missing { name: name.clone() })?;
            if tensor.shape != expected {
                let got = tensor.shape.clone();
                return Err(StateError::Shape { name, expected, got }.into());
            }
            let (expected, got) = (expected.iter().product(), tensor.values.len());
            if got != expected {
                return Err(StateError::Length { name, expected, got }.into());
            }
            let buffer = if is_matrix(&name, &tensor.shape) && frozen(&name) {
                backend.upload_frozen(&tensor.values)?
            } else {
                backend.upload(&tensor.values)?
            };
            weights.insert(name, buffer);
        }
        Ok(Self(weights))
    }

    /// Buffers of the right sizes, in canonical order, to plan with. The numbers of `frozen` parameters are such that bf16
    /// holds them.
    pub(super) fn unfilled(
        backend: &B,
        config: &ModelConfig,
        frozen: impl Fn(&str) -> bool,
    ) -> Result<Self, BackendError> {
        let buffer = |(name, shape): (String, Vec<usize>)| {
            let len = shape.iter().product();
            let half = is_matrix(&name, &shape) && frozen(&name);
            let buffer = if half { backend.scratch_frozen(len)? } else { backend.scratch(len)? };
            Ok((name, buffer))
        };
        Ok(Self(config.parameter_shapes().into_iter().map(buffer).collect::<Result<_, BackendError>>()?))
    }

    pub(super) fn download(&self, backend: &B, config: &ModelConfig) -> Result<State, BackendError> {
        let mut tensors = BTreeMap::new();
        for (name, shape) in config.parameter_shapes() {
            let values = backend.download(self.get(&name))?;
            tensors.insert(name, Tensor32 { shape, values });
        }
        Ok(State { tensors })
    }

    pub(super) fn get(&self, name: &str) -> &B::Buffer {
        self.0.get(name).expect("every parameter of the config was uploaded")
    }

    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut B::Buffer> {
        self.0.get_mut(name)
    }
}
