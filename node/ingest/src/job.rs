//! The work as a whole: find, fetch, read piece by piece, join.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use talkoot_dataset::{
    ListReader, ListWriter, Progress, Roots,
    progress::Unit,
    sample::RejectWriter,
    work::{WorkError, WorkFolder, put_json, read_json, remove_file, remove_folder},
};

use crate::{
    IngestError, IngestOptions, IngestReport, SourceFile,
    catalogue::{Catalogue, Place, fetched_root},
    error::{read_error, write_error},
    fetch::Fetcher,
    piece::{Piece, piece_name},
    read,
    report::Counts,
};

/// What every piece needs.
pub(crate) struct Job<'a> {
    pub(crate) options: &'a IngestOptions,
    pub(crate) progress: &'a dyn Progress,
    pub(crate) roots: Roots,
    /// The root of the store.
    pub(crate) store_root: String,
    work: WorkFolder,
    files: Vec<SourceFile>,
    fingerprint: String,
}

#[derive(Serialize, Deserialize)]
struct JobFile {
    fingerprint: String,
    catalogue: Catalogue,
}

/// Reads everything that `options` name into one list of samples, in [`IngestOptions::out`]: `NAME.samples.jsonl`,
/// `NAME.rejects.jsonl` and `NAME.ingest.json`, and where needed the folders `NAME.pictures` (the store) and
/// `NAME.fetched`, which the list refers to.
///
/// With `resume`, work that was begun goes on, and finished work is only reported; without, everything begins anew.
///
/// # Errors
///
/// [`IngestError`] when an option or input is wrong, fetching or writing fails, a program that is needed isn't there,
/// or no record is usable. Bad records and damaged files do not stop it: they are in the rejects.
pub fn ingest(
    options: &IngestOptions,
    resume: bool,
    progress: &dyn Progress,
) -> Result<IngestReport, IngestError> {
    options.check()?;
    fs::create_dir_all(&options.out).map_err(write_error(&options.out))?;
    let fingerprint = fingerprint(options)?;
    if resume && let Some(report) = finished(options, &fingerprint)? {
        return Ok(report);
    }
    let job = Job::open(options, fingerprint, resume, progress)?;
    job.fetch()?;
    job.read()?;
    let report = job.join()?;
    progress.end();
    Ok(report)
}

fn out_file(options: &IngestOptions, what: &str) -> PathBuf {
    options.out.join(format!("{}.{what}", options.name))
}

/// The report of the same work, if it is finished.
fn finished(options: &IngestOptions, fingerprint: &str) -> Result<Option<IngestReport>, IngestError> {
    let path = out_file(options, "ingest.json");
    if !path.exists() {
        return Ok(None);
    }
    let report: IngestReport = read_json(&path)?;
    if report.work != fingerprint || !report.list.exists() {
        return Ok(None);
    }
    // A kill may have come while the work was cleared away.
    WorkFolder::discard(&out_file(options, "work"))?;
    Ok(Some(report))
}

/// Digest of everything that decides what is written, the content of the inputs aside.
fn fingerprint(options: &IngestOptions) -> Result<String, IngestError> {
    let mut hasher = blake3::Hasher::new_derive_key("talkoot ingest job v1");
    let settings = serde_json::json!({
        "inputs": options.inputs,
        "pictures": options.pictures,
        "name": options.name,
        "source": options.source,
        "licence": options.licence,
        "place_pictures": options.place_pictures,
        "video": options.video,
        "endpoint": options.fetch.endpoint,
    });
    hasher.update(&serde_json::to_vec(&settings)?);
    Ok(hasher.finalize().to_hex().to_string())
}

