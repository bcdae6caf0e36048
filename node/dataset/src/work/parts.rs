//! A step that is split into parts: the names of their files, and the way through their samples.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{List, Part, WorkError, WorkFolder, put_json, read_error, read_json};
use crate::{
    progress::Progress,
    sample::{ListError, ListReader, Placed},
};

/// The files of a step that is split into parts: chunks, and a mark for each part that is finished.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    work: &'a Path,
    room: &'static str,
    step: &'static str,
}

impl<'a> Parts<'a> {
    /// The files in the folder `room` of unfinished work; the step is called `step` where an error names it.
    pub fn new(folder: &'a WorkFolder, room: &'static str, step: &'static str) -> Self {
        Self { work: folder.path(), room, step }
    }

    fn file(&self, part: Part, end: &str) -> PathBuf {
        self.work.join(format!("{}/{:05}-of-{:05}.{end}", self.room, part.index(), part.of()))
    }

    /// The file of a part's chunk, which ends in `end`.
    pub fn chunk(&self, part: Part, chunk: u32, end: &str) -> PathBuf {
        self.file(part, &format!("{chunk:06}.{end}"))
    }

    /// Whether a part is finished.
    pub fn is_done(&self, part: Part) -> bool {
        self.file(part, "done").exists()
    }

    /// Marks a part with so many chunks as finished.
    ///
    /// # Errors
    ///
    /// [`WorkError::Write`].
    pub fn mark_done(&self, part: Part, chunks: u32) -> Result<(), WorkError> {
        put_json(&self.file(part, "done"), &chunks)
    }

    /// How many chunks a finished part has.
    ///
    /// # Errors
    ///
    /// [`WorkError::Read`] and [`WorkError::Damaged`].
    pub fn chunks(&self, part: Part) -> Result<u32, WorkError> {
        read_json(&self.file(part, "done"))
    }

    /// The parts of a split that is finished. When several are, which say the same, the coarsest is taken.
    ///
    /// # Errors
    ///
    /// [`WorkError::NotYet`] when there is none.
    pub fn whole_split(&self) -> Result<Vec<Part>, WorkError> {
        let folder = self.work.join(self.room);
        let mut parts: Vec<Part> = Vec::new();
        for entry in fs::read_dir(&folder).map_err(read_error(&folder))? {
            let name = entry.map_err(read_error(&folder))?.file_name();
            let part = name.to_str().and_then(|name| {
                let (index, of) = name.strip_suffix(".done")?.split_once("-of-")?;
                Part::new(index.parse().ok()?, of.parse().ok()?)
            });
            parts.extend(part);
        }
        parts.sort_unstable_by_key(|part| (part.of(), part.index()));
        let split = parts.chunk_by(|a, b| a.of() == b.of()).find(|some| some.len() == some[0].of() as usize);
        let none = || WorkError::NotYet { step: self.step, done: parts.len(), work: self.work.to_path_buf() };
        split.map(<[Part]>::to_vec).ok_or_else(none)
    }
}

/// Goes through the samples of a part, list after list, and gives them to `take` in chunks of at most `size`, each with
/// the number of its list. The first `skip` samples of the part are left out, unparsed: an earlier try has done them.
///
/// `progress` advances by the bytes of the lists.
///
/// # Errors
///
/// When a list cannot be read, and what `take` says.
pub fn each_chunk<E: From<ListError>>(
    lists: &[List],
    part: Part,
    mut skip: u64,
    size: usize,
    progress: &dyn Progress,
    mut take: impl FnMut(&[(usize, Placed)]) -> Result<(), E>,
) -> Result<(), E> {
    let mut some: Vec<(usize, Placed)> = Vec::new();
    for (at, list) in lists.iter().enumerate() {
        let mut reader = ListReader::open(&list.path)?;
        let mut told = 0;
        loop {
            let next = reader.next_where(|id| {
                let mine = id.part(part.of()) == part.index();
                let done = mine && skip > 0;
                skip -= u64::from(done);
                mine && !done
            });
            let Some(placed) = next.transpose()? else { break };
            some.push((at, placed));
            if some.len() >= size {
                take(&some)?;
                some.clear();
                progress.advance(reader.bytes_read() - told);
                told = reader.bytes_read();
            }
        }
        progress.advance(list.bytes.saturating_sub(told));
    }
    if some.is_empty() { Ok(()) } else { take(&some) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coarsest_split_that_is_finished_is_taken() {
        let out = tempfile::tempdir().unwrap();
        let folder = WorkFolder::open(out.path().join("w"), &["look"]).unwrap();
        let parts = Parts::new(&folder, "look", "looking");
        let part = |index, of| Part::new(index, of).unwrap();
        let error = parts.whole_split().unwrap_err().to_string();
        assert!(error.starts_with("looking is not done in") && error.contains("0 parts"), "{error}");
        for (index, of) in [(0, 2), (2, 3), (0, 3)] {
            parts.mark_done(part(index, of), index + of).unwrap();
        }
        assert!(parts.is_done(part(2, 3)) && !parts.is_done(part(1, 3)));
        assert!(matches!(parts.whole_split(), Err(WorkError::NotYet { done: 3, .. })));
        parts.mark_done(part(1, 3), 4).unwrap();
        assert_eq!(parts.whole_split().unwrap(), [part(0, 3), part(1, 3), part(2, 3)]);
        assert_eq!(parts.chunks(part(2, 3)).unwrap(), 5);
        parts.mark_done(part(1, 2), 0).unwrap();
        assert_eq!(parts.whole_split().unwrap().len(), 2);
        assert!(parts.chunk(part(0, 2), 7, "rows").ends_with("w/look/00000-of-00002.000007.rows"));
    }
}
