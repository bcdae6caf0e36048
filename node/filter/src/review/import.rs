//! Verdicts into a list: what was dropped is left out, everything else stays as it is.

use std::{collections::BTreeSet, path::Path};

use serde::Serialize;
use talkoot_dataset::{
    ListReader, ListWriter, Progress, Reject, RejectKind, SampleId, progress::Unit, sample::RejectWriter,
};

use super::{ReviewError, Verdicts, read_error, write_error};

/// What came of verdicts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Imported {
    /// Samples of the list.
    pub samples: u64,
    /// Samples that are kept.
    pub kept: u64,
    /// Samples that are left out.
    pub dropped: u64,
    /// How many samples the verdicts said to keep; the rest was not looked at.
    pub approved: u64,
    /// Verdicts about samples that the list does not have.
    pub unknown: Vec<SampleId>,
}

/// Writes the samples of `list` that `verdicts` doesn't drop to `out`, in their order, and a line for each that it does
/// to `rejects`.
///
/// # Errors
///
/// [`ReviewError`] when a file cannot be read or written, or no verdict is about a sample of the list.
pub fn import(
    list: &Path,
    verdicts: &Path,
    out: &Path,
    rejects: &Path,
    progress: &dyn Progress,
) -> Result<Imported, ReviewError> {
    let given = Verdicts::read(verdicts)?;
    let drop: BTreeSet<SampleId> = given.drop.iter().copied().collect();
    let keep: BTreeSet<SampleId> = given.keep.iter().copied().collect();
    let bytes = std::fs::metadata(list).map_err(read_error(list))?.len();
    progress.begin("looking up", bytes, Unit::Bytes);
    let known = known_of(list, &drop, &keep)?;
    let unknown: Vec<SampleId> = keep.union(&drop).filter(|id| !known.contains(id)).copied().collect();
    if let Some(&first) = unknown.first().filter(|_| known.is_empty()) {
        let verdicts = unknown.len();
        return Err(ReviewError::OtherList { verdicts, first, list: list.to_path_buf() });
    }

    progress.begin("writing", bytes, Unit::Bytes);
    let mut reader = ListReader::open(list)?;
    let mut kept = ListWriter::create(out, reader.roots()).map_err(write_error(out))?;
    let mut dropped = RejectWriter::create(rejects).map_err(write_error(rejects))?;
    let (mut samples, mut told, mut approved) = (0, 0, 0);
    while let Some(placed) = reader.next().transpose()? {
        let sample = placed.sample;
        samples += 1;
        if drop.contains(&sample.id) {
            let reason = format!("sample {} was dropped in a review", sample.id);
            let reject = Reject::new(sample.origin, RejectKind::Reviewed, reason);
            dropped.write(&reject).map_err(write_error(rejects))?;
        } else {
            approved += u64::from(keep.contains(&sample.id));
            kept.write(&sample).map_err(write_error(out))?;
        }
        if reader.bytes_read() - told > 1 << 20 {
            progress.advance(reader.bytes_read() - told);
            told = reader.bytes_read();
        }
    }
    // The rejects first: a list never stands there without them.
    dropped.finish().map_err(write_error(rejects))?;
    let kept = kept.finish().map_err(write_error(out))?;
    progress.end();
    Ok(Imported { samples, kept, dropped: samples - kept, approved, unknown })
}

/// The ids of `drop` and `keep` that are in the list; its lines are not parsed for that.
fn known_of(
    list: &Path,
    drop: &BTreeSet<SampleId>,
    keep: &BTreeSet<SampleId>,
) -> Result<BTreeSet<SampleId>, ReviewError> {
    let mut known = BTreeSet::new();
    let mut reader = ListReader::open(list)?;
    let last = reader.next_where(|id| {
        if drop.contains(&id) || keep.contains(&id) {
            known.insert(id);
        }
        false
    });
    last.transpose()?;
    Ok(known)
}
