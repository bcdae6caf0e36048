//! From what people have to a list of samples.
//!
//! ```text
//! folder, file, https://, hf://  --catalogue-->  files of records  --fetch-->  files that are here
//!
//! .json, .jsonl   + folder of pictures  --.
//! .tar            pictures in place       +--read-->  a piece for each file  --join-->  NAME.samples.jsonl
//! .parquet        pictures --> store      |             samples + rejects               NAME.rejects.jsonl
//! videos          frames   --> store    --'                                             NAME.ingest.json
//! ```
//!
//! Records in are samples plus rejects, always; a file that is damaged gives what stands before the damage and one
//! reject for the rest. Pictures are referred to where they lie; only what cannot be read in place (compressed
//! tables, frames of videos) is written once, untouched, into a *store*: a plain tar beside the list. Memory does not
//! depend on how much there is: records stream, and a thread holds one batch of rows, one record and one picture.
//!
//! Every file of records is a piece of its own that is whole or not there, so that after a kill the same work goes on and
//! ends with the same bytes. What comes from outside is hostile: sizes are checked before anything is allocated.

mod catalogue;
mod error;
mod fetch;
mod job;
mod options;
mod piece;
mod read;
mod report;
mod store;
pub mod table;
pub mod tar;
pub mod video;

pub use self::{
    catalogue::{Kind, SourceFile},
    error::IngestError,
    fetch::{FetchError, FetchOptions, Patience},
    job::ingest,
    options::IngestOptions,
    report::IngestReport,
    video::{Tools, VideoOptions},
};
