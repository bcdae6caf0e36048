//! All weights of a model, and the bytes that name them.
//!
//! The state hash of the ledger is [`State::digest`]: the BLAKE3 of the canonical `model.safetensors`. So a stranger
//! checks it with `b3sum model.safetensors`, and anything that reads safetensors reads the state.

use std::collections::BTreeMap;

use talkoot_protocol::digest::Digest;

use crate::config::ModelConfig;

mod canonical;
mod initial;

pub use canonical::StateError;
pub(crate) use initial::FreshValues;

/// One parameter: a dense, row-major tensor of f32.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor32 {
    /// Length of every axis, outermost first.
    pub shape: Vec<usize>,
    /// The numbers, row-major; as many as the product of `shape`.
    pub values: Vec<f32>,
}

/// Every parameter of a model by its name on disk.
///
/// The order of the map, byte order of the names, is the canonical order: of the file, of sums over parameters, of
/// everything that ends in a hash.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct State {
    /// The parameters.
    pub tensors: BTreeMap<String, Tensor32>,
}

impl State {
    /// Fresh weights, a pure function of `config` and `seed`, with the same bits on every machine.
    ///
    /// Matrices, embeddings and class angles are normal with the standard deviation of the config's
    /// `initializer_range`; norms are one, biases zero. Each parameter draws from its own `ChaCha12` stream, keyed by
    /// BLAKE3 of seed and name, through Box and Muller's transform on our own logarithm, sine and cosine.
    pub fn initial(config: &ModelConfig, seed: u64) -> Self {
        initial::initial(config, seed)
    }

    /// The canonical file: the same state gives the same bytes, whoever writes it.
    ///
    /// Header keys in canonical order, metadata `format: pt`, padded with spaces to 8 bytes, then every tensor as
    /// little-endian f32 in the same order without gaps; this is also what the safetensors crate writes.
    pub fn to_safetensors(&self) -> Vec<u8> {
        canonical::to_bytes(self)
    }

    /// Reads a canonical file for this model.
    ///
    /// # Errors
    ///
    /// [`StateError`] says which tensor is missing, surplus, misshapen, not f32 or not finite, or that the bytes are
    /// not the canonical ones (then their hash is not the state's hash).
    pub fn from_safetensors(bytes: &[u8], config: &ModelConfig) -> Result<Self, StateError> {
        canonical::from_bytes(bytes, config)
    }

    /// The state's hash: BLAKE3 of [`Self::to_safetensors`], computed without building those bytes.
    pub fn digest(&self) -> Digest {
        canonical::digest(self)
    }

    /// Checks names, shapes and lengths against a model, and that every number is finite.
    ///
    /// # Errors
    ///
    /// [`StateError`] names the first tensor that is not right.
    pub fn check(&self, config: &ModelConfig) -> Result<(), StateError> {
        canonical::check(self, config)
    }

    /// Number of parameters.
    pub fn parameter_count(&self) -> usize {
        self.tensors.values().map(|tensor| tensor.values.len()).sum()
    }
}
