//! The concepts of samples on disk.
//!
//! ```text
//! *.tags       head (see `ChunkFormat`; one number: rows), rows
//! row          place (8), id (16), source (4), zeros (4), for each of K places: concept (4), score (4)
//! *.sources    JSON: names of the sources that rows have numbers of
//! ```
//!
//! A row for each sample, also for one without any concept, so that samples in can be counted against samples out.

use std::{
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use talkoot_dataset::{
    SampleId,
    work::{ChunkFormat, Place, WorkError, put_file, read_error},
};
use talkoot_protocol::digest::Digest;

use super::BalanceError;
use crate::search::Tag;

const MAGIC: &[u8; 8] = b"TKTAGS\x00\x01";
const FIXED_BYTES: usize = 32;
const TAG_BYTES: usize = 8;

/// What is known of a sample.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TagRow {
    pub(super) place: Place,
    pub(super) id: SampleId,
    /// Number of its source among those of the chunk.
    pub(super) source: u32,
    /// Its concepts, as many places as there may be concepts.
    pub(super) tags: Vec<Tag>,
}

/// How rows are laid out, and whose they are.
#[derive(Debug, Clone, Copy)]
pub(super) struct TagFormat {
    /// Of the job.
    pub(super) fingerprint: Digest,
    /// Most concepts of a sample.
    pub(super) most: usize,
    /// Concepts that there are.
    pub(super) concepts: u32,
}

impl TagFormat {
    const fn row_bytes(&self) -> usize {
        FIXED_BYTES + TAG_BYTES * self.most
    }

    fn chunk(&self) -> ChunkFormat<1> {
        ChunkFormat { magic: *MAGIC, row_bytes: self.row_bytes() as u64 }
    }

    /// Writes a chunk.
    pub(super) fn write<'r>(
        &self,
        path: &Path,
        rows: impl ExactSizeIterator<Item = &'r TagRow>,
    ) -> Result<(), WorkError> {
        put_file(path, |file| {
            self.chunk().write_head(file, &self.fingerprint, [rows.len() as u64])?;
            for TagRow { place, id, source, tags } in rows {
                file.write_all(&place.bits().to_le_bytes())?;
                file.write_all(id.as_bytes())?;
                file.write_all(&source.to_le_bytes())?;
                file.write_all(&[0; 4])?;
                for tag in tags {
                    file.write_all(&tag.concept.to_le_bytes())?;
                    file.write_all(&tag.score.to_le_bytes())?;
                }
            }
            Ok(())
        })
    }

    /// How many rows the chunk in `path` has.
    pub(super) fn rows(&self, path: &Path) -> Result<u64, WorkError> {
        self.chunk().open(path, &self.fingerprint).map(|(_, [rows])| rows)
    }

    /// Reads the chunk in `path` from row `first` on.
    pub(super) fn read(&self, path: &Path, first: u64) -> Result<TagReader, WorkError> {
        let (mut file, [rows]) = self.chunk().open(path, &self.fingerprint)?;
        let at = ChunkFormat::<1>::HEAD_BYTES + first.min(rows) * self.row_bytes() as u64;
        file.seek(SeekFrom::Start(at)).map_err(read_error(path))?;
        Ok(TagReader {
            path: path.to_path_buf(),
            file: BufReader::with_capacity(64 << 10, file),
            left: rows.saturating_sub(first),
            bytes: vec![0; self.row_bytes()],
            concepts: self.concepts,
        })
    }
}

/// Reads a chunk, row by row.
pub(super) struct TagReader {
    path: PathBuf,
    file: BufReader<File>,
    left: u64,
    bytes: Vec<u8>,
    concepts: u32,
}

impl TagReader {
    /// The next row, if there is one.
    pub(super) fn next(&mut self) -> Result<Option<TagRow>, BalanceError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        self.file.read_exact(&mut self.bytes).map_err(read_error(&self.path))?;
        let bytes = &self.bytes;
        let four = |at: usize| -> [u8; 4] { std::array::from_fn(|byte| bytes[at + byte]) };
        let tag = |at: usize| Tag {
            concept: u32::from_le_bytes(four(at)),
            score: f32::from_le_bytes(four(at + 4)),
        };
        let tags: Vec<Tag> = (FIXED_BYTES..bytes.len()).step_by(TAG_BYTES).map(tag).collect();
        if tags.iter().any(|tag| tag.is_some() && tag.concept >= self.concepts) {
            let reason = "it has a concept that is not in the list".to_owned();
            return Err(WorkError::Damaged { path: self.path.clone(), reason }.into());
        }
        Ok(Some(TagRow {
            place: Place::from_bits(u64::from_le_bytes(std::array::from_fn(|byte| bytes[byte]))),
            id: SampleId::from_bytes(std::array::from_fn(|byte| bytes[8 + byte])),
            source: u32::from_le_bytes(four(24)),
            tags,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chunk");
        let format = TagFormat { fingerprint: Digest::of(b"job"), most: 2, concepts: 9 };
        let row = |number: u32| TagRow {
            place: Place::new(number as usize, 77).unwrap(),
            id: SampleId::from_bytes([number as u8; 16]),
            source: number,
            tags: vec![Tag { concept: number, score: 0.25 }, Tag::NONE],
        };
        let rows: Vec<TagRow> = (0..9).map(row).collect();
        format.write(&path, rows.iter()).unwrap();
        assert_eq!(format.rows(&path).unwrap(), 9);
        for first in [0, 4, 9, 20] {
            let mut reader = format.read(&path, first).unwrap();
            let back: Vec<TagRow> = std::iter::from_fn(|| reader.next().unwrap()).collect();
            assert_eq!(back, rows[(first as usize).min(9)..]);
        }
        let narrow = TagFormat { concepts: 8, ..format };
        let mut reader = narrow.read(&path, 8).unwrap();
        assert!(reader.next().unwrap_err().to_string().contains("not in the list"));
        assert!(TagFormat { most: 3, ..format }.rows(&path).is_err(), "rows of another length");
    }
}
