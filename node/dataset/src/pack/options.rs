//! What to pack, how, and which share of the work.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};
use talkoot_protocol::{identity::Keypair, manifest::MAX_PERIODS};

use super::{FitRules, PackError};
use crate::{
    index::MAX_SEQUENCE_TOKENS,
    manifest::MAX_SECTION_BYTES,
    preprocess::{PreprocessOptions, TOKEN_SIDE},
    work::{MAX_LISTS, PLAIN_NAME, Part, is_plain_name},
};

/// Most bytes that a shard may be set to have.
pub const MAX_SHARD_BYTES: u64 = 4 << 30;

/// Where the samples come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Lists of samples, as ingest, filter and balance leave them.
    Lists(Vec<PathBuf>),
    /// Records in the LLaVA layout, JSON or JSONL, and the folder that their pictures are relative to.
    Records {
        /// The files of records.
        files: Vec<PathBuf>,
        /// The picture folder.
        pictures: PathBuf,
    },
}

/// How well pictures are looked at before their places are dealt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PixelCheck {
    /// Every picture is decoded: one that cannot be is a reject.
    #[default]
    Decode,
    /// Only heads are read, for samples whose pictures a filter has decoded. A picture that is damaged all the same is
    /// found when its pack is read, and stops whoever trains on it.
    Head,
}

/// What to pack, and how.
#[derive(Debug, Clone)]
pub struct PackOptions {
    /// What the data set is called in the names of its files: letters, digits, `-` and `_`.
    pub name: String,
    /// Where the samples come from.
    pub input: Input,
    /// The bytes of `tokenizer.json`.
    pub tokenizer: Vec<u8>,
    /// What a pack may be.
    pub fit: FitRules,
    /// Most bytes of a shard.
    pub shard_bytes: u64,
    /// What pictures are made to fit.
    pub preprocess: PreprocessOptions,
    /// How well pictures are looked at.
    pub pixels: PixelCheck,
    /// Whether each list is a period: the packs of the first come first, and so on.
    pub ordered: bool,
    /// Sets the order of samples and packs.
    pub seed: u64,
    /// What was done to the samples before, by name: goes into the manifest as it is.
    pub sections: BTreeMap<String, Vec<u8>>,
    /// Signs the manifest.
    pub publisher: Option<Keypair>,
    /// Where the files go; made when it isn't there.
    pub out: PathBuf,
}

/// What to do of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Everything, in this process.
    All,
    /// Measure the samples of a hash range.
    Measure(Part),
    /// Plan the packs, when all ranges are measured.
    Plan,
    /// Write a share of the shards.
    Write(Part),
    /// Write the manifest, when all shards are written.
    Finish,
}

impl PackOptions {
    /// The folder of unfinished work.
    pub(super) fn work_folder(&self) -> PathBuf {
        self.out.join(format!("{}.work", self.name))
    }

    pub(super) fn check(&self) -> Result<(), PackError> {
        let wrong = |option, got: String, must: String| Err(PackError::Option { option, got, must });
        if !is_plain_name(&self.name) {
            return wrong("name", format!("{:?}", self.name), PLAIN_NAME.into());
        }
        if let Input::Lists(lists) = &self.input
            && !(1..=MAX_LISTS).contains(&lists.len())
        {
            return wrong("lists", lists.len().to_string(), format!("1 to {MAX_LISTS}"));
        }
        if self.ordered {
            let Input::Lists(lists) = &self.input else {
                return wrong(
                    "ordered",
                    "set for records".into(),
                    "used with lists, one for each period (--samples)".into(),
                );
            };
            if lists.len() > MAX_PERIODS {
                return wrong(
                    "lists",
                    lists.len().to_string(),
                    format!("at most {MAX_PERIODS} when ordered"),
                );
            }
        }
        let FitRules { capacity, max_segments, .. } = self.fit;
        if !(1..=MAX_SEQUENCE_TOKENS).contains(&capacity) {
            return wrong("sequence_tokens", capacity.to_string(), format!("1 to {MAX_SEQUENCE_TOKENS}"));
        }
        if max_segments == 0 {
            return wrong("max_segments", "0".into(), "at least 1".into());
        }
        let PreprocessOptions { min_pixels, max_pixels, .. } = self.preprocess;
        if min_pixels > max_pixels || max_pixels < TOKEN_SIDE * TOKEN_SIDE {
            let must = format!("at least min_pixels ({min_pixels}) and {TOKEN_SIDE} x {TOKEN_SIDE}");
            return wrong("max_pixels", max_pixels.to_string(), must);
        }
        if !(2048..=MAX_SHARD_BYTES).contains(&self.shard_bytes) {
            return wrong("shard_bytes", self.shard_bytes.to_string(), format!("2048 to {MAX_SHARD_BYTES}"));
        }
        if let Some((name, section)) = self.sections.iter().find(|(_, s)| s.len() > MAX_SECTION_BYTES) {
            let must = format!("at most {MAX_SECTION_BYTES} bytes");
            return wrong("section", format!("{name:?} of {} bytes", section.len()), must);
        }
        Ok(())
    }
}
