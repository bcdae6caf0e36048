//! What came of packing, for people and for scripts.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};
use talkoot_protocol::{
    digest::{BlobRef, Digest},
    identity::MemberId,
};

use super::Kind;
use crate::index::Totals;

/// How even the packs are.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Samples of a pack, on average.
    pub mean_segments: f64,
    /// Most samples of a pack.
    pub max_segments: u32,
    /// Attention cost of a pack (sum of squared lengths), on average.
    pub mean_cost: f64,
    /// Standard deviation of the attention cost, over its mean.
    pub cost_deviation: f64,
    /// Greatest attention cost of a pack.
    pub max_cost: u64,
}

impl Spread {
    /// The spread of packs of these kinds.
    pub fn of(kinds: &[Kind]) -> Self {
        let packs = kinds.iter().map(|kind| kind.packs).sum::<u64>().max(1) as f64;
        let mean = |value: &dyn Fn(&Kind) -> f64| {
            kinds.iter().map(|kind| value(kind) * kind.packs as f64).sum::<f64>() / packs
        };
        let mean_cost = mean(&|kind| kind.cost() as f64);
        let variance = mean(&|kind| (kind.cost() as f64 - mean_cost).powi(2));
        Self {
            mean_segments: mean(&|kind| kind.segments().into()),
            max_segments: kinds.iter().map(Kind::segments).max().unwrap_or(0),
            mean_cost,
            cost_deviation: if mean_cost > 0.0 { variance.sqrt() / mean_cost } else { 0.0 },
            max_cost: kinds.iter().map(Kind::cost).max().unwrap_or(0),
        }
    }
}

/// What came of packing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PackReport {
    /// The data set's name, as it was given.
    pub name: String,
    /// The manifest: what a run's manifest refers to.
    pub manifest: BlobRef,
    /// Digest of the manifest's content, the signature left out: the same for whoever packs the same.
    pub content: Digest,
    /// Who signed the manifest, if anybody.
    pub publisher: Option<MemberId>,
    /// The tokenizer.
    pub tokenizer: BlobRef,
    /// Rows that an embedding table needs.
    pub vocab_size: u32,
    /// Most tokens of a pack.
    pub sequence_tokens: u32,
    /// The shards, in order.
    pub shards: Vec<BlobRef>,
    /// Packs of each period, in order; empty where the data have none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub periods: Vec<u64>,
    /// How much there is.
    pub totals: Totals,
    /// Share of the sequences' room that holds tokens, 0 to 1.
    pub fill_rate: f64,
    /// How even the packs are.
    pub spread: Spread,
    /// Shortest sample, in tokens.
    pub shortest_sample: u32,
    /// Median sample, in tokens.
    pub median_sample: u32,
    /// Longest sample, in tokens.
    pub longest_sample: u32,
    /// Records read: samples and rejects together.
    pub records: u64,
    /// Records left out, by what was wrong.
    pub rejects: BTreeMap<String, u64>,
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

    /// Every blob that a member may need: manifest, tokenizer, shards.
    pub fn blobs(&self) -> Vec<BlobRef> {
        [self.manifest, self.tokenizer].into_iter().chain(self.shards.iter().copied()).collect()
    }
}
