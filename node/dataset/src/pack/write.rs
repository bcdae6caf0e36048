//! Writing what was packed: shards by their digests, the index, the reports.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use rayon::prelude::*;
use talkoot_protocol::digest::BlobRef;

use super::{PackError, PackOptions, PackReport, Ready, prepare, report::blobs_of};
use crate::{
    index::{PackIndex, ShardEntry, Totals},
    ingest::{Reject, Roots, Sample},
    shard::{MAX_PACKS, PackRules, Packed, Picture, encode_pack, encode_shard, shard_bytes},
    tokenizer::Tokenizer,
};

/// Packs made at a time: enough for every thread, little enough for memory.
const PACKS_AT_A_TIME: usize = 64;

pub(super) struct Writer<'a> {
    options: &'a PackOptions,
    roots: &'a Roots,
    tokenizer: &'a Tokenizer,
}

/// Packs on their way into a shard.
#[derive(Default)]
struct Filling {
    packs: Vec<Vec<u8>>,
    lengths: Vec<u32>,
    bytes: u64,
}

impl<'a> Writer<'a> {
    pub(super) fn new(
        options: &'a PackOptions,
        roots: &'a Roots,
        tokenizer: &'a Tokenizer,
    ) -> Result<Self, PackError> {
        fs::create_dir_all(&options.out)
            .map_err(|source| PackError::Write { path: options.out.clone(), source })?;
        Ok(Self { options, roots, tokenizer })
    }

    pub(super) fn rejects_path(&self) -> PathBuf {
        self.options.out.join(format!("{}.rejects.jsonl", self.options.name))
    }

    /// One line a reject, in the order of the records.
    pub(super) fn rejects(&self, rejects: &mut [Reject]) -> Result<(), PackError> {
        rejects.sort_by(|a, b| (&a.origin.file, a.origin.record).cmp(&(&b.origin.file, b.origin.record)));
        let mut lines = String::new();
        for reject in rejects {
            lines.push_str(&serde_json::to_string(reject)?);
            lines.push('\n');
        }
        self.file(&self.rejects_path(), lines.as_bytes())
    }

    /// Makes the packs and writes them out, shard by shard; then the tokenizer and the index.
    pub(super) fn shards(
        &self,
        samples: &[Sample],
        lengths: &[u32],
        packs: &[Vec<usize>],
    ) -> Result<(BlobRef, PackIndex), PackError> {
        let rules = PackRules {
            tokenizer: self.tokenizer.blob().digest,
            sequence_tokens: self.options.sequence_tokens,
            vocab_size: self.tokenizer.vocab_size(),
            image_pad: self.tokenizer.special_ids().image_pad,
        };
        let mut totals = Totals { packs: packs.len() as u64, ..Totals::default() };
        let mut shards = Vec::new();
        let mut filling = Filling::default();
        for some in packs.chunks(PACKS_AT_A_TIME) {
            let made: Vec<Packed> =
                some.par_iter().map(|pack| self.pack(samples, lengths, pack)).collect::<Result<_, _>>()?;
            for pack in made {
                totals.samples += pack.sample_lengths.len() as u64;
                totals.tokens += pack.tokens.len() as u64;
                totals.learned_tokens += pack.learned.iter().filter(|&&learned| learned).count() as u64;
                totals.images += pack.pictures.len() as u64;
                self.add(&rules, &mut filling, encode_pack(&pack), &mut shards)?;
            }
        }
        self.flush(&rules, &mut filling, &mut shards)?;
        self.blob(&self.options.tokenizer)?;
        let index = PackIndex {
            tokenizer: self.tokenizer.blob(),
            vocab_size: rules.vocab_size,
            image_pad: rules.image_pad,
            sequence_tokens: rules.sequence_tokens,
            min_pixels: self.options.preprocess.min_pixels,
            max_pixels: self.options.preprocess.max_pixels,
            totals,
            shards,
        };
        let bytes = index.to_bytes()?;
        self.file(&self.options.out.join(format!("{}.index", self.options.name)), &bytes)?;
        Ok((self.blob(&bytes)?, index))
    }

