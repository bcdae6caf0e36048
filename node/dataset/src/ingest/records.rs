//! The records of a file, one after another: a JSON array, or JSON lines.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{
    IngestError, MAX_LINE_BYTES,
    elements::{Elements, Next},
};

/// Reads a file of records, one record in memory at a time.
#[derive(Debug)]
pub struct Records {
    path: PathBuf,
    layout: Layout,
    record: u64,
    buffer: Vec<u8>,
    done: bool,
}

#[derive(Debug)]
enum Layout {
    Array(Elements<BufReader<File>>),
    Lines { file: BufReader<File>, bytes_read: u64 },
}

/// A record as it stands in its file.
#[derive(Debug, Clone, PartialEq)]
pub struct Raw {
    /// Its place in the file, from 0.
    pub record: u64,
    /// What it is, or why it is no JSON.
    pub value: Result<Value, String>,
}

impl Records {
    /// Opens `path`: a file whose name ends in `.jsonl` has a record on each line, any other is a JSON array.
    ///
    /// # Errors
    ///
    /// [`IngestError::Read`] when the file cannot be read.
    pub fn open(path: &Path) -> Result<Self, IngestError> {
        let file = File::open(path)
            .map_err(|source| IngestError::Read { path: path.to_path_buf(), source })
            .map(|file| BufReader::with_capacity(1 << 20, file))?;
        let lines = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("jsonl"));
        let layout =
            if lines { Layout::Lines { file, bytes_read: 0 } } else { Layout::Array(Elements::new(file)) };
        Ok(Self { path: path.to_path_buf(), layout, record: 0, buffer: Vec::new(), done: false })
    }

    /// Bytes of the file that are read, for progress.
    pub const fn bytes_read(&self) -> u64 {
        match &self.layout {
            Layout::Array(elements) => elements.bytes_read(),
            Layout::Lines { bytes_read, .. } => *bytes_read,
        }
    }

    fn read(&mut self) -> Result<Option<Raw>, IngestError> {
        let failed = |source| IngestError::Read { path: self.path.clone(), source };
        let too_long = match &mut self.layout {
            Layout::Array(elements) => match elements.next(&mut self.buffer).map_err(failed)? {
                Next::Element => false,
                Next::TooLong => true,
                Next::End => return Ok(None),
                Next::Broken(reason) => {
                    return Err(IngestError::NotAnArray { path: self.path.clone(), reason });
                }
            },
            Layout::Lines { file, bytes_read } => {
                match next_line(file, &mut self.buffer, bytes_read).map_err(failed)? {
                    None => return Ok(None),
                    Some(too_long) => too_long,
                }
            }
        };
        let value = if too_long {
            Err(format!("it has more than {MAX_LINE_BYTES} bytes"))
        } else {
            serde_json::from_slice(&self.buffer).map_err(|error| error.to_string())
        };
        self.record += 1;
        Ok(Some(Raw { record: self.record - 1, value }))
    }
}

impl Iterator for Records {
    type Item = Result<Raw, IngestError>;

    /// The next record; after an error, which tells that the rest of the file is lost, there is nothing more.
    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = self.read().transpose();
        self.done = !matches!(next, Some(Ok(_)));
        next
    }
}

/// Reads the next line that isn't blank; whether it is too long, of which then only the head is there.
fn next_line(file: &mut impl BufRead, line: &mut Vec<u8>, bytes_read: &mut u64) -> io::Result<Option<bool>> {
    loop {
        line.clear();
        let got = file.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', line)? as u64;
        *bytes_read += got;
        if got == 0 {
            return Ok(None);
        }
        let too_long = got == MAX_LINE_BYTES && !line.ends_with(b"\n");
        if too_long {
            *bytes_read += skip_line(file)?;
        }
        if too_long || !line.iter().all(u8::is_ascii_whitespace) {
            return Ok(Some(too_long));
        }
    }
}

fn skip_line(file: &mut impl BufRead) -> io::Result<u64> {
    let mut skipped = 0;
    loop {
        let buffer = file.fill_buf()?;
        let (used, done) = match buffer.iter().position(|&byte| byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (buffer.len(), buffer.is_empty()),
        };
        file.consume(used);
        skipped += used as u64;
        if done {
            return Ok(skipped);
        }
    }
}
