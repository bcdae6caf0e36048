//! The canonical safetensors file of a state.

use std::{collections::BTreeMap, fmt::Write as _};

use safetensors::{Dtype, SafeTensors};
use talkoot_protocol::digest::Digest;

use super::{State, Tensor32};
use crate::config::ModelConfig;

/// Weights that are not a state of the model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The bytes are no safetensors file.
    #[error("the weights are no safetensors file")]
    NotSafetensors(#[from] safetensors::SafeTensorError),
    /// A parameter of the model isn't there.
    #[error("tensor {name} is missing: is this the checkpoint of another model?")]
    Missing {
        /// Name on disk.
        name: String,
    },
    /// A tensor that the model doesn't have.
    #[error("tensor {name} is not part of the model: is this the checkpoint of another model?")]
    Surplus {
        /// Name on disk, cut to 200 characters.
        name: String,
    },
    /// A tensor of the wrong shape.
    #[error("tensor {name} has shape {got:?}, but the model's config asks for {expected:?}")]
    Shape {
        /// Name on disk.
        name: String,
        /// Shape that the config asks for.
        expected: Vec<usize>,
        /// Shape that was found.
        got: Vec<usize>,
    },
    /// A tensor whose values are not as many as its shape says.
    #[error("tensor {name} has {got} values, but its shape holds {expected}")]
    Length {
        /// Name on disk.
        name: String,
        /// Product of the shape.
        expected: usize,
        /// Number of values.
        got: usize,
    },
    /// A number type that is not read here.
    #[error("tensor {name} is stored as {got}, but a state is f32: convert the checkpoint first")]
    Dtype {
        /// Name on disk.
        name: String,
        /// The number type that was found.
        got: String,
    },
    /// An infinity or a NaN among the weights.
    #[error("tensor {name} holds {value} at index {index}: the weights are damaged")]
    NotFinite {
        /// Name on disk.
        name: String,
        /// Index of the first such number, row-major.
        index: usize,
        /// The number.
        value: f32,
    },
    /// Readable, but not the bytes that the state's hash is taken over.
    #[error(
        "the file is readable but not in canonical form, so its hash would not be the state's: write it again"
    )]
    NotCanonical,
}

/// Checks one tensor's shape and numbers.
fn check_tensor(name: &str, tensor: &Tensor32, expected: &[usize]) -> Result<(), StateError> {
    if tensor.shape != expected {
        let (expected, got) = (expected.to_vec(), tensor.shape.clone());
        return Err(StateError::Shape { name: name.to_owned(), expected, got });
    }
    let (expected, got) = (tensor.shape.iter().product(), tensor.values.len());
    if got != expected {
        return Err(StateError::Length { name: name.to_owned(), expected, got });
    }
    match tensor.values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(index) => {
            Err(StateError::NotFinite { name: name.to_owned(), index, value: tensor.values[index] })
        }
    }
}

pub(super) fn check(state: &State, config: &ModelConfig) -> Result<(), StateError> {
    let shapes = config.parameter_shapes();
    if let Some(name) = state.tensors.keys().find(|name| !shapes.contains_key(*name)) {
        return Err(StateError::Surplus { name: name.chars().take(200).collect() });
    }
    for (name, shape) in &shapes {
        let tensor = state.tensors.get(name).ok_or_else(|| StateError::Missing { name: name.clone() })?;
        check_tensor(name, tensor, shape)?;
    }
    Ok(())
}

/// Length of the header as 8 little-endian bytes, then the header, padded.
fn header<'a>(shapes: impl Iterator<Item = (&'a String, &'a Vec<usize>)>) -> Vec<u8> {
    let mut json = String::from(r#"{"__metadata__":{"format":"pt"}"#);
    let mut start = 0;
    for (name, shape) in shapes {
        let end = start + 4 * shape.iter().product::<usize>();
        // names come from our own table of shapes: nothing in them needs escaping
        let dims = shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        write!(json, r#","{name}":{{"dtype":"F32","shape":[{dims}],"data_offsets":[{start},{end}]}}"#)
            .expect("writing to a string does not fail");
        start = end;
    }
    json.push('}');
    while !json.len().is_multiple_of(8) {
        json.push(' ');
    }
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(json.as_bytes());
    bytes
}

fn header_of(state: &State) -> Vec<u8> {
    header(state.tensors.iter().map(|(name, tensor)| (name, &tensor.shape)))
}

fn little_endian(values: &[f32]) -> impl Iterator<Item = u8> + '_ {
    values.iter().flat_map(|value| value.to_le_bytes())
}

pub(super) fn to_bytes(state: &State) -> Vec<u8> {
    let mut bytes = header_of(state);
    bytes.reserve(4 * state.parameter_count());
    for tensor in state.tensors.values() {
        bytes.extend(little_endian(&tensor.values));
    }
    bytes
}

pub(super) fn digest(state: &State) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&header_of(state));
    let mut buffer = Vec::with_capacity(1 << 18);
    for tensor in state.tensors.values() {
        for part in tensor.values.chunks(1 << 16) {
            buffer.clear();
            buffer.extend(little_endian(part));
            hasher.update(&buffer);
        }
    }
    Digest::from_bytes(*hasher.finalize().as_bytes())
}

pub(super) fn from_bytes(bytes: &[u8], config: &ModelConfig) -> Result<State, StateError> {
    let file = SafeTensors::deserialize(bytes)?;
    let shapes = config.parameter_shapes();
    if let Some(name) = file.names().into_iter().find(|name| !shapes.contains_key(*name)) {
        return Err(StateError::Surplus { name: name.chars().take(200).collect() });
    }
    let mut tensors = BTreeMap::new();
    for (name, shape) in &shapes {
        let view = file.tensor(name).map_err(|_| StateError::Missing { name: name.clone() })?;
        if view.dtype() != Dtype::F32 {
            return Err(StateError::Dtype { name: name.clone(), got: format!("{:?}", view.dtype()) });
        }
        let (words, _) = view.data().as_chunks::<4>();
        let values = words.iter().map(|&word| f32::from_le_bytes(word)).collect();
        let tensor = Tensor32 { shape: view.shape().to_vec(), values };
        check_tensor(name, &tensor, shape)?;
        tensors.insert(name.clone(), tensor);
    }
    if !bytes.starts_with(&header(shapes.iter())) {
        return Err(StateError::NotCanonical);
    }
    Ok(State { tensors })
}
