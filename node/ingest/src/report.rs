//! What came of the work, for people and for programs.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};
use talkoot_dataset::RejectKind;

use crate::{IngestError, catalogue::Kind};

/// Counts that add up: of a piece, or of everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    pub(crate) records: u64,
    pub(crate) samples: u64,
    pub(crate) rejects: BTreeMap<RejectKind, u64>,
    pub(crate) pictures: u64,
    /// Bytes of pictures written to the store.
    pub(crate) stored_bytes: u64,
    /// Members of archives that are neither pictures nor texts.
    pub(crate) unused: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Self) {
        self.records += other.records;
        self.samples += other.samples;
        for (kind, count) in &other.rejects {
            *self.rejects.entry(*kind).or_default() += count;
        }
        self.pictures += other.pictures;
        self.stored_bytes += other.stored_bytes;
        self.unused += other.unused;
    }

    /// Records in = samples + rejects.
    pub(crate) fn check(&self) -> Result<(), IngestError> {
        let rejects = self.rejects.values().sum();
        if self.records == self.samples + rejects {
            return Ok(());
        }
        Err(IngestError::Miscounted { records: self.records, samples: self.samples, rejects })
    }
}

/// What came of the work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IngestReport {
    /// The list of samples.
    pub list: PathBuf,
    /// The rejects file: a line for each record that was left out.
    pub rejects_path: PathBuf,
    /// Records in: samples and rejects together.
    pub records: u64,
    /// Samples out.
    pub samples: u64,
    /// Rejects by kind.
    pub rejects: BTreeMap<RejectKind, u64>,
    /// Pictures of the samples, frames of videos one by one.
    pub pictures: u64,
    /// Bytes of pictures that were written beside the list, because they could not be referred to in place.
    pub stored_bytes: u64,
    /// Members of archives that are neither pictures nor texts, and were left where they are.
    pub unused_members: u64,
    /// Files of records by kind.
    pub files: BTreeMap<Kind, u64>,
    /// Digest of the options and inputs, by which the same work is known again.
    pub work: String,
}
