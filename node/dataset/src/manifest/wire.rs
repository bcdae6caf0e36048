//! The manifest's body as it is written: digests as bytes rather than text, packs counted rather than numbered. The
//! periods come after everything else, in version 2 only.

use serde::{Deserialize, Serialize};
use talkoot_protocol::digest::{BlobRef, Digest};

use super::{MAX_SECTION_BYTES, Making, ManifestError, Version, malformed};
use crate::index::{PackIndex, ShardEntry, Totals};

type Blob = ([u8; 32], u64);

#[derive(Serialize, Deserialize)]
struct Wire {
    tokenizer: Blob,
    vocab_size: u32,
    image_pad: u32,
    sequence_tokens: u32,
    min_pixels: u32,
    max_pixels: u32,
    totals: Totals,
    shards: Vec<([u8; 32], u64, u32)>,
    making: Making,
}

pub(super) fn encode(index: &PackIndex, making: &Making) -> Result<Vec<u8>, ManifestError> {
    let wire = Wire {
        tokenizer: (*index.tokenizer.digest.as_bytes(), index.tokenizer.bytes),
        vocab_size: index.vocab_size,
        image_pad: index.image_pad,
        sequence_tokens: index.sequence_tokens,
        min_pixels: index.min_pixels,
        max_pixels: index.max_pixels,
        totals: index.totals,
        shards: index
            .shards
            .iter()
            .map(|shard| (*shard.blob.digest.as_bytes(), shard.blob.bytes, shard.packs))
            .collect(),
        making: making.clone(),
    };
    let body = postcard::to_stdvec(&wire).map_err(malformed)?;
    match Version::of(index) {
        Version::Plain => Ok(body),
        Version::Periods => postcard::to_extend(&index.periods, body).map_err(malformed),
    }
}

pub(super) fn decode(version: Version, body: &[u8]) -> Result<(PackIndex, Making), ManifestError> {
    let (wire, rest): (Wire, _) = postcard::take_from_bytes(body).map_err(malformed)?;
    let periods: Vec<u64> = match version {
        Version::Plain => Vec::new(),
        Version::Periods => postcard::from_bytes(rest).map_err(malformed)?,
    };
    let blob = |(digest, bytes): Blob| BlobRef { digest: Digest::from_bytes(digest), bytes };
    let mut first_pack = 0u64;
    let mut entry = |(digest, bytes, packs): ([u8; 32], u64, u32)| {
        let entry = ShardEntry { blob: blob((digest, bytes)), first_pack, packs };
        // At most 2^26 shards of 2^32 packs: no overflow.
        first_pack += u64::from(packs);
        entry
    };
    let index = PackIndex {
        tokenizer: blob(wire.tokenizer),
        vocab_size: wire.vocab_size,
        image_pad: wire.image_pad,
        sequence_tokens: wire.sequence_tokens,
        min_pixels: wire.min_pixels,
        max_pixels: wire.max_pixels,
        totals: wire.totals,
        shards: wire.shards.into_iter().map(&mut entry).collect(),
        periods,
    };
    if Version::of(&index) != version {
        return Err(malformed("version 2 is for data with periods, and it has none"));
    }
    if !wire.making.sources.is_sorted_by(|a, b| (&a.source, &a.licence) < (&b.source, &b.licence)) {
        return Err(malformed("the sources are not in order"));
    }
    if let Some((name, section)) = wire.making.sections.iter().find(|(_, s)| s.len() > MAX_SECTION_BYTES) {
        return Err(malformed(format!("section {name:?} has {} bytes", section.len())));
    }
    if encode(&index, &wire.making)? != body {
        return Err(malformed("the bytes are not the canonical ones"));
    }
    Ok((index, wire.making))
}
