//! The file form of samples: JSON lines with a head and an end.
//!
//! ```text
//! {"list":"talkoot samples","version":1,"roots":{"coco":"/data/coco","store":"store"}}
//! {"id":"5f…","origin":{"source":"coco","file":"a.json","record":0},"messages":[…],"pictures":[…]}
//! …
//! {"samples":85000000}
//! ```
//!
//! A root that is relative is so to the list's folder. The last line tells a whole list from one that was cut off. Lines
//! can be read one after another, or at an offset that an earlier reading told.

mod read;
mod write;

use std::{collections::BTreeMap, io, path::PathBuf};

use serde::{Deserialize, Serialize};

pub use self::read::{ListReader, Placed, read_at};
pub use self::write::ListWriter;
pub(crate) use self::write::PartFile;
use super::SampleError;

/// Longest line of a file of records or samples, in bytes.
pub const MAX_LINE_BYTES: u64 = 16 << 20;
/// Most roots of a list.
pub const MAX_ROOTS: usize = 4_096;

const LIST: &str = "talkoot samples";
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    list: String,
    version: u32,
    roots: BTreeMap<String, PathBuf>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    samples: u64,
}

/// Why a list of samples cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListError {
    /// The file, or the folder of a root, cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file does not begin as a list of samples does.
    #[error("{} is not a list of samples: {reason}; make one with `talkoot dataset ingest`", path.display())]
    NotAList {
        /// Which.
        path: PathBuf,
        /// What is wrong with its first line.
        reason: String,
    },
    /// A line is no sample.
    #[error("{} has a bad line at byte {offset}: {reason}; make the list again", path.display())]
    BadLine {
        /// Which list.
        path: PathBuf,
        /// Where the line starts.
        offset: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The list stops before its end, or its count is not the number of its samples.
    #[error("{} is cut off: {reason}; make or copy it again", path.display())]
    CutOff {
        /// Which.
        path: PathBuf,
        /// How that shows.
        reason: String,
    },
}

impl From<SampleError> for io::Error {
    fn from(error: SampleError) -> Self {
        Self::new(io::ErrorKind::InvalidInput, error)
    }
}
