//! Writing embeddings as they come, under a name that the file only gets when it is whole.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use talkoot_dataset::SampleId;
use talkoot_trainer::huggingface::FloatType;

use super::{EmbeddingError, ids::path_beside, npy, tensors, write_error};

/// Bytes that are collected before they are written.
const BUFFER_BYTES: usize = 1 << 20;

/// Writes rows and, behind or beside them, whose they are. How many there will be is known before.
#[derive(Debug)]
pub struct EmbeddingWriter {
    path: PathBuf,
    kind: Kind,
    file: Draft,
    /// Ids wait in a file of their own, as there may be many.
    ids: Option<Draft>,
    rows: u64,
    width: usize,
    written: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Npy,
    Tensors,
}

/// A file that is not finished, under a name of its own.
#[derive(Debug)]
struct Draft {
    path: PathBuf,
    file: BufWriter<File>,
}

impl EmbeddingWriter {
    /// Begins the file `path`, which ends in `.npy` or `.safetensors`, for `rows` rows of `width` numbers in f32; with
    /// ids, or without as for concepts.
    ///
    /// # Errors
    ///
    /// [`EmbeddingError::Kind`] and [`EmbeddingError::Write`].
    pub fn create(path: &Path, rows: u64, width: usize, with_ids: bool) -> Result<Self, EmbeddingError> {
        let kind = match path.extension().and_then(|end| end.to_str()) {
            Some("npy") => Kind::Npy,
            Some("safetensors") => Kind::Tensors,
            _ => return Err(EmbeddingError::Kind { path: path.to_path_buf() }),
        };
        let mut file = Draft::create(path, ".part")?;
        file.write(&match kind {
            Kind::Npy => npy::head(FloatType::F32, rows, width),
            Kind::Tensors => tensors::head(rows, width, with_ids),
        })?;
        let ids = if with_ids { Some(Draft::create(path, ".ids.part")?) } else { None };
        Ok(Self { path: path.to_path_buf(), kind, file, ids, rows, width, written: 0 })
    }

    /// Adds rows, and the id of each where the file has ids.
    ///
    /// # Errors
    ///
    /// [`EmbeddingError::Write`].
    ///
    /// # Panics
    ///
    /// When these are no whole rows, or there are not as many ids.
    pub fn write(&mut self, rows: &[f32], ids: &[SampleId]) -> Result<(), EmbeddingError> {
        let count = rows.len() / self.width;
        assert_eq!(count * self.width, rows.len(), "whole rows");
        assert_eq!(ids.len(), if self.ids.is_some() { count } else { 0 }, "an id for each row");
        for &value in rows {
            self.file.write(&value.to_le_bytes())?;
        }
        if let Some(draft) = &mut self.ids {
            for id in ids {
                match self.kind {
                    Kind::Tensors => draft.write(id.as_bytes())?,
                    Kind::Npy => draft.write(format!("{id}\n").as_bytes())?,
                }
            }
        }
        self.written += count as u64;
        Ok(())
    }

    /// Makes the file durable under its name.
    ///
    /// # Errors
    ///
    /// [`EmbeddingError::Write`].
    ///
    /// # Panics
    ///
    /// When there are not as many rows as were announced.
    pub fn finish(self) -> Result<(), EmbeddingError> {
        assert_eq!(self.written, self.rows, "as many rows as were announced");
        let Self { path, kind, mut file, ids, .. } = self;
        match (kind, ids) {
            (Kind::Tensors, Some(ids)) => {
                let from = ids.flush()?;
                let copied = File::open(&from).and_then(|mut ids| io::copy(&mut ids, &mut file.file));
                copied.map_err(write_error(&file.path))?;
                fs::remove_file(&from).map_err(write_error(&from))?;
            }
            // The ids first: rows whose ids are missing would pass for rows without any.
            (Kind::Npy, Some(ids)) => ids.finish(&path_beside(&path))?,
            (Kind::Npy, None) => match fs::remove_file(path_beside(&path)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(write_error(&path_beside(&path))(error));
                }
                _ => {}
            },
            (Kind::Tensors, None) => {}
        }
        file.finish(&path)
    }
}

impl Draft {
    fn create(path: &Path, end: &str) -> Result<Self, EmbeddingError> {
        let mut name = OsString::from(path);
        name.push(end);
        let path = PathBuf::from(name);
        let file = BufWriter::with_capacity(BUFFER_BYTES, File::create(&path).map_err(write_error(&path))?);
        Ok(Self { path, file })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), EmbeddingError> {
        self.file.write_all(bytes).map_err(write_error(&self.path))
    }

    /// Ends the writing and tells where the file is.
    fn flush(mut self) -> Result<PathBuf, EmbeddingError> {
        self.file.flush().map_err(write_error(&self.path))?;
        Ok(self.path)
    }

    fn finish(self, name: &Path) -> Result<(), EmbeddingError> {
        let Self { path, file } = self;
        let put = || {
            let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.sync_all()?;
            fs::rename(&path, name)
        };
        put().map_err(write_error(name))
    }
}
