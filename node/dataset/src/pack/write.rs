//! Writing the shards of the plan.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::PathBuf,
};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use talkoot_protocol::digest::BlobRef;

use super::{
    PackError, Part,
    job::Job,
    measure::{describe, prepare},
    plan::{Plan, PlannedShard},
    table::Measured,
};
use crate::{
    index::Totals,
    manifest::SourceCount,
    progress::Unit,
    sample::{PictureRef, Sample, list::read_at},
    shard::{PackBytes, PackedSample, ShardWriter, StoredPicture},
    work::{put_json, read_error, read_json, write_error},
};

/// Packs made at a time for one shard: enough for every thread, little enough for memory.
const PACKS_AT_A_TIME: usize = 16;

/// A shard that is written, and what is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ShardDone {
    pub(super) blob: BlobRef,
    pub(super) totals: Totals,
    pub(super) sources: Vec<SourceCount>,
}

/// A pack ready to be written, and what is in it.
struct Made {
    bytes: PackBytes,
    totals: Totals,
    sources: BTreeMap<(String, Option<String>), u64>,
}

pub(super) fn done_path(job: &Job<'_>, shard: usize) -> PathBuf {
    job.file(&format!("shards/{shard:08}.json"))
}

/// What came of a shard, if it is written and its file is there.
pub(super) fn done(job: &Job<'_>, shard: usize) -> Result<Option<ShardDone>, PackError> {
    let path = done_path(job, shard);
    if !path.exists() {
        return Ok(None);
    }
    let done: ShardDone = read_json(&path)?;
    let there = fs::metadata(job.options.out.join(done.blob.digest.to_string()));
    Ok(there.is_ok_and(|file| file.len() == done.blob.bytes).then_some(done))
}

/// Writes the shards of a part: every `of`th of the plan. Those that an earlier try has written are left as they are.
pub(super) fn write(job: &Job<'_>, plan: &Plan, part: Part) -> Result<(), PackError> {
    let mine = |shard: &usize| shard % part.of() as usize == part.index() as usize;
    let shards: Vec<usize> = (0..plan.shards.len()).filter(mine).collect();
    let packs = shards.iter().map(|&shard| u64::from(plan.shards[shard].packs)).sum();
    job.progress.begin("writing", packs, Unit::Packs);
    shards.par_iter().try_for_each(|&shard| {
        if done(job, shard)?.is_some() {
            job.progress.advance(plan.shards[shard].packs.into());
            return Ok(());
        }
        write_shard(job, plan, shard)
    })
}

fn write_shard(job: &Job<'_>, plan: &Plan, number: usize) -> Result<(), PackError> {
    let shard: &PlannedShard = &plan.shards[number];
    let packs = plan.packs(job, shard)?;
    let part = job.file(&format!("shards/{number:08}.part"));
    let mut writer = ShardWriter::create(part.clone()).map_err(write_error(&part))?;
    let mut totals = Totals::default();
    let mut sources: BTreeMap<(String, Option<String>), u64> = BTreeMap::new();
    let mut first = shard.first_pack;
    for some in packs.chunks(PACKS_AT_A_TIME) {
        let numbered: Vec<(u64, &Vec<Measured>)> = (first..).zip(some).collect();
        let made: Vec<Made> =
            numbered.par_iter().map(|&(number, pack)| make(job, number, pack)).collect::<Result<_, _>>()?;
        for pack in made {
            writer.add(&pack.bytes).map_err(write_error(&part))?;
            totals = totals.plus(pack.totals);
            pack.sources.into_iter().for_each(|(name, count)| *sources.entry(name).or_default() += count);
        }
        first += some.len() as u64;
        job.progress.advance(some.len() as u64);
    }
    let written = writer.finish(&job.options.out).map_err(write_error(&job.options.out))?;
    tracing::debug!(shard = %written.blob.digest.short(), packs = written.packs, bytes = written.blob.bytes, "shard written");
    let sources = sources
        .into_iter()
        .map(|((source, licence), samples)| SourceCount { source, licence, samples })
        .collect();
    Ok(put_json(&done_path(job, number), &ShardDone { blob: written.blob, totals, sources })?)
}

/// Reads the samples of a pack and their pictures, and makes sure that they are what was measured.
fn make(job: &Job<'_>, number: u64, pack: &[Measured]) -> Result<Made, PackError> {
    let mut made = Made {
        bytes: PackBytes { number, fragments: Vec::with_capacity(pack.len()), pictures: Vec::new() },
        totals: Totals { packs: 1, ..Totals::default() },
        sources: BTreeMap::new(),
    };
    let mut open: BTreeMap<usize, File> = BTreeMap::new();
    for measured in pack {
        let list = &job.lists[measured.place.list()];
        let file = match open.entry(measured.place.list()) {
            std::collections::btree_map::Entry::Occupied(file) => file.into_mut(),
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(File::open(&list.path).map_err(read_error(&list.path))?)
            }
        };
        let sample = read_at(file, &list.path, measured.place.offset())?;
        let pictures = pictures(job, &sample, measured).map_err(|reason| PackError::Changed {
            file: sample.origin.file.clone(),
            record: sample.origin.record,
            reason,
        })?;
        made.add(pictures.0, pictures.1, pictures.2);
    }
    Ok(made)
}

type Parts = (PackedSample, Vec<u8>, Vec<(StoredPicture, Vec<u8>)>);

fn pictures(job: &Job<'_>, sample: &Sample, measured: &Measured) -> Result<Parts, String> {
    let roots = &job.lists[measured.place.list()].roots;
    let load = |picture: &PictureRef| {
        let bytes = roots.read(picture, job.options.preprocess.limits.file_bytes)?;
        Ok((describe(picture, &bytes, job.options)?, bytes))
    };
    let loaded = sample.pictures.iter().map(load).collect::<Result<Vec<_>, _>>();
    let pictures = loaded.map_err(|(_, reason): (crate::sample::RejectKind, String)| reason)?;
    let stored = pictures.iter().map(|(stored, _)| *stored).collect();
    let prepared = prepare(sample, stored, job.options, &job.tokenizer).map_err(|(_, reason)| reason)?;
    if (prepared.tokens, prepared.bytes) != (measured.tokens, measured.bytes) {
        return Err(format!(
            "{} tokens and {} bytes instead of {} and {}",
            prepared.tokens, prepared.bytes, measured.tokens, measured.bytes
        ));
    }
    Ok((prepared.sample, prepared.fragment, pictures))
}

impl Made {
    fn add(&mut self, sample: PackedSample, fragment: Vec<u8>, pictures: Vec<(StoredPicture, Vec<u8>)>) {
        let totals = &mut self.totals;
        totals.samples += 1;
        totals.tokens += sample.tokens.len() as u64;
        totals.learned_tokens += sample.learned.iter().map(|&(_, length)| u64::from(length)).sum::<u64>();
        totals.images += pictures.len() as u64;
        *self.sources.entry((sample.origin.source, sample.origin.licence)).or_default() += 1;
        self.bytes.fragments.push(fragment);
        self.bytes.pictures.extend(pictures);
    }
}
