//! The one typed sample: what ingest makes, filters and balancing choose from, and packing reads.
//!
//! ```text
//! records of any layout --ingest--> samples.jsonl --filter, balance--> samples.jsonl --pack--> shards
//!                             `--> rejects.jsonl         `--> rejects.jsonl    `--> rejects.jsonl
//! ```
//!
//! A sample names its pictures, it does not hold them: a picture is a file under a [root](Roots), or a stretch of bytes
//! in an archive under one, so pictures are copied once, when they are packed, and never encoded anew. In a file a
//! sample is one line ([`list`]), so 85 million of them stream.

mod id;
pub mod list;
mod picture;
mod reject;
mod roots;

use serde::{Deserialize, Serialize};

pub use self::{
    id::SampleId,
    list::{ListError, ListReader, ListWriter, Placed},
    picture::PictureRef,
    reject::{Reject, RejectKind, RejectWriter},
    roots::Roots,
};
use crate::chat::{self, ChatError, Message};

/// Most pictures of a sample; the frames of a video count one by one.
pub const MAX_PICTURES: usize = 1_024;
/// Most turns of a sample.
pub const MAX_MESSAGES: usize = 4_096;
/// Longest name of a file, record, source, kind or licence, in bytes.
pub const MAX_NAME_BYTES: usize = 1_024;

/// Where a record stands, and under which terms it may be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Name of the source: what mixtures and reports count by.
    pub source: String,
    /// Name of the file of records, relative to what was read.
    pub file: String,
    /// Place in the file, from 0.
    pub record: u64,
    /// The record's own id, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The licence, in the words of whoever gave the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
}

/// A conversation that can be learnt from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// What every draw by hash goes by. First in a line, so that a worker can skip lines that aren't its own.
    pub id: SampleId,
    /// Where it comes from.
    pub origin: Origin,
    /// The turns; they pass [`chat::check`].
    pub messages: Vec<Message>,
    /// The pictures, in the order of their placeholders.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pictures: Vec<PictureRef>,
    /// What is asked for (`caption`, `ocr`, `count` …), where the record says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// How hard the sample is, 0 (easy) to 1, where a filter has said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difficulty: Option<f32>,
    /// How good the sample is, 0 to 1, where a filter has said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<f32>,
}

/// Why a sample is not one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SampleError {
    /// The turns are wrong.
    #[error(transparent)]
    Chat(#[from] ChatError),
    /// There is too much of something, or a name is too long.
    #[error("{what}: {got}, at most {limit} are taken")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How much there is.
        got: usize,
        /// How much there may be.
        limit: usize,
    },
    /// A picture's path is not plain.
    #[error("picture {path:?} is not a plain relative path")]
    UnsafePath {
        /// The path as it came.
        path: String,
    },
    /// A score is no number from 0 to 1.
    #[error("{what} is {got}, it must be from 0 to 1")]
    Score {
        /// Which.
        what: &'static str,
        /// Its value.
        got: f32,
    },
}

impl Sample {
    /// A sample with the [id](SampleId) that its content gives it, and without scores.
    pub fn new(origin: Origin, messages: Vec<Message>, pictures: Vec<PictureRef>) -> Self {
        let id = SampleId::of(&origin, &messages, &pictures);
        Self { id, origin, messages, pictures, kind: None, difficulty: None, quality: None }
    }

    /// Checks everything that can be checked without opening a picture.
    ///
    /// # Errors
    ///
    /// [`SampleError`] for turns that cannot be learnt from, too much of anything, unsafe paths, scores out of bounds.
    pub fn check(&self) -> Result<(), SampleError> {
        at_most("pictures", self.pictures.len(), MAX_PICTURES)?;
        at_most("turns", self.messages.len(), MAX_MESSAGES)?;
        let Origin { source, file, id, licence, .. } = &self.origin;
        let names = [Some(source), Some(file), id.as_ref(), licence.as_ref(), self.kind.as_ref()];
        for name in names.into_iter().flatten() {
            at_most("bytes of a name", name.len(), MAX_NAME_BYTES)?;
        }
        for picture in &self.pictures {
            at_most("bytes of a name", picture.root.len().max(picture.path.len()), MAX_NAME_BYTES)?;
            if !roots::is_plain(&picture.path) {
                return Err(SampleError::UnsafePath { path: picture.path.clone() });
            }
        }
        for (what, score) in [("difficulty", self.difficulty), ("quality", self.quality)] {
            if let Some(got) = score.filter(|score| !(0.0..=1.0).contains(score)) {
                return Err(SampleError::Score { what, got });
            }
        }
        Ok(chat::check(&self.messages, self.pictures.len())?)
    }
}

fn at_most(what: &'static str, got: usize, limit: usize) -> Result<(), SampleError> {
    if got > limit { Err(SampleError::TooMany { what, got, limit }) } else { Ok(()) }
}

#[cfg(test)]
pub(crate) mod tests;
