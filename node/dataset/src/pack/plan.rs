//! The plan: which sample is in which pack in which shard.
//!
//! It is made once, from the whole table of lengths, and holds what writing a shard takes: so any process can write any
//! shard, and the same comes out.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::{
    PackError,
    arrange::Arranged,
    finish,
    job::Job,
    measure::measured_files,
    report::Spread,
    table::{Measured, chunk_head, merge},
};
use crate::{
    shard::{MAX_PACKS, ShardWriter, pack_bytes_at_most},
    work::{Place, WorkError, put_file, put_json, read_error, read_json},
};

const SAMPLE_BYTES: u64 = 16;
const PACK_BYTES: u64 = 4;
/// Most samples: rows of the table are counted in 32 bits.
const MAX_SAMPLES: u64 = u32::MAX as u64 - 1;

/// The packs of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PlannedShard {
    /// Number of its first pack.
    pub(super) first_pack: u64,
    /// Its packs.
    pub(super) packs: u32,
    /// Its first sample, in the order of the plan.
    pub(super) first_sample: u64,
    /// Its samples.
    pub(super) samples: u64,
}

/// What is known of the whole. The samples of each pack are in two files beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Plan {
    /// Samples seen, those that were refused too.
    pub(super) seen: u64,
    pub(super) samples: u64,
    pub(super) shards: Vec<PlannedShard>,
    /// Packs of each period, where the lists are periods.
    pub(super) periods: Vec<u64>,
    pub(super) spread: Spread,
    /// Shortest, median and longest sample, in tokens.
    pub(super) lengths: [u32; 3],
}

/// Makes the plan, unless an earlier try has.
pub(super) fn plan(job: &Job<'_>) -> Result<Plan, PackError> {
    if job.file("plan/plan.json").exists() {
        return Plan::open(job);
    }
    let files = measured_files(job)?;
    let (mut seen, mut rows) = (0, 0);
    for path in &files.tables {
        let head = chunk_head(path, &job.fingerprint)?;
        (seen, rows) = (seen + head.seen, rows + head.rows);
    }
    if rows > MAX_SAMPLES {
        return Err(PackError::TooManySamples { samples: rows, limit: MAX_SAMPLES });
    }
    if rows == 0 {
        let (records, _) = finish::write_rejects(job, seen)?;
        return Err(PackError::NothingLeft { records, rejects: job.rejects_path() });
    }
    let arranged = Arranged::of(merge(&files.tables, &job.fingerprint, rows)?, job.options);
    let periods = if job.options.ordered { periods(job, &arranged, seen)? } else { Vec::new() };
    put_file(&job.file("plan/packs"), |file| {
        let mut packs = arranged.periods().flatten();
        packs.try_for_each(|pack| file.write_all(&(pack.len() as u32).to_le_bytes()))
    })?;
    put_file(&job.file("plan/samples"), |file| {
        for sample in arranged.periods().flatten().flatten() {
            file.write_all(&sample.place.bits().to_le_bytes())?;
            file.write_all(&sample.tokens.to_le_bytes())?;
            file.write_all(&sample.bytes.to_le_bytes())?;
        }
        Ok(())
    })?;
    let mut shards = Vec::new();
    for period in arranged.periods() {
        let packs = period.map(|pack| {
            let samples = pack.len() as u64;
            (samples, pack_bytes_at_most(pack.map(|sample| u64::from(sample.bytes)).sum()))
        });
        cut(&mut shards, packs, job.options.shard_bytes)?;
    }
    let plan = Plan {
        seen,
        samples: rows,
        shards,
        periods,
        spread: Spread::of(&arranged.kinds),
        lengths: lengths(&arranged.counts),
    };
    put_json(&job.file("plan/plan.json"), &plan)?;
    // As everybody else will read it: what was a number in memory may differ in its last digit.
    Plan::open(job)
}

/// The packs of each period; every list has to be one.
fn periods(job: &Job<'_>, arranged: &Arranged, seen: u64) -> Result<Vec<u64>, PackError> {
    let packs: BTreeMap<usize, u64> = arranged.packs_of_lists().collect();
    for (at, list) in job.lists.iter().enumerate() {
        if !packs.contains_key(&at) {
            finish::write_rejects(job, seen)?;
            return Err(PackError::EmptyPeriod { list: list.path.clone(), rejects: job.rejects_path() });
        }
    }
    Ok(packs.into_values().collect())
}

/// Shortest, median and longest.
fn lengths(counts: &[u64]) -> [u32; 3] {
    let total: u64 = counts.iter().sum();
    let at = |rank: u64| {
        let mut before = 0;
        let found = counts.iter().position(|count| {
            before += count;
            before > rank
        });
        found.unwrap_or(0) as u32
    };
    [at(0), at(total / 2), at(total.saturating_sub(1))]
}

