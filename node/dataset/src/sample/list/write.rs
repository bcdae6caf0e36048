//! Writing a list of samples: whole, or not there.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{End, Head, LIST, ListReader, MAX_LINE_BYTES, VERSION};
use crate::sample::{Roots, Sample};

/// Writes samples, one line each.
#[derive(Debug)]
pub struct ListWriter {
    file: PartFile,
    samples: u64,
}

impl ListWriter {
    /// Begins the list `path`, whose pictures are under `roots`; it appears when the writer
    /// [finishes](Self::finish).
    ///
    /// # Errors
    ///
    /// When the file cannot be made.
    pub fn create(path: &Path, roots: &Roots) -> io::Result<Self> {
        let mut file = PartFile::create(path)?;
        let here = path.parent().filter(|here| !here.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let here = here.canonicalize()?;
        // What lies beside the list moves with it.
        let relative = |folder: &Path| folder.strip_prefix(&here).unwrap_or(folder).to_path_buf();
        let roots = roots.iter().map(|(name, folder)| (name.to_owned(), relative(folder))).collect();
        file.json_line(&Head { list: LIST.into(), version: VERSION, roots })?;
        Ok(Self { file, samples: 0 })
    }

    /// Adds a sample.
    ///
    /// # Errors
    ///
    /// When the sample does not pass [`Sample::check`] or the file cannot be written.
    pub fn write(&mut self, sample: &Sample) -> io::Result<()> {
        sample.check()?;
        self.file.json_line(sample)?;
        self.samples += 1;
        Ok(())
    }

    /// Adds all samples of a list, whose roots are among this list's, as they are written there.
    ///
    /// # Errors
    ///
    /// When the list is bad or cut off, or the file cannot be written.
    pub fn append(&mut self, mut list: ListReader) -> io::Result<()> {
        while let Some(line) = list.next_line() {
            self.file.file.write_all(line.map_err(io::Error::other)?)?;
            self.samples += 1;
        }
        Ok(())
    }

    /// Samples so far.
    pub const fn samples(&self) -> u64 {
        self.samples
    }

    /// Ends the list and makes it durable under its name; tells how many samples it has.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn finish(mut self) -> io::Result<u64> {
        self.file.json_line(&End { samples: self.samples })?;
        self.file.finish()?;
        Ok(self.samples)
    }
}

/// A file that is written under another name, made durable and only then renamed.
#[derive(Debug)]
pub(crate) struct PartFile {
    path: PathBuf,
    part: PathBuf,
    file: BufWriter<File>,
    line: Vec<u8>,
}

impl PartFile {
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let mut part = OsString::from(path);
        part.push(".part");
        let part = PathBuf::from(part);
        let file = BufWriter::with_capacity(1 << 20, File::create(&part)?);
        Ok(Self { path: path.to_path_buf(), part, file, line: Vec::new() })
    }

    pub(crate) fn json_line(&mut self, value: &impl Serialize) -> io::Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, value)?;
        self.line.push(b'\n');
        if self.line.len() as u64 > MAX_LINE_BYTES {
            let reason = format!("a line has {} bytes, at most {MAX_LINE_BYTES} are taken", self.line.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        self.file.write_all(&self.line)
    }

    pub(crate) fn finish(self) -> io::Result<PathBuf> {
        let Self { path, part, file, .. } = self;
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        fs::rename(&part, &path)?;
        #[cfg(unix)]
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            File::open(folder)?.sync_all()?;
        }
        Ok(path)
    }
}
