//! What came of packing, for people and for the manifest.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Serialize;
use talkoot_protocol::digest::BlobRef;

use crate::{
    index::{ShardEntry, Totals},
    ingest::RejectKind,
};

/// What came of packing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PackReport {
    /// The data set's name, as it was given.
    pub name: String,
    /// The index: what a manifest refers to.
    pub index: BlobRef,
    /// The tokenizer.
    pub tokenizer: BlobRef,
    /// Rows that an embedding table needs.
    pub vocab_size: u32,
    /// Most tokens of a pack.
    pub sequence_tokens: u32,
    /// The shards, in order.
    pub shards: Vec<BlobRef>,
    /// How much there is.
    pub totals: Totals,
    /// Share of the sequences' room that holds tokens, 0 to 1.
    pub fill_rate: f64,
    /// Shortest sample, in tokens.
    pub shortest_sample: u32,
    /// Median sample, in tokens.
    pub median_sample: u32,
    /// Longest sample, in tokens.
    pub longest_sample: u32,
    /// Records read: samples and rejects together.
    pub records: u64,
    /// Records left out, by what was wrong.
    pub rejects: BTreeMap<RejectKind, u64>,
    /// The folder with the files; not part of the report's file, which is the same on every machine.
    #[serde(skip)]
    pub folder: PathBuf,
    /// The line for each reject.
    #[serde(skip)]
    pub rejects_path: PathBuf,
}

impl PackReport {
    /// The file of a blob of this data set.
    pub fn path_of(&self, blob: &BlobRef) -> PathBuf {
        self.folder.join(blob.digest.to_string())
    }

    /// Every blob that a member may need: index, tokenizer, shards.
    pub fn blobs(&self) -> Vec<BlobRef> {
        [self.index, self.tokenizer].into_iter().chain(self.shards.iter().copied()).collect()
    }
}

pub(super) fn blobs_of(shards: &[ShardEntry]) -> Vec<BlobRef> {
    shards.iter().map(|shard| shard.blob).collect()
}
