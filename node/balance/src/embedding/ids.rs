//! Whose a row is: ids in the file, or in a text beside it.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use talkoot_dataset::SampleId;

use super::{EmbeddingError, read_error};

/// Bytes of an id.
const ID_BYTES: u64 = 16;
/// Bytes of a line with an id.
const LINE_BYTES: u64 = SampleId::DIGITS as u64 + 1;

/// Where the ids of a file's rows are.
#[derive(Debug)]
pub(super) enum Ids {
    /// In the file, 16 bytes each.
    Inside {
        /// Where they start, in bytes.
        start: u64,
    },
    /// In a text of their own.
    Beside {
        /// Which.
        path: PathBuf,
        /// Opened.
        file: File,
    },
}

/// Where the ids of `x.npy` are.
pub(super) fn path_beside(path: &Path) -> PathBuf {
    path.with_extension("ids.txt")
}

impl Ids {
    /// The text beside `path`, if there is one; it has a line for each of the `rows`.
    pub(super) fn beside(path: &Path, rows: u64) -> Result<Option<Self>, EmbeddingError> {
        let path = path_beside(path);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(read_error(&path))?,
        };
        let got = file.metadata().map_err(read_error(&path))?.len();
        match rows.checked_mul(LINE_BYTES) {
            Some(expected) if expected == got => Ok(Some(Self::Beside { path, file })),
            expected => {
                let expected = expected.unwrap_or(u64::MAX);
                Err(EmbeddingError::Length { path, expected, got })
            }
        }
    }

    /// Appends the ids of `count` rows from `first` on; `rows` is the file of the rows, at `at`.
    pub(super) fn read(
        &mut self,
        at: &Path,
        rows: &mut File,
        first: u64,
        count: usize,
        into: &mut Vec<SampleId>,
    ) -> Result<(), EmbeddingError> {
        match self {
            Self::Inside { start } => {
                let bytes = stretch(rows, *start + first * ID_BYTES, count * ID_BYTES as usize);
                let bytes = bytes.map_err(read_error(at))?;
                into.extend(bytes.as_chunks().0.iter().map(|&id| SampleId::from_bytes(id)));
                Ok(())
            }
            Self::Beside { path, file } => {
                let bytes = stretch(file, first * LINE_BYTES, count * LINE_BYTES as usize);
                let bytes = bytes.map_err(read_error(path))?;
                for (line, row) in bytes.chunks_exact(LINE_BYTES as usize).zip(first..) {
                    let digits = line.strip_suffix(b"\n").and_then(|digits| std::str::from_utf8(digits).ok());
                    let id = digits.and_then(|digits| digits.parse().ok());
                    into.push(id.ok_or_else(|| EmbeddingError::Id { path: path.clone(), row })?);
                }
                Ok(())
            }
        }
    }
}

fn stretch(file: &mut File, from: u64, bytes: usize) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(from))?;
    let mut stretch = vec![0; bytes];
    file.read_exact(&mut stretch)?;
    Ok(stretch)
}
