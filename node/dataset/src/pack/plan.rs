//! The plan: which sample is in which pack in which shard.
//!
//! It is made once, from the whole table of lengths, and holds what writing a shard takes: so any process can write any
//! shard, and the same comes out.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::{
    PackError, deal, finish, fit,
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
    let samples = merge(&files.tables, &job.fingerprint, rows)?;
    let counts = histogram(&samples, job.options.fit.capacity);
    let kinds = fit(&counts, job.options.fit);
    let dealt = deal(samples.len(), |at| samples[at].tokens, &kinds, job.options.seed);
    put_file(&job.file("plan/packs"), |file| {
        dealt.packs().try_for_each(|pack| file.write_all(&(pack.len() as u32).to_le_bytes()))
    })?;
    put_file(&job.file("plan/samples"), |file| {
        for sample in dealt.packs().flatten().map(|&at| samples[at as usize]) {
            file.write_all(&sample.place.bits().to_le_bytes())?;
            file.write_all(&sample.tokens.to_le_bytes())?;
            file.write_all(&sample.bytes.to_le_bytes())?;
        }
        Ok(())
    })?;
    let bytes = dealt.packs().map(|pack| {
        let bytes = pack.iter().map(|&at| u64::from(samples[at as usize].bytes)).sum();
        (pack.len() as u64, pack_bytes_at_most(bytes))
    });
    let plan = Plan {
        seen,
        samples: rows,
        shards: cut(bytes, job.options.shard_bytes)?,
        spread: Spread::of(&kinds),
        lengths: lengths(&counts),
    };
    put_json(&job.file("plan/plan.json"), &plan)?;
    // As everybody else will read it: what was a number in memory may differ in its last digit.
    Plan::open(job)
}

fn histogram(samples: &[Measured], capacity: u32) -> Vec<u64> {
    let mut counts = vec![0; capacity as usize + 1];
    for sample in samples {
        // Measuring has refused longer ones.
        counts[sample.tokens.min(capacity) as usize] += 1;
    }
    counts
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

/// Cuts packs, each given as its samples and bytes, into shards of at most `limit` bytes.
fn cut(packs: impl Iterator<Item = (u64, u64)>, limit: u64) -> Result<Vec<PlannedShard>, PackError> {
    let mut shards: Vec<PlannedShard> = Vec::new();
    let (mut filled, mut first_pack, mut first_sample) = (u64::MAX, 0, 0);
    for (samples, bytes) in packs {
        let alone = ShardWriter::EMPTY_BYTES + bytes;
        if alone > limit {
            return Err(PackError::ShardTooSmall { bytes: alone, limit });
        }
        match shards.last_mut() {
            Some(shard) if filled + bytes <= limit && shard.packs < MAX_PACKS => {
                shard.packs += 1;
                shard.samples += samples;
                filled += bytes;
            }
            _ => {
                shards.push(PlannedShard { first_pack, packs: 1, first_sample, samples });
                filled = alone;
            }
        }
        first_pack += 1;
        first_sample += samples;
    }
    Ok(shards)
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
        fn shards_hold_every_pack_once_and_keep_their_limit(
            packs in prop::collection::vec((1u64..9, 1u64..900), 1..60),
            limit in 2_048u64..6_000,
        ) {
            let shards = cut(packs.iter().copied(), limit).unwrap();
            let (mut pack, mut sample) = (0, 0);
            for shard in &shards {
                prop_assert_eq!((shard.first_pack, shard.first_sample), (pack, sample));
                let held = &packs[pack as usize..pack as usize + shard.packs as usize];
                prop_assert_eq!(shard.samples, held.iter().map(|(samples, _)| samples).sum::<u64>());
                let bytes: u64 = held.iter().map(|(_, bytes)| bytes).sum();
                prop_assert!(ShardWriter::EMPTY_BYTES + bytes <= limit);
                pack += u64::from(shard.packs);
                sample += shard.samples;
            }
            prop_assert_eq!(pack, packs.len() as u64);
        }
    }

    #[test]
    fn a_pack_that_fits_no_shard_is_named() {
        let error = cut([(1, 100), (2, 5_000)].into_iter(), 4_096).unwrap_err();
        assert!(matches!(error, PackError::ShardTooSmall { bytes: 6_024, limit: 4_096 }), "{error}");
    }

    #[test]
    fn lengths_come_from_the_histogram() {
        assert_eq!(lengths(&[0, 3, 0, 1, 1]), [1, 1, 4]);
        assert_eq!(lengths(&[0, 0, 0, 1]), [3, 3, 3]);
    }
}
