//! From pictures and text to packed shards.
//!
//! ```text
//! records + pictures --ingest--> list of samples --measure, plan, write--> shards + manifest --PackReader--> PackedSequence
//!        ^                `--> rejects, one line each     (blobs)
//!      synth (a seed)         tokenizer (a blob)
//! ```
//!
//! Everything here is a function of its inputs to the last bit: pictures are resized in integers exactly as the
//! published model's were, the tokenizer's merges and every shuffle are our own code, maps are sorted. So the manifest
//! of a data set, a blob like its shards, names it; whoever packs the same data finds the same content.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use talkoot_dataset::{
//!     FitRules, PackInput, PackOptions, PackReader, PixelCheck, PreprocessOptions, SynthOptions,
//!     build_demo_tokenizer, pack_dataset,
//! };
//!
//! let folder = tempfile::tempdir()?;
//! let synth = SynthOptions { train_pictures: 12, heldout_pictures: 2, ..SynthOptions::default() };
//! let drawn = synth.write(&folder.path().join("data"))?;
//! let report = pack_dataset(&PackOptions {
//!     name: "alignment".into(),
//!     input: PackInput::Records { files: vec![drawn.alignment], pictures: drawn.folder },
//!     tokenizer: build_demo_tokenizer(&drawn.texts, 512)?,
//!     fit: FitRules { capacity: 256, ..FitRules::default() },
//!     shard_bytes: 1 << 20,
//!     preprocess: PreprocessOptions::default(),
//!     pixels: PixelCheck::Decode,
//!     ordered: false,
//!     seed: 1,
//!     sections: Default::default(),
//!     publisher: None,
//!     out: folder.path().join("packed"),
//! })?;
//!
//! let manifest = std::fs::read(report.path_of(&report.manifest))?;
//! let reader = PackReader::in_folder(&manifest, &report.folder)?;
//! let pack = reader.read(0)?;
//! assert_eq!(pack.tokens.len(), pack.labels.len());
//! # Ok(())
//! # }
//! ```

pub mod chat;
pub mod heldout;
pub mod index;
pub mod ingest;
pub mod inspect;
pub mod manifest;
pub mod pack;
pub mod preprocess;
pub mod progress;
mod random;
pub mod reader;
pub mod sample;
pub mod sequence;
pub mod shard;
pub mod synth;
pub mod tokenizer;
pub mod work;

pub use self::{
    heldout::HeldOutQuestion,
    index::{PackIndex, ShardEntry, Totals},
    manifest::DatasetManifest,
    pack::{FitRules, Input as PackInput, PackOptions, PackReport, PixelCheck, pack_dataset},
    preprocess::{PreprocessOptions, Rgb},
    progress::Progress,
    reader::{AheadOptions, PackReader, ReadAhead, ReadError},
    sample::{ListReader, ListWriter, PictureRef, Reject, RejectKind, Roots, Sample, SampleId},
    sequence::PackedSequence,
    synth::{QuestionKind, SynthOptions, SynthReport},
    tokenizer::{Tokenizer, build_demo_tokenizer},
};
