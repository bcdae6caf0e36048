//! The last step: the manifest of what was written, and the reports.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use talkoot_protocol::digest::BlobRef;

use super::{
    PackError, PackReport,
    job::{INGEST_REJECTS, Job},
    measure::measured_files,
    plan::Plan,
    write,
};
use crate::{
    index::{PackIndex, ShardEntry, Totals},
    manifest::{self, Making, SourceCount},
    sample::Reject,
    work::{WorkError, WorkFolder, read_error},
};

/// Writes tokenizer, manifest, rejects and report. The report is the last file: whoever finds it finds the rest.
pub(super) fn finish(job: &Job<'_>, plan: &Plan) -> Result<PackReport, PackError> {
    let options = job.options;
    let (index, sources) = index_of(job, plan)?;
    let (records, rejects) = write_rejects(job, plan.seen)?;
    let making = Making {
        name: options.name.clone(),
        tool: concat!("talkoot ", env!("CARGO_PKG_VERSION")).to_owned(),
        seed: options.seed,
        fit: options.fit,
        shard_bytes: options.shard_bytes,
        records,
        rejects: rejects.clone(),
        sources,
        sections: options.sections.clone(),
    };
    job.folder.publish_bytes(&options.out.join(index.tokenizer.digest.to_string()), &options.tokenizer)?;
    let bytes = manifest::to_bytes(&index, &making, options.publisher.as_ref())?;
    let blob = BlobRef::of(&bytes);
    job.folder.publish_bytes(&options.out.join(blob.digest.to_string()), &bytes)?;
    job.folder.publish_bytes(&options.out.join(format!("{}.manifest", options.name)), &bytes)?;
    let report = PackReport {
        name: options.name.clone(),
        manifest: blob,
        content: manifest::DatasetManifest::from_bytes(&bytes)?.content,
        publisher: options.publisher.as_ref().map(talkoot_protocol::identity::Keypair::id),
        tokenizer: index.tokenizer,
        vocab_size: index.vocab_size,
        sequence_tokens: index.sequence_tokens,
        shards: index.shards.iter().map(|shard| shard.blob).collect(),
        periods: index.periods,
        totals: index.totals,
        fill_rate: index.totals.fill_rate(index.sequence_tokens),
        spread: plan.spread,
        shortest_sample: plan.lengths[0],
        median_sample: plan.lengths[1],
        longest_sample: plan.lengths[2],
        records,
        rejects,
        folder: options.out.clone(),
        rejects_path: job.rejects_path(),
    };
    let path = options.out.join(format!("{}.report.json", options.name));
    job.folder.publish_bytes(&path, &serde_json::to_vec_pretty(&report)?)?;
    WorkFolder::discard(job.folder.path())?;
    job.progress.end();
    Ok(report)
}

fn index_of(job: &Job<'_>, plan: &Plan) -> Result<(PackIndex, Vec<SourceCount>), PackError> {
    let mut totals = Totals::default();
    let mut shards = Vec::with_capacity(plan.shards.len());
    let mut sources: BTreeMap<(String, Option<String>), u64> = BTreeMap::new();
    for (number, planned) in plan.shards.iter().enumerate() {
        let done = write::done(job, number)?.ok_or_else(|| job.not_yet(format!("shard {number}")))?;
        totals = totals.plus(done.totals);
        shards.push(ShardEntry { blob: done.blob, first_pack: planned.first_pack, packs: planned.packs });
        for SourceCount { source, licence, samples } in done.sources {
            *sources.entry((source, licence)).or_default() += samples;
        }
    }
    let sources = sources
        .into_iter()
        .map(|((source, licence), samples)| SourceCount { source, licence, samples })
        .collect();
    let index = PackIndex {
        tokenizer: job.tokenizer.blob(),
        vocab_size: job.tokenizer.vocab_size(),
        image_pad: job.tokenizer.special_ids().image_pad,
        sequence_tokens: job.options.fit.capacity,
        min_pixels: job.options.preprocess.min_pixels,
        max_pixels: job.options.preprocess.max_pixels,
        totals,
        shards,
        periods: plan.periods.clone(),
    };
    Ok((index, sources))
}

/// Writes the line for each reject, in the order of the records; tells how many records there were, of which `seen`
/// became samples, and how many rejects of each kind.
pub(super) fn write_rejects(job: &Job<'_>, seen: u64) -> Result<(u64, BTreeMap<String, u64>), PackError> {
    let mut rejects = Vec::new();
    let ingest = job.file(INGEST_REJECTS);
    if ingest.exists() {
        read_rejects(&ingest, &mut rejects)?;
    }
    let records = seen + rejects.len() as u64;
    for path in measured_files(job)?.rejects {
        read_rejects(&path, &mut rejects)?;
    }
    let place = |reject: &Reject| {
        let origin = &reject.origin;
        (origin.source.clone(), origin.file.clone(), origin.record)
    };
    rejects.sort_by_cached_key(place);
    let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
    let mut lines = Vec::new();
    for reject in &rejects {
        if let serde_json::Value::String(kind) = serde_json::to_value(reject.kind)? {
            *kinds.entry(kind).or_default() += 1;
        }
        serde_json::to_writer(&mut lines, reject)?;
        lines.push(b'\n');
    }
    job.folder.publish_bytes(&job.rejects_path(), &lines)?;
    Ok((records, kinds))
}

fn read_rejects(path: &Path, rejects: &mut Vec<Reject>) -> Result<(), WorkError> {
    let file = File::open(path).map_err(read_error(path))?;
    for line in BufReader::new(file).lines() {
        let line = line.map_err(read_error(path))?;
        let reject = serde_json::from_str(&line)
            .map_err(|error| WorkError::Damaged { path: path.to_path_buf(), reason: error.to_string() })?;
        rejects.push(reject);
    }
    Ok(())
}
