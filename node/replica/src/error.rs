//! Why a member cannot follow a run.

use std::path::PathBuf;

use talkoot_dataset::{ReadError, index::IndexError};
use talkoot_execution::{ConfigFileError, ExecutionError};
use talkoot_ledger::MirrorError;
use talkoot_network::{FetchError, StoreError};
use talkoot_protocol::{manifest::RunId, run::RuleError};
use talkoot_trainer::state::StateError;

/// Why a member cannot follow a run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplicaError {
    /// The member's copy of the ledger.
    #[error("{}", chain(.0))]
    Mirror(#[from] MirrorError),
    /// The operator put an entry into the log that breaks a rule. The copy keeps it as evidence.
    #[error(
        "entry {index} of the ledger breaks a rule: {source}; this member refuses to go on, and keeps the entry in {}",
        mirror.display()
    )]
    BrokenRule {
        /// Index of the entry.
        index: u64,
        /// The member's copy of the ledger.
        mirror: PathBuf,
        /// The rule.
        source: RuleError,
    },
    /// The operator has signed two histories.
    #[error(
        "the log's operator has signed two histories; this member takes no part in either, and keeps the evidence in {}: publish it, anybody can check it",
        evidence.display()
    )]
    Forked {
        /// Where the evidence is kept.
        evidence: PathBuf,
    },
    /// Somebody answered with another run's manifest.
    #[error("the run {} was asked for, but the manifest that came is that of {}", expected.short(), got.short())]
    OtherRun {
        /// The run of the join link.
        expected: RunId,
        /// The run that came.
        got: RunId,
    },
    /// The coordinator's log key cannot be read.
    #[error("the manifest's log key cannot be read: {reason}")]
    LogKey {
        /// What is wrong with it.
        reason: String,
    },
    /// A receipt of one's own statement could not be kept.
    #[error("the receipt {} cannot be kept: {reason}", path.display())]
    Receipt {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
    /// A blob could not be had.
    #[error("{}", chain(.0))]
    Fetch(#[from] FetchError),
    /// The blob store failed.
    #[error("{}", chain(.0))]
    Store(#[from] StoreError),
    /// The model's config is wrong.
    #[error(transparent)]
    Config(#[from] ConfigFileError),
    /// A state is not one of the model.
    #[error("a state blob is refused: {}", chain(.0))]
    State(#[from] StateError),
    /// A data set's index is wrong.
    #[error("a data set's index is refused: {}", chain(.0))]
    Index(#[from] IndexError),
    /// A shard cannot be read.
    #[error("{}", chain(.0))]
    Packs(#[from] ReadError),
    /// Training or aggregation failed.
    #[error("{}", chain(.0))]
    Execution(#[from] ExecutionError),
    /// The manifest has no such stage.
    #[error("the manifest has no stage {stage}")]
    NoSuchStage {
        /// Place of the stage.
        stage: u32,
    },
    /// A worker thread died.
    #[error("a worker thread panicked; the log of this process says where")]
    Panicked,
}

/// An error with all of its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