    fn pack(&self, samples: &[Sample], lengths: &[u32], pack: &[usize]) -> Result<Packed, PackError> {
        let mut out = Packed::default();
        for &at in pack {
            let sample = &samples[at];
            let changed = |reason: String| PackError::Changed {
                file: sample.origin.file.clone(),
                record: sample.origin.record,
                reason,
            };
            let Ready { encoded, pictures } = prepare(sample, self.options, self.roots, self.tokenizer)
                .map_err(|(_, reason)| changed(reason))?;
            let length = encoded.tokens.len() as u32;
            if length != lengths[at] {
                return Err(changed(format!("{length} tokens instead of {}", lengths[at])));
            }
            out.sample_lengths.push(length);
            out.learned.extend(encoded.labels.iter().map(|&label| label >= 0));
            out.tokens.extend(encoded.tokens);
            for picture in pictures {
                let png = picture.to_png().map_err(|error| changed(error.to_string()))?;
                // Sides were checked to fit when the sample was made ready.
                out.pictures.push(Picture {
                    width: picture.width as u16,
                    height: picture.height as u16,
                    png,
                });
            }
        }
        Ok(out)
    }

    fn add(
        &self,
        rules: &PackRules,
        filling: &mut Filling,
        pack: Vec<u8>,
        shards: &mut Vec<ShardEntry>,
    ) -> Result<(), PackError> {
        let limit = self.options.shard_bytes;
        let alone = shard_bytes(&[]) + 4 + pack.len() as u64;
        let Some(length) = u32::try_from(pack.len()).ok().filter(|_| alone <= limit) else {
            return Err(PackError::ShardTooSmall { bytes: alone, limit });
        };
        let full = shard_bytes(&[]) + filling.bytes + 4 + u64::from(length) > limit;
        if full || filling.packs.len() >= MAX_PACKS as usize {
            self.flush(rules, filling, shards)?;
        }
        filling.bytes += 4 + u64::from(length);
        filling.lengths.push(length);
        filling.packs.push(pack);
        Ok(())
    }

    fn flush(
        &self,
        rules: &PackRules,
        filling: &mut Filling,
        shards: &mut Vec<ShardEntry>,
    ) -> Result<(), PackError> {
        let done = std::mem::take(filling);
        if done.packs.is_empty() {
            return Ok(());
        }
        let blob = self.blob(&encode_shard(rules, &done.packs))?;
        tracing::debug!(shard = %blob.digest.short(), packs = done.packs.len(), bytes = blob.bytes, "shard written");
        shards.push(ShardEntry { blob, packs: done.lengths.len() as u32 });
        Ok(())
    }

    /// The last file: whoever finds it finds the rest.
    pub(super) fn report(
        &self,
        records: u64,
        rejects: &[Reject],
        lengths: &[u32],
        index: BlobRef,
        contents: PackIndex,
    ) -> Result<PackReport, PackError> {
        let mut sorted = lengths.to_vec();
        sorted.sort_unstable();
        let mut kinds = BTreeMap::new();
        rejects.iter().for_each(|reject| *kinds.entry(reject.kind).or_default() += 1);
        let report = PackReport {
            name: self.options.name.clone(),
            index,
            tokenizer: contents.tokenizer,
            vocab_size: contents.vocab_size,
            sequence_tokens: contents.sequence_tokens,
            shards: blobs_of(&contents.shards),
            totals: contents.totals,
            fill_rate: contents.totals.fill_rate(contents.sequence_tokens),
            shortest_sample: sorted.first().copied().unwrap_or(0),
            median_sample: sorted.get(sorted.len() / 2).copied().unwrap_or(0),
            longest_sample: sorted.last().copied().unwrap_or(0),
            records,
            rejects: kinds,
            folder: self.options.out.clone(),
            rejects_path: self.rejects_path(),
        };
        let path = self.options.out.join(format!("{}.report.json", self.options.name));
        self.file(&path, &serde_json::to_vec_pretty(&report)?)?;
        Ok(report)
    }

    fn blob(&self, bytes: &[u8]) -> Result<BlobRef, PackError> {
        let blob = BlobRef::of(bytes);
        self.file(&self.options.out.join(blob.digest.to_string()), bytes)?;
        Ok(blob)
    }

    /// Written beside, made durable, then renamed: a file is whole or not there.
    fn file(&self, path: &Path, bytes: &[u8]) -> Result<(), PackError> {
        let failed = |source| PackError::Write { path: path.to_path_buf(), source };
        let mut name = path.as_os_str().to_owned();
        name.push(".part");
        let part = PathBuf::from(name);
        let mut file = File::create(&part).map_err(failed)?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)?;
        fs::rename(&part, path).map_err(failed)
    }
}
