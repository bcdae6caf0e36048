//! Chunks: what was found out about some samples, as rows of one length after a head that says whose they are.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
};

use talkoot_protocol::digest::Digest;

use super::{WorkError, read_error};

/// How the chunks of a kind of work are laid out; all numbers little endian.
///
/// ```text
/// magic (8), fingerprint of the job (32), NUMBERS numbers (8 each), rows; the last number says how many
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkFormat<const NUMBERS: usize> {
    /// The first bytes of every chunk of this kind.
    pub magic: [u8; 8],
    /// Length of a row, in bytes.
    pub row_bytes: u64,
}

impl<const NUMBERS: usize> ChunkFormat<NUMBERS> {
    /// Length of the head, in bytes.
    pub const HEAD_BYTES: u64 = 8 + 32 + 8 * NUMBERS as u64;

    /// Writes a head; the rows come after it.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn write_head(
        &self,
        file: &mut impl Write,
        fingerprint: &Digest,
        numbers: [u64; NUMBERS],
    ) -> io::Result<()> {
        file.write_all(&self.magic)?;
        file.write_all(fingerprint.as_bytes())?;
        numbers.iter().try_for_each(|number| file.write_all(&number.to_le_bytes()))
    }

    /// Opens the chunk in `path`, checks its head and its length, and tells its numbers. The file is at the first row.
    ///
    /// # Errors
    ///
    /// [`WorkError::Read`], or [`WorkError::Damaged`] when it is none of this job's, or cut off.
    pub fn open(&self, path: &Path, fingerprint: &Digest) -> Result<(File, [u64; NUMBERS]), WorkError> {
        let damaged =
            |reason: &str| WorkError::Damaged { path: path.to_path_buf(), reason: reason.to_owned() };
        let mut file = File::open(path).map_err(read_error(path))?;
        let bytes = file.metadata().map_err(read_error(path))?.len();
        let (mut whose, mut numbers) = ([0u8; 8 + 32], [[0u8; 8]; NUMBERS]);
        let mut head = || -> io::Result<()> {
            file.read_exact(&mut whose)?;
            numbers.iter_mut().try_for_each(|number| file.read_exact(number))
        };
        head().map_err(|_| damaged("it has no head"))?;
        if whose[..8] != self.magic || whose[8..] != *fingerprint.as_bytes() {
            return Err(damaged("it belongs to other work"));
        }
        let numbers = numbers.map(u64::from_le_bytes);
        let rows = numbers.last().copied().unwrap_or(0);
        let whole = rows.checked_mul(self.row_bytes).and_then(|body| body.checked_add(Self::HEAD_BYTES));
        if whole != Some(bytes) {
            return Err(damaged("its length does not fit its head"));
        }
        Ok((file, numbers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: ChunkFormat<2> = ChunkFormat { magic: *b"TKTESTS\x01", row_bytes: 3 };

    #[test]
    fn a_damaged_or_foreign_chunk_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (path, job) = (folder.path().join("chunk"), Digest::of(b"job"));
        let mut bytes = Vec::new();
        FORMAT.write_head(&mut bytes, &job, [9, 2]).unwrap();
        assert_eq!(bytes.len() as u64, ChunkFormat::<2>::HEAD_BYTES);
        bytes.extend(b"abcdef");
        std::fs::write(&path, &bytes).unwrap();
        let (mut file, numbers) = FORMAT.open(&path, &job).unwrap();
        let mut rows = String::new();
        file.read_to_string(&mut rows).unwrap();
        assert_eq!((numbers, rows.as_str()), ([9, 2], "abcdef"));

        let refused = |bytes: &[u8], job: &Digest| {
            std::fs::write(&path, bytes).unwrap();
            FORMAT.open(&path, job).unwrap_err().to_string()
        };
        assert!(refused(&bytes, &Digest::of(b"other")).contains("other work"));
        assert!(refused(&[b"TK", &bytes[2..7], b"\x02", &bytes[8..]].concat(), &job).contains("other work"));
        assert!(refused(&bytes[..bytes.len() - 1], &job).contains("length"));
        assert!(refused(&bytes[..20], &job).contains("no head"));
        let mut huge = bytes.clone();
        huge[48..56].fill(0xff);
        assert!(refused(&huge, &job).contains("length"), "no such length");
    }
}