/// Cuts the packs of a period, each given as its samples and bytes, into shards of at most `limit` bytes.
fn cut(
    shards: &mut Vec<PlannedShard>,
    packs: impl Iterator<Item = (u64, u64)>,
    limit: u64,
) -> Result<(), PackError> {
    let mut filled = None;
    for (samples, bytes) in packs {
        let alone = ShardWriter::EMPTY_BYTES + bytes;
        if alone > limit {
            return Err(PackError::ShardTooSmall { bytes: alone, limit });
        }
        let (mut first_pack, mut first_sample) = (0, 0);
        if let Some(shard) = shards.last_mut() {
            if let Some(filled) = filled.as_mut().filter(|filled| **filled + bytes <= limit)
                && shard.packs < MAX_PACKS
            {
                shard.packs += 1;
                shard.samples += samples;
                *filled += bytes;
                continue;
            }
            first_pack = shard.first_pack + u64::from(shard.packs);
            first_sample = shard.first_sample + shard.samples;
        }
        shards.push(PlannedShard { first_pack, packs: 1, first_sample, samples });
        filled = Some(alone);
    }
    Ok(())
}

impl Plan {
    /// Opens the plan that was made.
    pub(super) fn open(job: &Job<'_>) -> Result<Self, PackError> {
        let path = job.file("plan/plan.json");
        if !path.exists() {
            return Err(job.not_yet("the plan".into()));
        }
        Ok(read_json(&path)?)
    }

    /// The samples of each pack of a shard.
    pub(super) fn packs(&self, job: &Job<'_>, shard: &PlannedShard) -> Result<Vec<Vec<Measured>>, PackError> {
        let sizes = read_part(&job.file("plan/packs"), shard.first_pack, u64::from(shard.packs), PACK_BYTES)?;
        let samples = read_part(&job.file("plan/samples"), shard.first_sample, shard.samples, SAMPLE_BYTES)?;
        let mut samples = samples.as_chunks::<8>().0.chunks_exact(2).map(|words| {
            let lengths = u64::from_le_bytes(words[1]);
            Measured {
                place: Place::from_bits(u64::from_le_bytes(words[0])),
                tokens: lengths as u32,
                bytes: (lengths >> 32) as u32,
            }
        });
        let sizes = sizes.as_chunks::<4>().0.iter().map(|size| u32::from_le_bytes(*size) as usize);
        Ok(sizes.map(|size| samples.by_ref().take(size).collect()).collect())
    }
}

/// Records `first..first + count` of a file of records of `record_bytes` bytes.
fn read_part(path: &Path, first: u64, count: u64, record_bytes: u64) -> Result<Vec<u8>, WorkError> {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(first * record_bytes))?;
        let mut bytes = Vec::new();
        file.take(count * record_bytes).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(read_error(path))?;
    if bytes.len() as u64 == count * record_bytes {
        return Ok(bytes);
    }
    Err(WorkError::Damaged { path: path.to_path_buf(), reason: "it is shorter than the plan".into() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn shards_hold_every_pack_once_and_keep_to_their_limit_and_their_period(
            periods in prop::collection::vec(prop::collection::vec((1u64..9, 1u64..900), 1..40), 1..4),
            limit in 2_048u64..6_000,
        ) {
            let mut shards = Vec::new();
            for period in &periods {
                cut(&mut shards, period.iter().copied(), limit).unwrap();
            }
            let packs: Vec<(u64, u64)> = periods.concat();
            let (mut pack, mut sample) = (0, 0);
            let mut ends = Vec::new();
            for shard in &shards {
                prop_assert_eq!((shard.first_pack, shard.first_sample), (pack, sample));
                let held = &packs[pack as usize..pack as usize + shard.packs as usize];
                prop_assert_eq!(shard.samples, held.iter().map(|(samples, _)| samples).sum::<u64>());
                let bytes: u64 = held.iter().map(|(_, bytes)| bytes).sum();
                prop_assert!(ShardWriter::EMPTY_BYTES + bytes <= limit);
                pack += u64::from(shard.packs);
                sample += shard.samples;
                ends.push(pack);
            }
            prop_assert_eq!(pack, packs.len() as u64);
            let mut end = 0;
            for period in &periods {
                end += period.len() as u64;
                prop_assert!(ends.contains(&end), "a period ends within a shard");
            }
        }
    }

    #[test]
    fn a_pack_that_fits_no_shard_is_named() {
        let error = cut(&mut Vec::new(), [(1, 100), (2, 5_000)].into_iter(), 4_096).unwrap_err();
        assert!(matches!(error, PackError::ShardTooSmall { bytes: 6_024, limit: 4_096 }), "{error}");
    }

    #[test]
    fn lengths_come_from_the_histogram() {
        assert_eq!(lengths(&[0, 3, 0, 1, 1]), [1, 1, 4]);
        assert_eq!(lengths(&[0, 0, 0, 1]), [3, 3, 3]);
    }
}
