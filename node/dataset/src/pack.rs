//! From records to a packed data set: measure, pack, write shards and an index.
//!
//! ```text
//! records --ingest--> samples --measure--> lengths --best fit decreasing--> packs --seeded order--> shards + index
//!              `-----------------`---> rejects, one line each
//! ```
//!
//! Two passes over the pictures: the first decodes each to find out whether it can be and how long its sample is, the
//! second writes. Only lengths are kept in between, so that memory does not grow with the pictures. The same records,
//! pictures, tokenizer and options write the same bytes, on any number of threads.

mod fit;
mod report;
mod write;

use std::{
    io,
    path::{Path, PathBuf},
};

use rayon::prelude::*;

pub use self::{fit::best_fit_decreasing, report::PackReport};
use crate::{
    chat::{self, ChatError, Encoded},
    index::{IndexError, MAX_SEQUENCE_TOKENS},
    ingest::{self, IngestError, Reject, RejectKind, Roots, Sample},
    preprocess::{PreprocessOptions, Rgb, TOKEN_SIDE},
    random::Dice,
    tokenizer::{Tokenizer, TokenizerError},
};

/// Most bytes that a shard may be set to have.
pub const MAX_SHARD_BYTES: u64 = 4 << 30;

/// What to pack, and how.
#[derive(Debug, Clone)]
pub struct PackOptions {
    /// What the data set is called in the names of its files: letters, digits, `-` and `_`.
    pub name: String,
    /// Files of records, JSON or JSONL.
    pub records: Vec<PathBuf>,
    /// The folder that the records' pictures are relative to.
    pub pictures: PathBuf,
    /// The bytes of `tokenizer.json`.
    pub tokenizer: Vec<u8>,
    /// Most tokens of a pack.
    pub sequence_tokens: u32,
    /// Most bytes of a shard.
    pub shard_bytes: u64,
    /// What pictures are made to fit.
    pub preprocess: PreprocessOptions,
    /// Sets the order of the packs, and which samples of one length meet.
    pub seed: u64,
    /// Where the files go; made when it isn't there.
    pub out: PathBuf,
}

