//! Why lists were not balanced.

use std::path::PathBuf;

use talkoot_dataset::{SampleId, sample::ListError, work::WorkError};

use crate::{concepts::ConceptError, config::ConfigError, embedding::EmbeddingError};

/// Why lists were not balanced.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BalanceError {
    /// An option is out of its bounds.
    #[error("{option} is {got}: {must}")]
    Option {
        /// Which.
        option: &'static str,
        /// Its value.
        got: String,
        /// What it must be.
        must: String,
    },
    /// The configuration is no good.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A list of samples cannot be read.
    #[error(transparent)]
    List(#[from] ListError),
    /// The list of concepts cannot be used.
    #[error(transparent)]
    Concepts(#[from] ConceptError),
    /// Embeddings cannot be used.
    #[error(transparent)]
    Embedding(#[from] EmbeddingError),
    /// The folder of unfinished work cannot be used.
    #[error(transparent)]
    Work(#[from] WorkError),
    /// Rows of two files cannot be compared.
    #[error(
        "rows of {} have {got} numbers, those of {} have {expected}: embed both with the same model",
        path.display(), other.display()
    )]
    Width {
        /// A file.
        path: PathBuf,
        /// Numbers of its rows.
        got: usize,
        /// Another file.
        other: PathBuf,
        /// Numbers of its rows.
        expected: usize,
    },
    /// There is not a row for each concept.
    #[error("{} has {rows} rows for {concepts} concepts; it must have one for each, in the order of the list", path.display())]
    ConceptRows {
        /// The concepts' embeddings.
        path: PathBuf,
        /// Rows in it.
        rows: u64,
        /// Concepts in the list.
        concepts: usize,
    },
    /// Some files say whose their rows are, others don't.
    #[error(
        "rows of {} have ids, those of {} have none: give ids to all or to none",
        with.display(), without.display()
    )]
    MixedIds {
        /// A file with ids.
        with: PathBuf,
        /// A file without.
        without: PathBuf,
    },
    /// A sample has no row.
    #[error(
        "sample {id} at byte {offset} of {} has no row in the embeddings{next}: embed the same lists in the same order, \
         or set concepts.without_embedding = \"no_concept\"",
        list.display()
    )]
    NoRow {
        /// The list.
        list: PathBuf,
        /// Where the sample's line starts.
        offset: u64,
        /// Which sample.
        id: SampleId,
        /// Whose row comes next.
        next: String,
    },
    /// A row belongs to no sample.
    #[error(
        "row {row} of {} is of {whose}: the embeddings are of other lists, or in another order",
        path.display()
    )]
    NoSample {
        /// The file.
        path: PathBuf,
        /// Which row, from 0.
        row: u64,
        /// Whose it is.
        whose: String,
    },
    /// Two files have the same sample's row next.
    #[error("{} and {} both have sample {id}: embed each sample once", first.display(), second.display())]
    RowTwice {
        /// A file.
        first: PathBuf,
        /// Another file.
        second: PathBuf,
        /// Which sample.
        id: SampleId,
    },
    /// A source is named that no sample has.
    #[error("no sample is of the source {name:?}; sources are {known}")]
    UnknownSource {
        /// The name.
        name: String,
        /// Names of sources that there are, the first ones.
        known: String,
    },
    /// More samples are wanted than there are.
    #[error(
        "{wanted} samples are to be drawn of {of}, but only {available} can be: lower the count, raise draw.repeats, or \
         do not drop samples without a concept"
    )]
    TooFew {
        /// Of what.
        of: String,
        /// How many are wanted.
        wanted: u64,
        /// How many can be drawn.
        available: u64,
    },
    /// There is nothing to draw from.
    #[error("the lists have no samples; ingest some first")]
    NoSamples,
    /// A list is longer than its places can say.
    #[error("{} has more than 2^48 bytes; cut it into several", list.display())]
    LongList {
        /// Which.
        list: PathBuf,
    },
    /// A list is not as it was mapped.
    #[error("{} changed while it was balanced: {reason}; balance anew without --resume", list.display())]
    Changed {
        /// Which list.
        list: PathBuf,
        /// How that shows.
        reason: String,
    },
    /// Samples were lost or doubled: a mistake of the program's.
    #[error("{samples} samples came in, but {drawn} were drawn and {left_out} left out; please report this")]
    Miscounted {
        /// Samples in.
        samples: u64,
        /// Different samples drawn.
        drawn: u64,
        /// Samples left out.
        left_out: u64,
    },
    /// The plots cannot be drawn.
    #[error("cannot draw the plots: {reason}")]
    Plot {
        /// The drawing library's words.
        reason: String,
    },
}
