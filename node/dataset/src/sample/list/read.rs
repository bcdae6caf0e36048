//! Reading a list of samples, line by line or at an offset.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use super::{End, Head, LIST, ListError, MAX_LINE_BYTES, MAX_ROOTS, VERSION};
use crate::sample::{Roots, Sample, SampleId};

/// A sample with its place in the list.
#[derive(Debug, Clone, PartialEq)]
pub struct Placed {
    /// Where its line starts, in bytes; what [`read_at`] takes.
    pub offset: u64,
    /// The sample.
    pub sample: Sample,
}

/// Reads a list from its beginning to its end, one sample in memory at a time.
#[derive(Debug)]
pub struct ListReader {
    path: PathBuf,
    file: BufReader<File>,
    roots: Roots,
    line: Vec<u8>,
    offset: u64,
    samples: u64,
    done: bool,
}

impl ListReader {
    /// Opens the list in `path` and reads its head.
    ///
    /// # Errors
    ///
    /// [`ListError`] when the file or a root's folder cannot be read, or the file is no list.
    pub fn open(path: &Path) -> Result<Self, ListError> {
        let read = |source| ListError::Read { path: path.to_path_buf(), source };
        let file = BufReader::with_capacity(1 << 20, File::open(path).map_err(read)?);
        let mut reader = Self {
            path: path.to_path_buf(),
            file,
            roots: Roots::new(),
            line: Vec::new(),
            offset: 0,
            samples: 0,
            done: false,
        };
        reader.head()?;
        Ok(reader)
    }

    fn head(&mut self) -> Result<(), ListError> {
        let not_a_list = |reason: String| ListError::NotAList { path: self.path.clone(), reason };
        let length = read_line(&mut self.file, &mut self.line)
            .map_err(|source| ListError::Read { path: self.path.clone(), source })?;
        let head: Head = serde_json::from_slice(&self.line).map_err(|error| not_a_list(error.to_string()))?;
        if head.list != LIST || head.version != VERSION {
            return Err(not_a_list(format!("it says {:?}, version {}", head.list, head.version)));
        }
        if head.roots.len() > MAX_ROOTS {
            return Err(not_a_list(format!("it has {} roots, more than {MAX_ROOTS}", head.roots.len())));
        }
        let here = self.path.parent().unwrap_or(Path::new(""));
        let here = if here.as_os_str().is_empty() { Path::new(".") } else { here };
        for (name, folder) in head.roots {
            let folder = here.join(folder);
            self.roots.add(&name, &folder).map_err(|source| ListError::Read { path: folder, source })?;
        }
        self.offset = length;
        Ok(())
    }

    /// The folders that the samples' pictures are under.
    pub const fn roots(&self) -> &Roots {
        &self.roots
    }

    /// Bytes of the list read so far, for progress.
    pub const fn bytes_read(&self) -> u64 {
        self.offset
    }

    /// Samples of one part of the work: those for which `keep` holds. Lines of others are not parsed.
    ///
    /// # Errors
    ///
    /// [`ListError`] when the list is bad or cut off; after an error or `None` there is nothing more.
    pub fn next_where(
        &mut self,
        mut keep: impl FnMut(SampleId) -> bool,
    ) -> Option<Result<Placed, ListError>> {
        while !self.done {
            match self.step(&mut keep) {
                Ok(Some(placed)) => return Some(Ok(placed)),
                Ok(None) => {}
                Err(error) => {
                    self.done = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }

    /// The next sample's line with its end, not parsed; after an error or `None` there is nothing more.
    pub(super) fn next_line(&mut self) -> Option<Result<&[u8], ListError>> {
        if self.done {
            return None;
        }
        match self.line() {
            Ok(Some(_)) => Some(Ok(&self.line)),
            Ok(None) => None,
            Err(error) => {
                self.done = true;
                Some(Err(error))
            }
        }
    }

    /// One line: a sample, or `None` for one that isn't kept and for the end.
    fn step(&mut self, keep: &mut impl FnMut(SampleId) -> bool) -> Result<Option<Placed>, ListError> {
        let offset = self.offset;
        let Some(id) = self.line()? else { return Ok(None) };
        if !keep(id) {
            return Ok(None);
        }
        match parse(&self.line) {
            Ok(sample) => Ok(Some(Placed { offset, sample })),
            Err(reason) => Err(ListError::BadLine { path: self.path.clone(), offset, reason }),
        }
    }

    /// Reads a line: the id of its sample, or `None` at the end.
    fn line(&mut self) -> Result<Option<SampleId>, ListError> {
        let offset = self.offset;
        let length = read_line(&mut self.file, &mut self.line)
            .map_err(|source| ListError::Read { path: self.path.clone(), source })?;
        self.offset += length;
        if length == 0 {
            return Err(self.cut_off("it has no last line with the number of samples".into()));
        }
        if !self.line.ends_with(b"\n") {
            return Err(self.cut_off("its last line has no end".into()));
        }
        let Some(id) = id_of(&self.line) else { return self.end(offset).map(|()| None) };
        self.samples += 1;
        Ok(Some(id))
    }

    fn end(&mut self, offset: u64) -> Result<(), ListError> {
        let end: End = serde_json::from_slice(&self.line).map_err(|error| ListError::BadLine {
            path: self.path.clone(),
            offset,
            reason: format!("neither a sample nor the end: {error}"),
        })?;
        if end.samples != self.samples {
            let reason = format!("it should have {} samples and has {}", end.samples, self.samples);
            return Err(self.cut_off(reason));
        }
        self.done = true;
        Ok(())
    }

    fn cut_off(&self, reason: String) -> ListError {
        ListError::CutOff { path: self.path.clone(), reason }
    }
}

impl Iterator for ListReader {
    type Item = Result<Placed, ListError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_where(|_| true)
    }
}

/// The sample whose line starts at `offset` of an open list, as a [`Placed`] told.
///
/// # Errors
///
/// [`ListError`] when there is no sample.
pub fn read_at(list: &mut File, path: &Path, offset: u64) -> Result<Sample, ListError> {
    let read = |source| ListError::Read { path: path.to_path_buf(), source };
    list.seek(SeekFrom::Start(offset)).map_err(read)?;
    let mut line = Vec::new();
    // Most lines are short; a large buffer would be read for nothing.
    read_line(&mut BufReader::with_capacity(4 << 10, list), &mut line).map_err(read)?;
    parse(&line).map_err(|reason| ListError::BadLine { path: path.to_path_buf(), offset, reason })
}

fn parse(line: &[u8]) -> Result<Sample, String> {
    let sample: Sample = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    sample.check().map_err(|error| error.to_string())?;
    Ok(sample)
}

/// The id that a sample's line begins with, without parsing the rest.
fn id_of(line: &[u8]) -> Option<SampleId> {
    let digits = line.strip_prefix(br#"{"id":""#)?.get(..SampleId::DIGITS)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Reads a line with its end into `line` and tells its length; 0 at the end of the file.
fn read_line(file: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<u64> {
    line.clear();
    let length = file.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', line)?;
    if length as u64 == MAX_LINE_BYTES && !line.ends_with(b"\n") {
        let reason = format!("a line has more than {MAX_LINE_BYTES} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    }
    Ok(length as u64)
}
