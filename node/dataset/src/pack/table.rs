//! The table of lengths: what planning knows of a sample, 24 bytes on disk and 16 in memory.
//!
//! Measuring writes it in chunks, each sorted by the samples' draws. Merging reads the chunks range by range of draws,
//! so that no more than the result and one range are in memory.

use std::{
    fs::File,
    io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write},
    path::Path,
};

use rayon::prelude::*;
use talkoot_protocol::digest::Digest;

use super::{PackError, read_error, work::put_file};

const MAGIC: &[u8; 8] = b"TKTABLE\x01";
/// Magic, fingerprint of the job, samples seen, rows.
const HEAD_BYTES: u64 = 8 + 32 + 8 + 8;
const ROW_BYTES: usize = 24;
/// Rows merged at a time, at most about.
const ROWS_AT_A_TIME: u64 = 4 << 20;

/// Where a sample's line is: the list's number in 16 bits, the line's offset in 48.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(u64);

impl Place {
    const OFFSET_BITS: u32 = 48;

    /// The place of a line; none when the list is longer than 2^48 bytes.
    pub(super) fn new(list: usize, offset: u64) -> Option<Self> {
        let list = u16::try_from(list).ok()?;
        (offset >> Self::OFFSET_BITS == 0).then_some(Self(u64::from(list) << Self::OFFSET_BITS | offset))
    }

    pub(super) const fn list(self) -> usize {
        (self.0 >> Self::OFFSET_BITS) as usize
    }

    pub(super) const fn offset(self) -> u64 {
        self.0 & ((1 << Self::OFFSET_BITS) - 1)
    }

    pub(super) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    pub(super) const fn bits(self) -> u64 {
        self.0
    }
}

/// A measured sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Measured {
    /// Where its line is.
    pub(super) place: Place,
    /// Its tokens.
    pub(super) tokens: u32,
    /// What it adds to its pack, in bytes.
    pub(super) bytes: u32,
}

/// A row of a chunk: the draw that orders samples, and the sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Row {
    pub(super) draw: u64,
    pub(super) sample: Measured,
}

/// Writes a chunk. `seen` counts the samples that it covers, those that were refused too.
pub(super) fn write_chunk(
    path: &Path,
    fingerprint: &Digest,
    seen: u64,
    mut rows: Vec<Row>,
) -> Result<(), PackError> {
    rows.sort_unstable();
    put_file(path, |file| {
        let mut file = BufWriter::with_capacity(1 << 20, file);
        file.write_all(MAGIC)?;
        file.write_all(fingerprint.as_bytes())?;
        file.write_all(&seen.to_le_bytes())?;
        file.write_all(&(rows.len() as u64).to_le_bytes())?;
        for row in &rows {
            file.write_all(&row.draw.to_le_bytes())?;
            file.write_all(&row.sample.place.bits().to_le_bytes())?;
            file.write_all(&row.sample.tokens.to_le_bytes())?;
            file.write_all(&row.sample.bytes.to_le_bytes())?;
        }
        file.flush()
    })
}

/// What a chunk's head says.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChunkHead {
    /// Samples that it covers.
    pub(super) seen: u64,
    /// Rows in it.
    pub(super) rows: u64,
}

/// Reads the head of the chunk in `path` and checks its length.
pub(super) fn chunk_head(path: &Path, fingerprint: &Digest) -> Result<ChunkHead, PackError> {
    let mut file = File::open(path).map_err(read_error(path))?;
    head_of(&mut file, path, fingerprint)
}

fn head_of(file: &mut File, path: &Path, fingerprint: &Digest) -> Result<ChunkHead, PackError> {
    let damaged = |reason: &str| PackError::Damaged { path: path.to_path_buf(), reason: reason.to_owned() };
    let bytes = file.metadata().map_err(read_error(path))?.len();
    let mut head = [0; HEAD_BYTES as usize];
    file.read_exact(&mut head).map_err(|_| damaged("it has no head"))?;
    let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| head[at + byte]));
    if head[..8] != *MAGIC || head[8..40] != *fingerprint.as_bytes() {
        return Err(damaged("it belongs to other work"));
    }
    let (seen, rows) = (number(40), number(48));
    if rows.checked_mul(ROW_BYTES as u64).and_then(|body| body.checked_add(HEAD_BYTES)) != Some(bytes) {
        return Err(damaged("its length does not fit its head"));
    }
    Ok(ChunkHead { seen, rows })
}

fn row_of(bytes: &[u8; ROW_BYTES]) -> Row {
    let [a, b, c] = *bytes.as_chunks::<8>().0 else { unreachable!("24 bytes are three times 8") };
    let last = u64::from_le_bytes(c);
    Row {
        draw: u64::from_le_bytes(a),
        sample: Measured {
            place: Place::from_bits(u64::from_le_bytes(b)),
            tokens: last as u32,
            bytes: (last >> 32) as u32,
        },
    }
}