/// Why a data set was not packed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
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
    /// A file of records cannot be read.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// The tokenizer is no good, or refused a text.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// No record is usable.
    #[error("none of {records} records is usable; the reasons are in {}", rejects.display())]
    NothingLeft {
        /// How many there were.
        records: u64,
        /// The rejects file.
        rejects: PathBuf,
    },
    /// A picture was well when it was measured and isn't any more.
    #[error("the data changed while it was packed: record {record} of {file}: {reason}; pack again")]
    Changed {
        /// The file of records.
        file: String,
        /// The record's place in it.
        record: u64,
        /// What is different.
        reason: String,
    },
    /// One pack alone is longer than a shard may be.
    #[error("a pack takes {bytes} bytes, a shard may have {limit}; raise shard_bytes")]
    ShardTooSmall {
        /// Bytes of a shard with that one pack.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The index cannot be written.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A report cannot be written as JSON.
    #[error("cannot write a report as JSON")]
    Json(#[from] serde_json::Error),
}

impl PackOptions {
    fn check(&self) -> Result<(), PackError> {
        let wrong = |option, got: String, must: String| Err(PackError::Option { option, got, must });
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if self.name.is_empty() || self.name.len() > 64 || !self.name.chars().all(plain) {
            return wrong("name", format!("{:?}", self.name), "1 to 64 letters, digits, '-' or '_'".into());
        }
        if !(1..=MAX_SEQUENCE_TOKENS).contains(&self.sequence_tokens) {
            return wrong(
                "sequence_tokens",
                self.sequence_tokens.to_string(),
                format!("1 to {MAX_SEQUENCE_TOKENS}"),
            );
        }
        let PreprocessOptions { min_pixels, max_pixels, .. } = self.preprocess;
        if min_pixels > max_pixels || max_pixels < TOKEN_SIDE * TOKEN_SIDE {
            let must = format!("at least min_pixels ({min_pixels}) and {TOKEN_SIDE} x {TOKEN_SIDE}");
            return wrong("max_pixels", max_pixels.to_string(), must);
        }
        if !(1024..=MAX_SHARD_BYTES).contains(&self.shard_bytes) {
            return wrong("shard_bytes", self.shard_bytes.to_string(), format!("1024 to {MAX_SHARD_BYTES}"));
        }
        Ok(())
    }
}

/// A sample's tokens and its pictures, resized.
struct Ready {
    encoded: Encoded,
    pictures: Vec<Rgb>,
}

/// Makes a sample ready to be stored, or says why not.
fn prepare(
    sample: &Sample,
    options: &PackOptions,
    roots: &Roots,
    tokenizer: &Tokenizer,
) -> Result<Ready, (RejectKind, String)> {
    let pictures = sample
        .pictures
        .iter()
        .map(|picture| {
            let bytes = roots.read(picture, options.preprocess.limits.file_bytes)?;
            let loaded = options.preprocess.load_bytes(&bytes, Path::new(&picture.name()));
            loaded.map_err(|error| (RejectKind::BadPicture, error.to_string()))
        })
        .collect::<Result<Vec<_>, _>>()?;
    if let Some(picture) = pictures.iter().find(|p| p.width.max(p.height) > u32::from(u16::MAX)) {
        let reason = format!("{}x{} pixels after resizing", picture.width, picture.height);
        return Err((RejectKind::BadPicture, reason));
    }
    let sizes: Vec<usize> = pictures.iter().map(Rgb::llm_tokens).collect();
    // Before the tokens of a huge picture are written out.
    let least: usize = sizes.iter().sum();
    let limit = options.sequence_tokens as usize;
    let too_long =
        |got: usize| (RejectKind::TooLong, format!("{got} tokens or more, a sequence has {limit}"));
    if least > limit {
        return Err(too_long(least));
    }
    let encoded =
        chat::encode_for_training(&sample.messages, &sizes, tokenizer).map_err(|error| match error {
            ChatError::Tokenizer(error) => (RejectKind::Malformed, error.to_string()),
            other => (RejectKind::Conversation, other.to_string()),
        })?;
    if encoded.tokens.len() > limit {
        return Err(too_long(encoded.tokens.len()));
    }
    Ok(Ready { encoded, pictures })
}

/// Packs a data set into [`PackOptions::out`]: a file for each shard, for the index and for the tokenizer, named by
/// their digests, and for people `<name>.index` (the index again), `<name>.report.json` and `<name>.rejects.jsonl`.
///
/// # Errors
///
/// [`PackError`]; what is wrong with single records is no error but a line of the rejects file.
pub fn pack_dataset(options: &PackOptions) -> Result<PackReport, PackError> {
    options.check()?;
    let tokenizer = Tokenizer::from_bytes(&options.tokenizer)?;
    let ingested = ingest::ingest(&options.records, &options.pictures)?;
    tracing::debug!(records = ingested.records, rejects = ingested.rejects.len(), "records read");

    let measured: Vec<Result<u32, (RejectKind, String)>> = ingested
        .samples
        .par_iter()
        .map(|sample| {
            prepare(sample, options, &ingested.roots, &tokenizer)
                .map(|ready| ready.encoded.tokens.len() as u32)
        })
        .collect();
    let mut rejects = ingested.rejects;
    let (mut samples, mut lengths) = (Vec::new(), Vec::new());
    for (sample, outcome) in ingested.samples.into_iter().zip(measured) {
        match outcome {
            Ok(length) => {
                samples.push(sample);
                lengths.push(length);
            }
            Err((kind, reason)) => rejects.push(Reject::new(sample.origin, kind, reason)),
        }
    }
    let writer = write::Writer::new(options, &ingested.roots, &tokenizer)?;
    writer.rejects(&mut rejects)?;
    if samples.is_empty() {
        return Err(PackError::NothingLeft { records: ingested.records, rejects: writer.rejects_path() });
    }
    let packs = arrange(&lengths, options.sequence_tokens, options.seed);
    let (index, totals) = writer.shards(&samples, &lengths, &packs)?;
    writer.report(ingested.records, &rejects, &lengths, index, totals)
}

/// Samples to packs, in the order of the shards.
fn arrange(lengths: &[u32], sequence_tokens: u32, seed: u64) -> Vec<Vec<usize>> {
    let mut dice = Dice::new("pack order", seed);
    // Which of many samples of one length meet must not follow the order of the records.
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    dice.shuffle(&mut order);
    let mut packs = best_fit_decreasing(&order, lengths, sequence_tokens);
    dice.shuffle(&mut packs);
    packs
}

#[cfg(test)]
mod tests;
