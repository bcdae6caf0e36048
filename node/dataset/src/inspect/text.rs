//! What a manifest says and what is in some packs, in a few lines.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{InspectError, stretch::stretches};
use crate::{manifest::DatasetManifest, reader::PackReader, shard::PackedSample, tokenizer::Tokenizer};

/// Kinds of token that a histogram lists.
const LISTED: usize = 20;
/// Shards that are listed one by one.
const SHARDS_LISTED: usize = 20;

/// What a manifest says, in a few lines.
pub fn describe_manifest(manifest: &DatasetManifest) -> String {
    let (index, making) = (&manifest.index, &manifest.making);
    let totals = &index.totals;
    let mut out = String::new();
    let mut line = |what: &str, value: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{what:<16} {value}");
    };
    line("name", format!("{}, by {}", making.name, making.tool));
    line("content", manifest.content.to_string());
    line("signed by", manifest.publisher.map_or("nobody".into(), |key| key.to_string()));
    line("packs", format!("{} of at most {} tokens", totals.packs, index.sequence_tokens));
    let periods: Vec<String> = index.periods.iter().map(u64::to_string).collect();
    if !periods.is_empty() {
        line(
            "periods",
            format!("{} of {} packs, learnt one after another", periods.len(), periods.join(", ")),
        );
    }
    line(
        "samples",
        format!("{}, {:.2} a pack", totals.samples, totals.samples as f64 / totals.packs.max(1) as f64),
    );
    line("tokens", format!("{} ({} learnt)", totals.tokens, totals.learned_tokens));
    line("pictures", format!("{} of {} to {} pixels", totals.images, index.min_pixels, index.max_pixels));
    line("fill", format!("{:.2} %", totals.fill_rate(index.sequence_tokens) * 100.0));
    line("tokenizer", format!("{} ({} ids)", index.tokenizer, index.vocab_size));
    let rejects: u64 = making.rejects.values().sum();
    line("records", format!("{} = {} samples + {rejects} rejects", making.records, totals.samples));
    making.rejects.iter().for_each(|(kind, count)| line("", format!("{count} {kind}")));
    let fit = &making.fit;
    line(
        "rules",
        format!("at most {} samples a pack, balance {}, seed {}", fit.max_segments, fit.balance, making.seed),
    );
    for source in &making.sources {
        let licence = source.licence.as_deref().unwrap_or("no licence given");
        line("source", format!("{}: {} samples, {licence}", source.source, source.samples));
    }
    for (name, section) in &making.sections {
        let shown = std::str::from_utf8(section).ok().filter(|text| text.len() <= 2_000);
        line(name, shown.map_or_else(|| format!("{} bytes", section.len()), str::to_owned));
    }
    for (at, shard) in index.shards.iter().take(SHARDS_LISTED).enumerate() {
        line(&format!("shard {at}"), format!("{} ({} packs)", shard.blob, shard.packs));
    }
    if let Some(more) = index.shards.len().checked_sub(SHARDS_LISTED).filter(|&more| more > 0) {
        line("", format!("and {more} more shards"));
    }
    out
}

/// Lengths of samples and commonest tokens of the first `packs` packs, and the first sample as text: what is learnt
/// between `«` and `»`, a picture's places as their number.
///
/// # Errors
///
/// [`InspectError`] when one of them cannot be read.
pub fn describe_packs(
    reader: &PackReader,
    tokenizer: &Tokenizer,
    packs: u64,
) -> Result<String, InspectError> {
    let mut lengths: BTreeMap<usize, u64> = BTreeMap::new();
    let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
    let mut first = None;
    let packs = packs.min(reader.packs());
    for pack in 0..packs {
        for sample in reader.with_parts(pack, |parts| Ok(parts.samples))? {
            *lengths.entry(sample.tokens.len() / 16 * 16).or_default() += 1;
            sample.tokens.iter().for_each(|&token| *counts.entry(token).or_default() += 1);
            first.get_or_insert(sample);
        }
    }
    let mut out = String::new();
    let samples: u64 = lengths.values().sum();
    let tokens: u64 = counts.values().sum();
    let _ = writeln!(out, "{packs} packs, {samples} samples, {tokens} tokens\n\ntokens of a sample:");
    let most = lengths.values().max().copied().unwrap_or(1);
    for (from, count) in &lengths {
        let bar = "#".repeat((count * 40 / most) as usize);
        let _ = writeln!(out, "{from:>6}..{:<6} {count:>7} {bar}", from + 16);
    }
    let mut common: Vec<_> = counts.into_iter().collect();
    common.sort_by_key(|&(token, count)| (std::cmp::Reverse(count), token));
    let _ = writeln!(out, "\ncommonest tokens:");
    for (token, count) in common.into_iter().take(LISTED) {
        let _ = writeln!(out, "{token:>6} {count:>7} {:?}", tokenizer.decode_all(&[token])?);
    }
    if let Some(first) = first {
        let _ = writeln!(out, "\nfirst sample, {}:\n{}", origin(&first), show(&first, tokenizer)?);
    }
    Ok(out)
}

/// Where a sample comes from, in a line.
pub(super) fn origin(sample: &PackedSample) -> String {
    let origin = &sample.origin;
    let id = origin.id.as_ref().map_or_else(String::new, |id| format!(" ({id})"));
    let licence = origin.licence.as_deref().unwrap_or("no licence given");
    format!("record {}{id} of {}, source {}, {licence}", origin.record, origin.file, origin.source)
}

fn show(sample: &PackedSample, tokenizer: &Tokenizer) -> Result<String, InspectError> {
    let mut out = String::new();
    for stretch in stretches(sample, tokenizer)? {
        let text = stretch.text.unwrap_or_else(|| format!("[{} x <|image_pad|>]", stretch.tokens));
        out.push_str(&if stretch.learned { format!("«{text}»") } else { text });
    }
    Ok(out)
}
