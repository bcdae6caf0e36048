//! What differs between two data sets, from their manifests.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::manifest::DatasetManifest;

/// What differs between two data sets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Whether both have the same content: then nothing below differs.
    pub same: bool,
    /// Shards that both have.
    pub shards_in_both: u64,
    /// Shards of the first only.
    pub shards_removed: u64,
    /// Shards of the second only.
    pub shards_added: u64,
    /// Everything else that differs: what, in the first, in the second.
    pub changes: Vec<(String, String, String)>,
}

/// Compares two manifests; signatures are nobody's content.
pub fn diff(first: &DatasetManifest, second: &DatasetManifest) -> Difference {
    let shards = |manifest: &DatasetManifest| -> BTreeSet<_> {
        manifest.index.shards.iter().map(|shard| shard.blob.digest).collect()
    };
    let (before, after) = (shards(first), shards(second));
    let (one, two) = (facts(first), facts(second));
    let names: BTreeSet<&String> = one.keys().chain(two.keys()).collect();
    let changes = names
        .into_iter()
        .map(|name| {
            let value = |facts: &BTreeMap<String, String>| facts.get(name).cloned().unwrap_or_default();
            (name.clone(), value(&one), value(&two))
        })
        .filter(|(_, before, after)| before != after)
        .collect();
    Difference {
        same: first.content == second.content,
        shards_in_both: before.intersection(&after).count() as u64,
        shards_removed: before.difference(&after).count() as u64,
        shards_added: after.difference(&before).count() as u64,
        changes,
    }
}

/// Everything that a manifest says but the shards, by name.
fn facts(manifest: &DatasetManifest) -> BTreeMap<String, String> {
    let (index, making) = (&manifest.index, &manifest.making);
    let totals = &index.totals;
    let mut facts: BTreeMap<String, String> = [
        ("name", making.name.clone()),
        ("tool", making.tool.clone()),
        ("tokenizer", index.tokenizer.to_string()),
        ("vocab_size", index.vocab_size.to_string()),
        ("image_pad", index.image_pad.to_string()),
        ("sequence_tokens", index.sequence_tokens.to_string()),
        ("min_pixels", index.min_pixels.to_string()),
        ("max_pixels", index.max_pixels.to_string()),
        ("max_segments", making.fit.max_segments.to_string()),
        ("balance", making.fit.balance.to_string()),
        ("seed", making.seed.to_string()),
        ("shard_bytes", making.shard_bytes.to_string()),
        ("records", making.records.to_string()),
        ("packs", totals.packs.to_string()),
        ("samples", totals.samples.to_string()),
        ("tokens", totals.tokens.to_string()),
        ("learned_tokens", totals.learned_tokens.to_string()),
        ("images", totals.images.to_string()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    if !index.periods.is_empty() {
        let periods: Vec<String> = index.periods.iter().map(u64::to_string).collect();
        facts.insert("periods".into(), periods.join(" + "));
    }
    for (kind, count) in &making.rejects {
        facts.insert(format!("rejects: {kind}"), count.to_string());
    }
    for source in &making.sources {
        let licence = source.licence.as_deref().unwrap_or("no licence given");
        facts.insert(format!("source: {}, {licence}", source.source), source.samples.to_string());
    }
    for (name, section) in &making.sections {
        let digest = blake3::hash(section).to_hex();
        facts.insert(format!("section: {name}"), format!("{} bytes, {}", section.len(), &digest[..8]));
    }
    facts
}
