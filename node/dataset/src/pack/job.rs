//! The job: what every step of packing needs, and its folder of unfinished work.
//!
//! ```text
//! <out>/<name>.work/job.json         the fingerprint of options and data
//!                  /samples.jsonl    the list of samples, when the input is records
//!                  /measure/…        chunks of the table of lengths, rejects, a mark for each measured part
//!                  /plan/…           which sample goes where
//!                  /shards/…         one file for each shard that is written
//! ```

use std::path::{Path, PathBuf};

use talkoot_protocol::{digest::Digest, identity::Keypair};

use super::{Input, PackError, PackOptions};
use crate::{
    ingest,
    progress::Progress,
    sample::{ListWriter, RejectWriter},
    tokenizer::Tokenizer,
    work::{List, Parts, WorkFolder, fingerprint, write_error},
};

/// Records that could not be made samples.
pub(super) const INGEST_REJECTS: &str = "ingest.rejects.jsonl";

/// What every step needs.
pub(super) struct Job<'a> {
    pub(super) options: &'a PackOptions,
    pub(super) progress: &'a dyn Progress,
    pub(super) tokenizer: Tokenizer,
    pub(super) lists: Vec<List>,
    /// Digest of everything that decides what is written.
    pub(super) fingerprint: Digest,
    pub(super) folder: WorkFolder,
}

impl<'a> Job<'a> {
    /// Opens the work that was begun, or begins it.
    pub(super) fn open(options: &'a PackOptions, progress: &'a dyn Progress) -> Result<Self, PackError> {
        let tokenizer = Tokenizer::from_bytes(&options.tokenizer)?;
        let folder = WorkFolder::open(options.work_folder(), &["measure", "plan", "shards"])?;
        let paths = match &options.input {
            Input::Lists(lists) => lists.clone(),
            Input::Records { files, pictures } => vec![list_records(files, pictures, &folder)?],
        };
        let lists = paths.into_iter().map(List::open).collect::<Result<Vec<_>, _>>()?;
        let settings = serde_json::to_vec(&settings(options, &tokenizer))?;
        let fingerprint = fingerprint("talkoot pack job v1", &settings, &lists)?;
        folder.claim(&fingerprint)?;
        Ok(Self { options, progress, tokenizer, lists, fingerprint, folder })
    }

    /// The file `name` of the unfinished work.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.file(name)
    }

    /// The files of measuring.
    pub(super) fn measured(&self) -> Parts<'_> {
        Parts::new(&self.folder, "measure", "measuring")
    }

    /// Where the line for each reject goes.
    pub(super) fn rejects_path(&self) -> PathBuf {
        self.options.out.join(format!("{}.rejects.jsonl", self.options.name))
    }

    pub(super) fn not_yet(&self, missing: String) -> PackError {
        PackError::NotYet { missing, work: self.folder.path().to_path_buf() }
    }
}

fn settings(options: &PackOptions, tokenizer: &Tokenizer) -> serde_json::Value {
    serde_json::json!({
        "name": options.name,
        "tokenizer": tokenizer.blob().digest,
        "fit": options.fit,
        "shard_bytes": options.shard_bytes,
        "preprocess": options.preprocess,
        "pixels": options.pixels,
        "ordered": options.ordered,
        "seed": options.seed,
        "sections": options.sections,
        "publisher": options.publisher.as_ref().map(Keypair::id),
    })
}

/// Makes the list of samples of records, unless an earlier try has.
fn list_records(files: &[PathBuf], pictures: &Path, folder: &WorkFolder) -> Result<PathBuf, PackError> {
    let path = folder.file("samples.jsonl");
    if path.exists() {
        return Ok(path);
    }
    let roots = ingest::picture_roots(pictures)?;
    let rejects_path = folder.file(INGEST_REJECTS);
    let mut rejects = RejectWriter::create(&rejects_path).map_err(write_error(&rejects_path))?;
    let mut list = ListWriter::create(&path, &roots).map_err(write_error(&path))?;
    for file in files {
        for outcome in ingest::read_llava(file, &roots)? {
            match outcome? {
                Ok(sample) => list.write(&sample).map_err(write_error(&path))?,
                Err(reject) => rejects.write(&reject).map_err(write_error(&rejects_path))?,
            }
        }
    }
    rejects.finish().map_err(write_error(&rejects_path))?;
    list.finish().map_err(write_error(&path))?;
    Ok(path)
}