impl<'a> Job<'a> {
    fn open(
        options: &'a IngestOptions,
        fingerprint: String,
        resume: bool,
        progress: &'a dyn Progress,
    ) -> Result<Self, IngestError> {
        let work = out_file(options, "work");
        let store_root = format!("{}.pictures", options.name);
        let folders = [out_file(options, "pictures"), options.out.join(fetched_root(options))];
        if !resume || !work.join("job.json").exists() {
            remove_file(&out_file(options, "ingest.json"))?;
            // first what says that something is done, so that a kill in between leaves nobody's pictures at worst
            WorkFolder::discard(&work)?;
            folders.iter().try_for_each(|folder| remove_folder(folder))?;
        }
        let [store, fetched] = folders;
        for folder in [&store, &fetched] {
            fs::create_dir_all(folder).map_err(write_error(folder))?;
        }
        let work = WorkFolder::open(work, &[])?;
        let mut job =
            Self { options, progress, roots: Roots::new(), store_root, work, files: Vec::new(), fingerprint };
        let catalogue = job.catalogue()?;
        for (name, folder) in &catalogue.roots {
            job.roots.add(name, folder).map_err(read_error(folder))?;
        }
        job.roots.add(&job.store_root, &store).map_err(read_error(&store))?;
        job.roots.add(&fetched_root(options), &fetched).map_err(read_error(&fetched))?;
        job.files = catalogue.files;
        Ok(job)
    }

    /// The files of records: as they were found when the work began.
    fn catalogue(&self) -> Result<Catalogue, IngestError> {
        let path = self.work.file("job.json");
        if !path.exists() {
            let catalogue = Catalogue::of(self.options, &Fetcher::new(self.options.fetch.clone()))?;
            let fingerprint = self.fingerprint.clone();
            put_json(&path, &JobFile { fingerprint, catalogue: catalogue.clone() })?;
            return Ok(catalogue);
        }
        let begun: JobFile = read_json(&path)?;
        if begun.fingerprint != self.fingerprint {
            return Err(WorkError::OtherWork { work: self.work.path().to_path_buf() }.into());
        }
        Ok(begun.catalogue)
    }

    pub(crate) fn work_file(&self, name: &str) -> PathBuf {
        self.work.file(name)
    }

    pub(crate) fn store_folder(&self) -> PathBuf {
        out_file(self.options, "pictures")
    }

    pub(crate) fn store_file(&self, name: &str) -> PathBuf {
        self.store_folder().join(name)
    }

    /// Where a file of records lies, here.
    pub(crate) fn path_of(&self, file: &SourceFile) -> PathBuf {
        let folder = self.roots.iter().find(|(name, _)| *name == file.root).map(|(_, folder)| folder);
        folder.unwrap_or(Path::new("")).join(&file.path)
    }

    fn fetch(&self) -> Result<(), IngestError> {
        let remote: Vec<_> = self
            .files
            .iter()
            .filter_map(|file| match &file.place {
                Place::There(remote) => Some((file, remote)),
                Place::Here(_) => None,
            })
            .collect();
        if remote.is_empty() {
            return Ok(());
        }
        let known = remote.iter().filter_map(|(_, remote)| remote.bytes).sum();
        self.progress.begin("fetching", known, Unit::Bytes);
        let fetcher = Fetcher::new(self.options.fetch.clone());
        remote.par_iter().try_for_each(|(file, remote)| {
            fetcher.download(remote, &self.path_of(file), self.progress).map(drop)
        })?;
        Ok(())
    }

    /// Reads the files of which there is no piece yet.
    fn read(&self) -> Result<(), IngestError> {
        let lengths = self.files.iter().map(|file| self.length(file)).collect::<Result<Vec<_>, _>>()?;
        self.progress.begin("reading", lengths.iter().sum(), Unit::Bytes);
        self.files.par_iter().zip(lengths).enumerate().try_for_each(|(number, (file, bytes))| {
            if self.work_file(&piece_name(number, "done")).exists() {
                self.progress.advance(bytes);
                return Ok(());
            }
            let mut piece = Piece::create(self, number, file)?;
            read::read(&mut piece, &self.path_of(file))?;
            piece.finish().map(drop)
        })
    }

