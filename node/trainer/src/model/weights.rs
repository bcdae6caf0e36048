//! The parameters on a device.

use std::collections::BTreeMap;

use crate::{
    backend::{Backend, BackendError},
    config::ModelConfig,
    model::ModelError,
    state::{State, StateError, Tensor32},
};

/// Every parameter by its name on disk.
#[derive(Debug)]
pub(super) struct Weights<B: Backend>(BTreeMap<String, B::Buffer>);

impl<B: Backend> Weights<B> {
    /// Copies a state that fits the config to the device.
    pub(super) fn upload(backend: &B, config: &ModelConfig, state: &State) -> Result<Self, ModelError> {
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
            weights.insert(name, backend.upload(&tensor.values)?);
        }
        Ok(Self(weights))
    }

    /// Buffers of the right sizes, in canonical order, to be written before they are read.
    pub(super) fn unfilled(backend: &B, config: &ModelConfig) -> Result<Self, BackendError> {
        let shapes = config.parameter_shapes().into_iter();
        let buffers = shapes.map(|(name, shape)| Ok((name, backend.scratch(shape.iter().product())?)));
        Ok(Self(buffers.collect::<Result<_, BackendError>>()?))
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