/// All samples of the chunks in the order of their draws; `rows` is how many there are.
pub(super) fn merge(
    paths: &[std::path::PathBuf],
    fingerprint: &Digest,
    rows: u64,
) -> Result<Vec<Measured>, PackError> {
    let mut merged = Vec::with_capacity(rows as usize);
    let ranges = rows / ROWS_AT_A_TIME + 1;
    // The first draw of each range; the last range ends with the last draw.
    let first = |range: u64| (u128::from(range) << 64) / u128::from(ranges);
    for range in 0..ranges {
        let mut some: Vec<Row> = paths
            .par_iter()
            .map(|path| read_range(path, fingerprint, first(range), first(range + 1)))
            .collect::<Result<Vec<_>, _>>()?
            .concat();
        some.par_sort_unstable();
        merged.extend(some.iter().map(|row| row.sample));
    }
    Ok(merged)
}

/// The rows of a chunk whose draws are from `from` to below `to`.
fn read_range(path: &Path, fingerprint: &Digest, from: u128, to: u128) -> Result<Vec<Row>, PackError> {
    let mut file = File::open(path).map_err(read_error(path))?;
    let head = head_of(&mut file, path, fingerprint)?;
    let begin = lower_bound(&mut file, head.rows, from).map_err(read_error(path))?;
    let end = lower_bound(&mut file, head.rows, to).map_err(read_error(path))?;
    file.seek(SeekFrom::Start(HEAD_BYTES + begin * ROW_BYTES as u64)).map_err(read_error(path))?;
    let mut bytes = Vec::new();
    let wanted = end.saturating_sub(begin) * ROW_BYTES as u64;
    BufReader::new(file).take(wanted).read_to_end(&mut bytes).map_err(read_error(path))?;
    Ok(bytes.as_chunks::<ROW_BYTES>().0.iter().map(row_of).collect())
}

/// The first row whose draw is `least` or more.
fn lower_bound(file: &mut File, rows: u64, least: u128) -> std::io::Result<u64> {
    let (mut low, mut high) = (0, rows);
    while low < high {
        let middle = low + (high - low) / 2;
        file.seek(SeekFrom::Start(HEAD_BYTES + middle * ROW_BYTES as u64))?;
        let mut draw = [0; 8];
        file.read_exact(&mut draw)?;
        if u128::from(u64::from_le_bytes(draw)) < least {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(draw: u64, place: u64) -> Row {
        let place = Place::from_bits(place);
        Row { draw, sample: Measured { place, tokens: (draw % 900) as u32, bytes: (place.0 * 3) as u32 } }
    }

    #[test]
    fn chunks_merge_by_draw_however_rows_were_split() {
        let dir = tempfile::tempdir().unwrap();
        let job = Digest::of(b"job");
        let mut rows: Vec<Row> =
            (0..1_000u64).map(|i| row(i.wrapping_mul(0x9e37_79b9_7f4a_7c15), i)).collect();
        rows.extend([row(0, 5_000), row(u64::MAX, 5_001), row(u64::MAX, 5_002)]);
        let mut paths = Vec::new();
        for (at, some) in rows.chunks(171).enumerate() {
            let path = dir.path().join(at.to_string());
            write_chunk(&path, &job, 200, some.to_vec()).unwrap();
            assert_eq!(chunk_head(&path, &job).unwrap().seen, 200);
            paths.push(path);
        }
        rows.sort_unstable();
        let wanted: Vec<Measured> = rows.iter().map(|row| row.sample).collect();
        assert_eq!(merge(&paths, &job, rows.len() as u64).unwrap(), wanted);
        // Many ranges give what one gives.
        let in_ranges: Vec<Measured> = [(0, 1 << 63), (1 << 63, 1u128 << 64)]
            .into_iter()
            .flat_map(|(from, to)| {
                let read = |path: &std::path::PathBuf| read_range(path, &job, from, to).unwrap();
                let mut rows: Vec<Row> = paths.iter().flat_map(read).collect();
                rows.sort_unstable();
                rows
            })
            .map(|row| row.sample)
            .collect();
        assert_eq!(in_ranges, wanted);
    }

    #[test]
    fn a_damaged_or_foreign_chunk_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (path, job) = (dir.path().join("chunk"), Digest::of(b"job"));
        write_chunk(&path, &job, 3, vec![row(1, 1), row(2, 2)]).unwrap();
        let error = chunk_head(&path, &Digest::of(b"other")).unwrap_err();
        assert!(error.to_string().contains("other work"), "{error}");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        let error = chunk_head(&path, &job).unwrap_err();
        assert!(error.to_string().contains("length"), "{error}");
    }

    #[test]
    fn places_hold_list_and_offset() {
        let place = Place::new(65_535, (1 << 48) - 1).unwrap();
        assert_eq!((place.list(), place.offset()), (65_535, (1 << 48) - 1));
        assert_eq!(Place::new(65_536, 0), None);
        assert_eq!(Place::new(0, 1 << 48), None);
    }
}
