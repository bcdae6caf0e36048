//! Looking into an index or a shard: text for people.

use std::{collections::BTreeMap, fmt::Write as _};

use crate::{
    index::PackIndex,
    sequence::PackedSequence,
    shard::{self, HEAD_BYTES, ShardFault},
    tokenizer::{Tokenizer, TokenizerError},
};

/// Kinds of token that a histogram lists.
const LISTED: usize = 20;

/// Why a shard cannot be shown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// The shard is badly made.
    #[error(transparent)]
    Shard(#[from] ShardFault),
    /// The tokens cannot be written as text.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The shard has no packs.
    #[error("the shard has no packs")]
    Empty,
}

/// What an index says, in a few lines.
pub fn describe_index(index: &PackIndex) -> String {
    let totals = &index.totals;
    let mut out = String::new();
    let mut line = |what: &str, value: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{what:<16} {value}");
    };
    line("packs", format!("{} of at most {} tokens", totals.packs, index.sequence_tokens));
    line("samples", totals.samples.to_string());
    line("tokens", format!("{} ({} learnt)", totals.tokens, totals.learned_tokens));
    line("pictures", format!("{} of {} to {} pixels", totals.images, index.min_pixels, index.max_pixels));
    line("fill", format!("{:.1} %", totals.fill_rate(index.sequence_tokens) * 100.0));
    line("tokenizer", format!("{} ({} ids)", index.tokenizer, index.vocab_size));
    for (at, shard) in index.shards.iter().enumerate() {
        line(&format!("shard {at}"), format!("{} ({} packs)", shard.blob, shard.packs));
    }
    out
}

/// Counts, the lengths of samples, the commonest tokens and one sample as text.
///
/// # Errors
///
/// [`InspectError`] when any pack of the shard is badly made.
pub fn describe_shard(bytes: &[u8], tokenizer: &Tokenizer) -> Result<String, InspectError> {
    let (rules, packs) = shard::decode_head(bytes)?;
    let table = &bytes[HEAD_BYTES.min(bytes.len())..];
    let starts = shard::decode_table(table, packs, bytes.len() as u64)?;
    let mut lengths: BTreeMap<u32, u64> = BTreeMap::new();
    let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
    let (mut learned, mut images, mut first) = (0, 0, None);
    for ends in starts.windows(2) {
        let pack = shard::decode_pack(&bytes[ends[0] as usize..ends[1] as usize], &rules)?;
        pack.sample_lengths.iter().for_each(|length| *lengths.entry(length / 16 * 16).or_default() += 1);
        pack.tokens.iter().for_each(|&token| *counts.entry(token).or_default() += 1);
        learned += pack.learned_tokens();
        images += pack.images.len();
        first.get_or_insert(pack);
    }
    let first = first.ok_or(InspectError::Empty)?;

    let mut out = String::new();
    let tokens: u64 = counts.values().sum();
    let samples: u64 = lengths.values().sum();
    let _ = writeln!(
        out,
        "{packs} packs, {samples} samples, {tokens} tokens ({learned} learnt), {images} pictures"
    );
    let _ = writeln!(out, "\ntokens of a sample:");
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
    let _ = writeln!(out, "\nfirst sample:\n{}", show_sample(&first, tokenizer)?);
    Ok(out)
}

/// The first sample of a pack as text, what is learnt between `«` and `»`, a row of picture tokens as their number.
fn show_sample(pack: &PackedSequence, tokenizer: &Tokenizer) -> Result<String, TokenizerError> {
    let length = pack.sample_lengths.first().copied().unwrap_or(0) as usize;
    let image_pad = tokenizer.special_ids().image_pad;
    let mut out = String::new();
    let mut at = 0;
    while at < length {
        let same = |other: usize| {
            (pack.tokens[other] == image_pad, pack.labels[other] >= 0)
                == (pack.tokens[at] == image_pad, pack.labels[at] >= 0)
        };
        let end = (at..length).find(|&other| !same(other)).unwrap_or(length);
        let text = match pack.tokens[at] == image_pad {
            true => format!("[{} x <|image_pad|>]", end - at),
            false => tokenizer.decode_all(&pack.tokens[at..end])?,
        };
        out.push_str(&if pack.labels[at] >= 0 { format!("«{text}»") } else { text });
        at = end;
    }
    Ok(out)
}
