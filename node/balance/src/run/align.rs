//! Which row of the embeddings is which sample's.
//!
//! Rows with ids: each file has its rows in the order of the lists, and may leave samples to other files, so files of
//! any parts of the lists can be given together. Rows without ids: the rows of all files, one after another, are the
//! samples of all lists, one after another. Both are checked to the last row before anything is compared.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write},
    path::Path,
};

use talkoot_dataset::{
    ListReader, SampleId,
    progress::Unit,
    work::{ChunkFormat, List, Part, put_file, read_error},
};

use super::{BalanceError, job::Job};
use crate::{config::WithoutEmbedding, embedding::EmbeddingFile};

/// Ids that are read at a time.
const IDS_AT_A_TIME: u64 = 4_096;
/// Samples after which progress is told.
const TOLD_EVERY: u64 = 1 << 13;

const FORMAT: ChunkFormat<1> = ChunkFormat { magic: *b"TKROWS\x00\x01", row_bytes: 8 };

/// The row of a sample: the file's number in 16 bits, the row's in 48.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RowPlace(u64);

impl RowPlace {
    /// No row.
    const NONE: Self = Self(u64::MAX);

    const fn new(file: usize, row: u64) -> Self {
        Self((file as u64) << 48 | row)
    }

    /// Number of the file and of the row in it, unless there is none.
    pub(super) fn get(self) -> Option<(usize, u64)> {
        (self != Self::NONE).then_some(((self.0 >> 48) as usize, self.0 & ((1 << 48) - 1)))
    }
}

/// Finds the rows of a part's samples and writes them to `path`, unless an earlier try has.
pub(super) fn align(
    job: &Job<'_>,
    files: &mut [EmbeddingFile],
    part: Part,
    path: &Path,
) -> Result<(), BalanceError> {
    if path.exists() {
        return Ok(());
    }
    job.progress.begin("aligning", job.list_bytes(), Unit::Bytes);
    let mut failure = None;
    let written = put_file(path, |file| {
        write_places(job, files, part, file).map_err(|error| {
            failure = Some(error);
            io::Error::other("aligning stopped")
        })
    });
    match failure {
        Some(error) => Err(error),
        None => Ok(written?),
    }
}

fn write_places(
    job: &Job<'_>,
    files: &mut [EmbeddingFile],
    part: Part,
    out: &mut BufWriter<File>,
) -> Result<(), BalanceError> {
    let failed = |source| {
        BalanceError::from(talkoot_dataset::work::WorkError::Write {
            path: job.work.path().to_path_buf(),
            source,
        })
    };
    let mut finder = Finder::new(files)?;
    let mut count = 0u64;
    FORMAT.write_head(out, &job.tags.fingerprint, [0]).map_err(failed)?;
    for list in &job.lists {
        each_id(job, list, |id| {
            let place = finder.find(id)?;
            if id.part(part.of()) == part.index() {
                count += 1;
                out.write_all(&place.0.to_le_bytes()).map_err(failed)?;
            }
            let refused = job.options.config.concepts.without_embedding == WithoutEmbedding::Refuse;
            Ok(place != RowPlace::NONE || !refused)
        })?
        .map_or(Ok(()), |(id, offset)| {
            let (list, next) = (list.path.clone(), finder.next_rows());
            Err(BalanceError::NoRow { list, offset, id, next })
        })?;
    }
    finder.finish()?;
    out.seek(SeekFrom::Start(0)).map_err(failed)?;
    FORMAT.write_head(out, &job.tags.fingerprint, [count]).map_err(failed)
}

/// Gives the id of each sample of a list to `take`, until it says no: then its id and place.
fn each_id(
    job: &Job<'_>,
    list: &List,
    mut take: impl FnMut(SampleId) -> Result<bool, BalanceError>,
) -> Result<Option<(SampleId, u64)>, BalanceError> {
    let mut reader = ListReader::open(&list.path)?;
    let (mut seen, mut told) = (0u64, 0);
    loop {
        let mut said = Ok(true);
        let stopped = reader.next_where(|id| {
            seen += 1;
            said = take(id);
            !matches!(said, Ok(true)) || seen.is_multiple_of(TOLD_EVERY)
        });
        let goes_on = said?;
        let Some(placed) = stopped.transpose()? else { break };
        if !goes_on {
            return Ok(Some((placed.sample.id, placed.offset)));
        }
        job.progress.advance(reader.bytes_read() - told);
        told = reader.bytes_read();
    }
    job.progress.advance(list.bytes.saturating_sub(told));
    Ok(None)
}

/// Goes through files of embeddings beside the lists.
struct Finder<'f> {
    files: Vec<Cursor<'f>>,
    /// Which file has which sample's row next.
    next: HashMap<SampleId, usize>,
    with_ids: bool,
}

