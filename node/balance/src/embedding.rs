//! Files of embeddings: a row of numbers for each sample or concept.
//!
//! ```text
//! x.npy            NumPy's format 1, 2 or 3: float32 or float16, little endian, row after row; (rows, width)
//! x.ids.txt        beside it, where there is one: a line of 32 hexadecimal digits for each row
//! x.safetensors    a tensor `embeddings` (rows, width) of F32, F16 or BF16, or the only one of two axes;
//!                  `ids` (rows, 16) of U8 where rows say whose they are
//! ```
//!
//! Heads are bounded before anything is allocated for them, and have to fit the file's length to the byte. Rows are read
//! where they are asked for, so a file may be larger than memory.

mod error;
mod ids;
mod npy;
mod tensors;
mod unit;
mod write;

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use talkoot_dataset::SampleId;
use talkoot_trainer::huggingface::FloatType;

pub use self::{
    error::EmbeddingError,
    npy::NpyError,
    unit::{Flaw, add_rows, make_unit, take_off},
    write::EmbeddingWriter,
};
use self::{
    error::{read_error, shape, write_error},
    ids::Ids,
};

/// Most numbers of a row.
pub const MAX_WIDTH: u64 = 1 << 16;
/// Bytes that are read at a time.
const PIECE_BYTES: usize = 1 << 20;

/// A file of embeddings, opened. Its rows are read by one thread.
#[derive(Debug)]
pub struct EmbeddingFile {
    path: PathBuf,
    file: File,
    rows: u64,
    width: usize,
    float: FloatType,
    start: u64,
    ids: Option<Ids>,
    bytes: Vec<u8>,
}

/// Where rows are in a file.
struct Layout {
    rows: u64,
    width: u64,
    float: FloatType,
    start: u64,
    ids: Option<Ids>,
}

impl EmbeddingFile {
    /// Opens `path`, which ends in `.npy` or `.safetensors`, and reads its head.
    ///
    /// # Errors
    ///
    /// [`EmbeddingError`] says what is wrong with the file's name, head, shape or length.
    pub fn open(path: &Path) -> Result<Self, EmbeddingError> {
        let mut file = File::open(path).map_err(read_error(path))?;
        let layout = match path.extension().and_then(|end| end.to_str()) {
            Some("npy") => npy_layout(path, &mut file)?,
            Some("safetensors") => tensors::layout(path, &mut file)?,
            _ => return Err(EmbeddingError::Kind { path: path.to_path_buf() }),
        };
        let Layout { rows, width, float, start, ids } = layout;
        if !(1..=MAX_WIDTH).contains(&width) {
            let must = format!("a row must have 1 to {MAX_WIDTH} numbers");
            return Err(shape(path, "the matrix of embeddings", vec![rows, width], must));
        }
        let (path, width) = (path.to_path_buf(), width as usize);
        Ok(Self { path, file, rows, width, float, start, ids, bytes: Vec::new() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many rows it has.
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    /// Numbers of a row.
    pub const fn width(&self) -> usize {
        self.width
    }

    /// Type of the numbers.
    pub const fn float(&self) -> FloatType {
        self.float
    }

    /// Whether rows say whose they are.
    pub const fn has_ids(&self) -> bool {
        self.ids.is_some()
    }

    /// Appends `count` rows, the first of them row `first`, to `into`.
    ///
    /// # Errors
    ///
    /// [`EmbeddingError::Read`], also when there are not as many rows.
    pub fn read(&mut self, first: u64, count: usize, into: &mut Vec<f32>) -> Result<(), EmbeddingError> {
        let row_bytes = self.width * self.float.bytes();
        self.file
            .seek(SeekFrom::Start(self.start + first * row_bytes as u64))
            .map_err(read_error(&self.path))?;
        let at_a_time = (PIECE_BYTES / row_bytes).max(1);
        for done in (0..count).step_by(at_a_time) {
            self.bytes.resize(at_a_time.min(count - done) * row_bytes, 0);
            self.file.read_exact(&mut self.bytes).map_err(read_error(&self.path))?;
            self.float.decode(&self.bytes, into);
        }
        Ok(())
    }

    /// Appends the ids of `count` rows, the first of them row `first`, to `into`; nothing where rows have none.
    ///
    /// # Errors
    ///
    /// [`EmbeddingError::Read`] and [`EmbeddingError::Id`].
    pub fn read_ids(
        &mut self,
        first: u64,
        count: usize,
        into: &mut Vec<SampleId>,
    ) -> Result<(), EmbeddingError> {
        match &mut self.ids {
            Some(ids) => ids.read(&self.path, &mut self.file, first, count, into),
            None => Ok(()),
        }
    }

    /// The error for a row that has no direction.
    pub fn flawed(&self, row: u64, flaw: Flaw) -> EmbeddingError {
        EmbeddingError::Flawed { path: self.path.clone(), row, flaw }
    }
}

fn npy_layout(path: &Path, file: &mut File) -> Result<Layout, EmbeddingError> {
    let npy = |source| EmbeddingError::Npy { path: path.to_path_buf(), source };
    let head = npy::read_head(file).map_err(npy)?;
    let [rows, width] = head.shape[..] else {
        return Err(shape(path, "the array", head.shape, "it must be (rows, width)".into()));
    };
    let row_bytes = width.checked_mul(head.float.bytes() as u64);
    let body = row_bytes.and_then(|row_bytes| row_bytes.checked_mul(rows));
    let expected = body.and_then(|body| body.checked_add(head.start)).unwrap_or(u64::MAX);
    let got = file.metadata().map_err(read_error(path))?.len();
    if expected != got {
        return Err(EmbeddingError::Length { path: path.to_path_buf(), expected, got });
    }
    let ids = Ids::beside(path, rows)?;
    Ok(Layout { rows, width, float: head.float, start: head.start, ids })
}

#[cfg(test)]
mod tests;
