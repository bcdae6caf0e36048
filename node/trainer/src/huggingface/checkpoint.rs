//! A folder of weights, opened: which tensor is where, and its numbers when they are asked for.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use safetensors::Dtype;

use super::{
    FloatType, FolderError, Header, HeaderError, INDEX_FILE, ShardIndex, WEIGHTS_FILE,
    error::io_error,
    files::read_bounded,
    index::IndexError,
    names::{disk_name, shown},
};
use crate::state::StateError;

/// Longest stretch of a tensor that is held at a time, in bytes.
pub const PIECE_BYTES: usize = 1 << 20;
/// Longest index that is read, in bytes.
const MAX_INDEX_BYTES: u64 = 16 << 20;
/// Most files that one checkpoint is opened from.
const MAX_FILES: usize = 1_000;

/// The weights of a folder. Only their descriptions are in memory.
#[derive(Debug)]
pub struct Checkpoint {
    /// The folder, or the single file.
    pub path: PathBuf,
    /// Every tensor, by its name on disk, whichever spelling the files have.
    pub tensors: BTreeMap<String, StoredTensor>,
    /// The weights files and their lengths in bytes, in byte order of the names.
    pub files: Vec<(String, u64)>,
}

/// A tensor in a file.
#[derive(Debug, Clone)]
pub struct StoredTensor {
    file: Arc<OpenFile>,
    /// Name as it stands in the file.
    name: String,
    /// Number type.
    pub dtype: Dtype,
    /// Length of every axis, outermost first.
    pub shape: Vec<usize>,
    /// First byte, counted from the start of the file.
    start: u64,
    /// Length in bytes.
    pub bytes: u64,
}

/// A stretch of a tensor, as it is stored and as f32.
#[derive(Debug, Default)]
struct Piece {
    bytes: Vec<u8>,
    values: Vec<f32>,
}

#[derive(Debug)]
struct OpenFile {
    path: PathBuf,
    file: File,
}

impl Checkpoint {
    /// Opens `model.safetensors` of a folder, or else the files of its index. Reads descriptions only.
    ///
    /// # Errors
    ///
    /// [`FolderError`] names the file or tensor that is wrong: a file is damaged, a tensor comes twice, index and
    /// files disagree.
    pub fn open(folder: &Path) -> Result<Self, FolderError> {
        if folder.join(WEIGHTS_FILE).exists() {
            return Self::of_files(folder, [WEIGHTS_FILE]);
        }
        let path = folder.join(INDEX_FILE);
        if !path.exists() {
            return Err(match folder.read_dir() {
                Err(source) => FolderError::Io { path: folder.to_owned(), source },
                Ok(_) => FolderError::NoWeights { path: folder.to_owned() },
            });
        }
        let json = read_bounded(&path, MAX_INDEX_BYTES)?;
        let index = ShardIndex::parse(&json).map_err(|error| match error {
            IndexError::Json(source) => FolderError::Json { path: path.clone(), source },
            IndexError::Content(error) => error,
        })?;
        let files = index.files();
        if files.len() > MAX_FILES {
            return Err(FolderError::TooManyFiles { path, got: files.len(), limit: MAX_FILES });
        }
        let checkpoint = Self::of_files(folder, files)?;
        checkpoint.check_index(&index)?;
        Ok(checkpoint)
    }

    /// Opens a folder, or a single safetensors file.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn open_folder_or_file(path: &Path) -> Result<Self, FolderError> {
        match (path.is_file(), path.parent(), path.file_name().and_then(|name| name.to_str())) {
            (true, Some(folder), Some(name)) => {
                Ok(Self { path: path.to_owned(), ..Self::of_files(folder, [name])? })
            }
            _ => Self::open(path),
        }
    }

    fn of_files<'a>(folder: &Path, names: impl IntoIterator<Item = &'a str>) -> Result<Self, FolderError> {
        let mut checkpoint = Self { path: folder.to_owned(), tensors: BTreeMap::new(), files: Vec::new() };
        for name in names {
            let bytes = checkpoint.add_file(folder.join(name))?;
            checkpoint.files.push((name.to_owned(), bytes));
        }
        Ok(checkpoint)
    }

    /// Adds the tensors of one file; returns its length in bytes.
    fn add_file(&mut self, path: PathBuf) -> Result<u64, FolderError> {
        let file = File::open(&path).map_err(io_error(&path))?;
        let bytes = file.metadata().map_err(io_error(&path))?.len();
        let file = Arc::new(OpenFile { path, file });
        for (name, place) in file.header(bytes)?.tensors {
            let on_disk = disk_name(&name);
            if self.tensors.contains_key(&on_disk) {
                return Err(FolderError::Twice { name: shown(&on_disk), path: file.path.clone() });
            }
            let (file, dtype, shape) = (file.clone(), place.dtype, place.shape);
            let (start, bytes) = (place.start, place.bytes);
            self.tensors.insert(on_disk, StoredTensor { file, name, dtype, shape, start, bytes });
        }
        Ok(bytes)
    }

    fn check_index(&self, index: &ShardIndex) -> Result<(), FolderError> {
        for (name, file) in &index.weight_map {
            let path = self.path.join(file);
            if self.tensors.get(name).is_none_or(|tensor| tensor.file.path != path) {
                return Err(FolderError::NotInShard { name: shown(name), path });
            }
        }
        match self.tensors.iter().find(|(name, _)| !index.weight_map.contains_key(*name)) {
            None => Ok(()),
            Some((name, tensor)) => {
                Err(FolderError::NotInIndex { name: shown(name), path: tensor.file.path.clone() })
            }
        }
    }
}

