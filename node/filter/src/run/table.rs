//! The table of rows: what the second pass knows of a sample, 96 bytes on disk.
//!
//! ```text
//! file    magic (8), fingerprint of the job (32), rows (8), rows
//! row     place (8), broken rules (4), quality (4), difficulty (4), bins (5), zeros (7), print (64)
//! ```
//!
//! A row for each sample, also for one that is dropped, so that samples in can be counted against samples out.

use std::{
    fs::File,
    io::{BufReader, Read, Write},
    path::{Path, PathBuf},
};

use talkoot_dataset::work::{ChunkFormat, Place, WorkError, put_file, read_error};
use talkoot_protocol::digest::Digest;

use crate::{examine::Scores, histogram::Bins, print::Print};

const ROW_BYTES: usize = 32 + Print::BYTES;
/// The number of the head is that of the rows.
const FORMAT: ChunkFormat<1> = ChunkFormat { magic: *b"TKFILTR\x01", row_bytes: ROW_BYTES as u64 };

/// What is known of a sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Row {
    pub(super) place: Place,
    /// A bit for each rule that it breaks.
    pub(super) broken: u32,
    pub(super) scores: Scores,
    pub(super) bins: Bins,
    pub(super) print: Print,
}

impl Row {
    fn to_bytes(self) -> [u8; ROW_BYTES] {
        let mut bytes = [0; ROW_BYTES];
        bytes[..8].copy_from_slice(&self.place.bits().to_le_bytes());
        bytes[8..12].copy_from_slice(&self.broken.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.scores.quality.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.scores.difficulty.to_le_bytes());
        bytes[20..25].copy_from_slice(&self.bins.0);
        bytes[32..].copy_from_slice(&self.print.to_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; ROW_BYTES]) -> Self {
        let four = |at: usize| std::array::from_fn(|byte| bytes[at + byte]);
        Self {
            place: Place::from_bits(u64::from_le_bytes(std::array::from_fn(|byte| bytes[byte]))),
            broken: u32::from_le_bytes(four(8)),
            scores: Scores {
                quality: f32::from_le_bytes(four(12)),
                difficulty: f32::from_le_bytes(four(16)),
            },
            bins: Bins(std::array::from_fn(|bin| bytes[20 + bin])),
            print: Print::from_bytes(&std::array::from_fn(|byte| bytes[32 + byte])),
        }
    }
}

/// Writes a chunk.
pub(super) fn write_chunk(path: &Path, fingerprint: &Digest, rows: &[Row]) -> Result<(), WorkError> {
    put_file(path, |file| {
        FORMAT.write_head(file, fingerprint, [rows.len() as u64])?;
        rows.iter().try_for_each(|row| file.write_all(&row.to_bytes()))
    })
}

/// Reads a chunk, row by row.
pub(super) struct Chunk {
    path: PathBuf,
    file: BufReader<File>,
    left: u64,
}

impl Chunk {
    /// Opens the chunk in `path` and checks its head and its length.
    pub(super) fn open(path: &Path, fingerprint: &Digest) -> Result<Self, WorkError> {
        let (file, [left]) = FORMAT.open(path, fingerprint)?;
        Ok(Self { path: path.to_path_buf(), file: BufReader::with_capacity(64 << 10, file), left })
    }

    /// Rows that are not read yet.
    pub(super) const fn left(&self) -> u64 {
        self.left
    }

    pub(super) fn next(&mut self) -> Result<Option<Row>, WorkError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let mut bytes = [0; ROW_BYTES];
        self.file.read_exact(&mut bytes).map_err(read_error(&self.path))?;
        Ok(Some(Row::from_bytes(&bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::print::Sketch;

    fn row(number: u64) -> Row {
        Row {
            place: Place::new(number as usize % 3, number * 1_000).unwrap(),
            broken: number as u32 & 5,
            scores: Scores { quality: 0.25, difficulty: number as f32 / 100.0 },
            bins: Bins([1, 2, 255, 4, number as u8]),
            print: Print {
                id: number << 40,
                brightness: 1,
                colour: 2,
                sketch: Sketch([3, 4, 5, number]),
                question: 6,
                pictures: 7,
                rank: 8,
            },
        }
    }

    #[test]
    fn rows_come_back_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let (path, job) = (folder.path().join("chunk"), Digest::of(b"job"));
        let rows: Vec<Row> = (0..9).map(row).collect();
        write_chunk(&path, &job, &rows).unwrap();
        let mut chunk = Chunk::open(&path, &job).unwrap();
        let back: Vec<Row> = std::iter::from_fn(|| chunk.next().unwrap()).collect();
        assert_eq!(back, rows);
        assert_eq!((back[5].place.list(), back[5].place.offset()), (2, 5_000));
    }
}