    fn length(&self, file: &SourceFile) -> Result<u64, IngestError> {
        let path = self.path_of(file);
        let got = fs::metadata(&path).map_err(read_error(&path))?.len();
        match file.place {
            Place::Here(expected) if expected != got => Err(IngestError::Changed { path, expected, got }),
            _ => Ok(got),
        }
    }

    /// Joins the pieces in the order of the files, and clears the work away. The report comes last.
    fn join(&self) -> Result<IngestReport, IngestError> {
        self.progress.begin("joining", self.files.len() as u64, Unit::Files);
        let (list_path, rejects_path) =
            (out_file(self.options, "samples.jsonl"), out_file(self.options, "rejects.jsonl"));
        let mut counts = Counts::default();
        for number in 0..self.files.len() {
            counts.add(&read_json(&self.work_file(&piece_name(number, "done")))?);
        }
        let roots = self.roots_in_use(&counts)?;
        let mut list = ListWriter::create(&list_path, &roots).map_err(write_error(&list_path))?;
        let mut rejects = RejectWriter::create(&rejects_path).map_err(write_error(&rejects_path))?;
        for number in 0..self.files.len() {
            let piece = ListReader::open(&self.work_file(&piece_name(number, "samples")))?;
            list.append(piece).map_err(write_error(&list_path))?;
            copy_rejects(&self.work_file(&piece_name(number, "rejects")), &mut rejects, &rejects_path)?;
            self.progress.advance(1);
        }
        let (_, kinds) = rejects.finish().map_err(write_error(&rejects_path))?;
        if counts.samples == 0 {
            return Err(IngestError::NothingLeft { records: counts.records, rejects: rejects_path });
        }
        let samples = list.finish().map_err(write_error(&list_path))?;
        // Of what was written, not of what was counted on the way.
        Counts { samples, rejects: kinds, ..counts.clone() }.check()?;
        let report = self.report(counts, list_path, rejects_path);
        self.work
            .publish_bytes(&out_file(self.options, "ingest.json"), &serde_json::to_vec_pretty(&report)?)?;
        WorkFolder::discard(self.work.path())?;
        for (name, folder) in self.roots.iter() {
            if !roots.iter().any(|(used, _)| used == name) {
                remove_folder(folder)?;
            }
        }
        Ok(report)
    }

    /// The roots that the list needs: the folders that were given, and of ours those that have something in them.
    fn roots_in_use(&self, counts: &Counts) -> Result<Roots, IngestError> {
        let fetched = fetched_root(self.options);
        let any_fetched = self.files.iter().any(|file| matches!(file.place, Place::There(_)));
        let mut roots = Roots::new();
        for (name, folder) in self.roots.iter() {
            let idle =
                (name == self.store_root && counts.stored_bytes == 0) || (name == fetched && !any_fetched);
            if !idle {
                roots.add(name, folder).map_err(read_error(folder))?;
            }
        }
        Ok(roots)
    }

    fn report(&self, counts: Counts, list: PathBuf, rejects_path: PathBuf) -> IngestReport {
        let mut files = std::collections::BTreeMap::new();
        for file in &self.files {
            *files.entry(file.kind).or_default() += 1;
        }
        IngestReport {
            list,
            rejects_path,
            records: counts.records,
            samples: counts.samples,
            rejects: counts.rejects,
            pictures: counts.pictures,
            stored_bytes: counts.stored_bytes,
            unused_members: counts.unused,
            files,
            work: self.fingerprint.clone(),
        }
    }
}

fn copy_rejects(from: &Path, to: &mut RejectWriter, to_path: &Path) -> Result<(), IngestError> {
    let file = File::open(from).map_err(read_error(from))?;
    for line in BufReader::new(file).lines() {
        let line = line.map_err(read_error(from))?;
        let reject = serde_json::from_str(&line)
            .map_err(|error| WorkError::Damaged { path: from.to_path_buf(), reason: error.to_string() })?;
        to.write(&reject).map_err(write_error(to_path))?;
    }
    Ok(())
}
