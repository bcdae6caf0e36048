//! Why a round cannot be executed.

use talkoot_trainer::{
    aggregate::AggregateError,
    contribution::{DecodeError, EncodeError, FeedbackError, LayoutError},
    inner::InnerError,
    snapshot::SnapshotError,
};

/// Why a round cannot be executed or aggregated here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecutionError {
    /// The manifest has no stage in this place.
    #[error("the manifest has no stage {stage}")]
    NoSuchStage {
        /// Place of the stage.
        stage: u32,
    },
    /// The state lacks a tensor that the stage trains.
    #[error("the start state has no tensor `{name}`, which the stage trains")]
    MissingTensor {
        /// Name of the tensor.
        name: String,
    },
    /// Not all contributions are there that a round's moments come from.
    #[error("the round's moments come from {expected} contributions, {got} are there")]
    Precedent {
        /// As many as the ledger has.
        expected: usize,
        /// As many as were given.
        got: usize,
    },
    /// A training state is of another step than it was given for.
    #[error("the training state is the one before step {got} of its stage, and not before step {expected}")]
    StateOfAnotherStep {
        /// The step asked for.
        expected: u64,
        /// The step that it says.
        got: u64,
    },
    /// A training state is none of this stage.
    #[error("the training state cannot be used: {0}")]
    Snapshot(#[from] SnapshotError),
    /// What somebody says to have learnt cannot be read.
    #[error("what is to be compared cannot be read: {reason}")]
    Claim {
        /// Why.
        reason: String,
    },
    /// The inner steps failed.
    #[error(transparent)]
    Inner(#[from] InnerError),
    /// The trainable tensors make no layout.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The error-feedback buffer is not one.
    #[error("the error-feedback buffer cannot be read: {0}")]
    Feedback(#[from] FeedbackError),
    /// The pseudo-gradient cannot be encoded.
    #[error("the pseudo-gradient cannot be encoded: {0}")]
    Encode(#[from] EncodeError),
    /// A contribution cannot be decoded.
    #[error("the contribution cannot be decoded: {0}")]
    Decode(#[from] DecodeError),
    /// The outer step failed.
    #[error("the outer step failed: {0}")]
    Aggregate(#[from] AggregateError),
}
