//! The table of lengths: what planning knows of a sample, 24 bytes on disk and 16 in memory.
//!
//! Measuring writes it in chunks, each sorted by the samples' draws. Merging reads the chunks range by range of draws,
//! so that no more than the result and one range are in memory.

use std::{
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use rayon::prelude::*;
use talkoot_protocol::digest::Digest;

use crate::work::{ChunkFormat, Place, WorkError, put_file, read_error};

const ROW_BYTES: usize = 24;
/// The numbers of the head are samples seen, and rows.
const FORMAT: ChunkFormat<2> = ChunkFormat { magic: *b"TKTABLE\x01", row_bytes: ROW_BYTES as u64 };
const HEAD_BYTES: u64 = ChunkFormat::<2>::HEAD_BYTES;
/// Rows merged at a time, at most about.
const ROWS_AT_A_TIME: u64 = 4 << 20;

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
) -> Result<(), WorkError> {
    rows.sort_unstable();
    put_file(path, |file| {
        FORMAT.write_head(file, fingerprint, [seen, rows.len() as u64])?;
        for row in &rows {
            file.write_all(&row.draw.to_le_bytes())?;
            file.write_all(&row.sample.place.bits().to_le_bytes())?;
            file.write_all(&row.sample.tokens.to_le_bytes())?;
            file.write_all(&row.sample.bytes.to_le_bytes())?;
        }
        Ok(())
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
pub(super) fn chunk_head(path: &Path, fingerprint: &Digest) -> Result<ChunkHead, WorkError> {
    let (_, [seen, rows]) = FORMAT.open(path, fingerprint)?;
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
pub(super) fn merge(paths: &[PathBuf], fingerprint: &Digest, rows: u64) -> Result<Vec<Measured>, WorkError> {
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
fn read_range(path: &Path, fingerprint: &Digest, from: u128, to: u128) -> Result<Vec<Row>, WorkError> {
    let (mut file, [_, rows]) = FORMAT.open(path, fingerprint)?;
    let begin = lower_bound(&mut file, rows, from).map_err(read_error(path))?;
    let end = lower_bound(&mut file, rows, to).map_err(read_error(path))?;
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
        Row {
            draw,
            sample: Measured { place, tokens: (draw % 900) as u32, bytes: (place.bits() * 3) as u32 },
        }
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
                let read = |path: &PathBuf| read_range(path, &job, from, to).unwrap();
                let mut rows: Vec<Row> = paths.iter().flat_map(read).collect();
                rows.sort_unstable();
                rows
            })
            .map(|row| row.sample)
            .collect();
        assert_eq!(in_ranges, wanted);
    }
}