impl OpenFile {
    fn header(&self, bytes: u64) -> Result<Header, FolderError> {
        let wrong = |source| FolderError::Header { path: self.path.clone(), source };
        let mut first = [0; 8];
        if bytes < first.len() as u64 {
            return Err(wrong(HeaderError::Cut { header: first.len() as u64, file: bytes }));
        }
        self.read_at(&mut first, 0)?;
        let mut json = vec![0; Header::length(first, bytes).map_err(wrong)?];
        self.read_at(&mut json, first.len() as u64)?;
        Header::parse(&json, bytes).map_err(wrong)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), FolderError> {
        read_exact_at(&self.file, buffer, offset).map_err(io_error(&self.path))
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

/// Moves the file's cursor, which nobody else looks at: a checkpoint is read by one thread.
#[cfg(not(unix))]
fn read_exact_at(mut file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    use std::io::{Read as _, Seek as _};
    file.seek(io::SeekFrom::Start(offset))?;
    file.read_exact(buffer)
}

impl StoredTensor {
    /// The file that it is in.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// Number of its values.
    pub fn parameters(&self) -> u64 {
        self.shape.iter().map(|&axis| axis as u64).product()
    }

    /// Its number type, when it is one of those that weights have.
    ///
    /// # Errors
    ///
    /// [`FolderError::Dtype`] otherwise.
    pub fn float(&self) -> Result<FloatType, FolderError> {
        FloatType::of(self.dtype).ok_or_else(|| FolderError::Dtype {
            name: shown(&self.name),
            got: format!("{:?}", self.dtype),
            path: self.path().to_owned(),
        })
    }

    /// Checks number type and shape.
    pub(super) fn check(&self, expected: &[usize]) -> Result<(), FolderError> {
        self.float()?;
        if self.shape == expected {
            return Ok(());
        }
        Err(self.wrong(StateError::Shape {
            name: shown(&self.name),
            expected: expected.to_vec(),
            got: self.shape.iter().copied().take(16).collect(),
        }))
    }

    fn wrong(&self, source: StateError) -> FolderError {
        FolderError::Weights { path: self.path().to_owned(), source }
    }

    /// Hands out the numbers from first to last, at most [`PIECE_BYTES`] at a time, as they are stored and as f32.
    ///
    /// # Errors
    ///
    /// [`FolderError`] when the file cannot be read or was cut off meanwhile, a number is not finite, or `take`
    /// fails.
    pub(super) fn pieces(
        &self,
        mut take: impl FnMut(&[u8], &[f32]) -> Result<(), FolderError>,
    ) -> Result<(), FolderError> {
        let mut piece = Piece::default();
        let (step, all) = (PIECE_BYTES / self.float()?.bytes(), self.parameters());
        for from in (0..all).step_by(step) {
            self.read(from, (all - from).min(step as u64), &mut piece)?;
            take(&piece.bytes, &piece.values)?;
        }
        Ok(())
    }

    /// Reads `count` numbers, the first of them number `from`, row-major. Refuses what is not finite.
    fn read(&self, from: u64, count: u64, piece: &mut Piece) -> Result<(), FolderError> {
        let float = self.float()?;
        let width = float.bytes() as u64;
        piece.bytes.resize((count * width) as usize, 0);
        self.file.read_at(&mut piece.bytes, self.start + from * width)?;
        piece.values.clear();
        float.decode(&piece.bytes, &mut piece.values);
        match piece.values.iter().position(|value| !value.is_finite()) {
            None => Ok(()),
            Some(at) => {
                let (name, index, value) = (shown(&self.name), from as usize + at, piece.values[at]);
                Err(self.wrong(StateError::NotFinite { name, index, value }))
            }
        }
    }

    /// Whether both hold the same numbers, perhaps in different types.
    pub(super) fn same_values(&self, other: &Self) -> Result<bool, FolderError> {
        let (mut theirs, mut from, mut same) = (Piece::default(), 0, self.shape == other.shape);
        if same {
            self.pieces(|_, ours| {
                other.read(from, ours.len() as u64, &mut theirs)?;
                from += ours.len() as u64;
                same &= ours == theirs.values;
                Ok(())
            })?;
        }
        Ok(same)
    }

    /// All numbers. Check the shape first: this allocates what it asks for.
    pub(super) fn values(&self) -> Result<Vec<f32>, FolderError> {
        let mut all = Vec::with_capacity(self.parameters() as usize);
        self.pieces(|_, values| {
            all.extend_from_slice(values);
            Ok(())
        })?;
        Ok(all)
    }
}
