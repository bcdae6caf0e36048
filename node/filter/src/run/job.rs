//! The job: what every step of filtering needs, and its folder of unfinished work.
//!
//! ```text
//! <out>/<name>.work/job.json          the fingerprint of rules and lists
//!                  /examine/…         chunks of rows, lines of what was dropped, a mark for each examined part
//!                  /duplicates.table  which sample is kept for which
//! ```

use talkoot_dataset::{
    Progress, Roots,
    work::{List, Parts, WorkFolder, fingerprint, join_roots, write_error},
};
use talkoot_protocol::digest::Digest;

use super::{FilterError, FilterOptions};

/// What every step needs.
pub(super) struct Job<'a> {
    pub(super) options: &'a FilterOptions,
    pub(super) progress: &'a dyn Progress,
    pub(super) lists: Vec<List>,
    /// The roots of all lists.
    pub(super) roots: Roots,
    /// Digest of everything that decides what is written.
    pub(super) fingerprint: Digest,
    pub(super) folder: WorkFolder,
}

impl<'a> Job<'a> {
    /// Opens the work that was begun, or begins it.
    pub(super) fn open(options: &'a FilterOptions, progress: &'a dyn Progress) -> Result<Self, FilterError> {
        let mut lists = options.lists.iter().cloned().map(List::open).collect::<Result<Vec<_>, _>>()?;
        let roots = join_roots(&mut lists)?;
        let rules = serde_json::to_vec(&(&options.name, &options.config));
        let rules = rules.map_err(|error| write_error(&options.out)(error.into()))?;
        let fingerprint = fingerprint("talkoot filter job v1", &rules, &lists)?;
        let folder = WorkFolder::open(options.work_folder(), &["examine"])?;
        folder.claim(&fingerprint)?;
        Ok(Self { options, progress, lists, roots, fingerprint, folder })
    }

    /// The files of examining.
    pub(super) fn examined(&self) -> Parts<'_> {
        Parts::new(&self.folder, "examine", "examining")
    }

    /// Bytes of all lists.
    pub(super) fn list_bytes(&self) -> u64 {
        self.lists.iter().map(|list| list.bytes).sum()
    }
}