/// A file of embeddings, at a row.
struct Cursor<'f> {
    file: &'f mut EmbeddingFile,
    row: u64,
    ids: Vec<SampleId>,
    /// Row of the first of `ids`.
    first: u64,
}

impl<'f> Finder<'f> {
    fn new(files: &'f mut [EmbeddingFile]) -> Result<Self, BalanceError> {
        let with = files.iter().find(|file| file.has_ids()).map(|file| file.path().to_path_buf());
        let without = files.iter().find(|file| !file.has_ids()).map(|file| file.path().to_path_buf());
        let with_ids = with.is_some();
        if let (Some(with), Some(without)) = (with, without) {
            return Err(BalanceError::MixedIds { with, without });
        }
        let cursors = files.iter_mut().map(|file| Cursor { file, row: 0, ids: Vec::new(), first: 0 });
        let mut finder = Self { files: cursors.collect(), next: HashMap::new(), with_ids };
        if with_ids {
            (0..finder.files.len()).try_for_each(|at| finder.announce(at))?;
        }
        Ok(finder)
    }

    /// Puts the next row of a file in line.
    fn announce(&mut self, at: usize) -> Result<(), BalanceError> {
        if let Some(id) = self.files[at].id()?
            && let Some(other) = self.next.insert(id, at)
        {
            let path = |at: usize| self.files[at].file.path().to_path_buf();
            return Err(BalanceError::RowTwice { first: path(other), second: path(at), id });
        }
        Ok(())
    }

    /// The row of the next sample.
    fn find(&mut self, id: SampleId) -> Result<RowPlace, BalanceError> {
        let at = if self.with_ids {
            self.next.remove(&id)
        } else {
            self.files.iter().position(|cursor| cursor.row < cursor.file.rows())
        };
        let Some(at) = at else { return Ok(RowPlace::NONE) };
        let place = RowPlace::new(at, self.files[at].row);
        self.files[at].row += 1;
        if self.with_ids {
            self.announce(at)?;
        }
        Ok(place)
    }

    /// Whose rows come next, for an error.
    fn next_rows(&mut self) -> String {
        let open = self.files.iter_mut().find(|cursor| cursor.row < cursor.file.rows());
        let Some(cursor) = open else { return ", whose rows are all used".to_owned() };
        match cursor.id() {
            Ok(Some(id)) => {
                format!(
                    "; the next one, row {} of {}, is of sample {id}",
                    cursor.row,
                    cursor.file.path().display()
                )
            }
            _ => String::new(),
        }
    }

    /// Checks that all rows belong to samples.
    fn finish(mut self) -> Result<(), BalanceError> {
        for cursor in &mut self.files {
            if cursor.row < cursor.file.rows() {
                let whose = match cursor.id()? {
                    Some(id) => format!("sample {id}, which the lists do not have at its place"),
                    None => "no sample, as the lists have fewer".to_owned(),
                };
                let (path, row) = (cursor.file.path().to_path_buf(), cursor.row);
                return Err(BalanceError::NoSample { path, row, whose });
            }
        }
        Ok(())
    }
}

impl Cursor<'_> {
    /// Whose row is next, if there is one and it says so.
    fn id(&mut self) -> Result<Option<SampleId>, BalanceError> {
        if self.row == self.file.rows() || !self.file.has_ids() {
            return Ok(None);
        }
        if self.row >= self.first + self.ids.len() as u64 {
            self.ids.clear();
            self.first = self.row;
            let count = IDS_AT_A_TIME.min(self.file.rows() - self.row) as usize;
            self.file.read_ids(self.row, count, &mut self.ids)?;
        }
        Ok(Some(self.ids[(self.row - self.first) as usize]))
    }
}

/// Reads what [`align`] wrote.
pub(super) struct RowPlaces {
    file: BufReader<File>,
    path: std::path::PathBuf,
}

impl RowPlaces {
    /// Opens `path` behind the first `skip` samples.
    pub(super) fn open(job: &Job<'_>, path: &Path, skip: u64) -> Result<Self, BalanceError> {
        let (mut file, _) = FORMAT.open(path, &job.tags.fingerprint)?;
        let at = ChunkFormat::<1>::HEAD_BYTES + 8 * skip;
        file.seek(SeekFrom::Start(at)).map_err(read_error(path))?;
        Ok(Self { file: BufReader::with_capacity(64 << 10, file), path: path.to_path_buf() })
    }

    /// The rows of the next `count` samples.
    pub(super) fn next(&mut self, count: usize) -> Result<Vec<RowPlace>, BalanceError> {
        let mut bytes = vec![0; 8 * count];
        self.file.read_exact(&mut bytes).map_err(read_error(&self.path))?;
        Ok(bytes.as_chunks().0.iter().map(|&place| RowPlace(u64::from_le_bytes(place))).collect())
    }
}
