//! The table of samples: what the draw knows of each, 24 bytes, and their cells.

use std::collections::BTreeMap;

use rayon::prelude::*;
use talkoot_dataset::{
    ListReader, Progress, Sample, SampleId,
    work::{List, MAX_LISTS},
};
use talkoot_protocol::digest::Digest;

use crate::{Config, MixError, bands::Bands};

/// Most sources: each is a row of every period's report.
pub(crate) const MAX_SOURCES: usize = 4_096;

/// A sample.
#[derive(Debug, Clone, Copy)]
struct Row {
    draw: u64,
    /// Its number through all lists.
    line: u64,
    source: u32,
    /// Not a number where there is none.
    difficulty: f32,
}

/// Samples of one source in one band.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) source: String,
    pub(crate) band: usize,
    /// Its samples in the order in which they are drawn, by their numbers through all lists.
    pub(crate) lines: Vec<u64>,
}

/// All samples by cell, cells by source and band.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) cells: Vec<Cell>,
    pub(crate) bands: Bands,
    /// Of all ids in the order of the lists: the lists are read again and have to be the same.
    pub(crate) ids: Digest,
}

impl Table {
    pub(crate) fn samples(&self) -> u64 {
        self.cells.iter().map(|cell| cell.lines.len() as u64).sum()
    }

    /// Reads all samples of the lists.
    pub(crate) fn read(lists: &[List], config: &Config, progress: &dyn Progress) -> Result<Self, MixError> {
        debug_assert!(lists.len() <= MAX_LISTS, "options are checked");
        let (mut rows, mut sources, mut ids) = (Vec::new(), BTreeMap::new(), Ids::default());
        for list in lists {
            let mut reader = ListReader::open(&list.path)?;
            let mut told = 0;
            while let Some(placed) = reader.next().transpose()? {
                let sample = placed.sample;
                ids.add(&sample.id);
                rows.push(Row {
                    draw: sample.id.draw("mix", config.seed),
                    line: rows.len() as u64,
                    source: number_of(&mut sources, &sample)?,
                    difficulty: sample.difficulty.unwrap_or(f32::NAN),
                });
                if reader.bytes_read() - told > 1 << 20 {
                    progress.advance(reader.bytes_read() - told);
                    told = reader.bytes_read();
                }
            }
            progress.advance(list.bytes.saturating_sub(told));
        }
        for (number, period) in config.periods.iter().enumerate() {
            if let Some(source) = period.sources.keys().find(|source| !sources.contains_key(*source)) {
                let known = sources.keys().take(20).cloned().collect();
                return Err(MixError::UnknownSource { period: number, named: source.clone(), known });
            }
        }
        let scored =
            rows.iter().map(|row| row.difficulty).filter(|difficulty| !difficulty.is_nan()).collect();
        let bands = Bands::cut(scored, &config.cuts);
        Ok(Self { cells: cells(rows, &sources, &bands), bands, ids: ids.digest() })
    }
}

/// The number of a sample's source, in the order in which they were met.
fn number_of(sources: &mut BTreeMap<String, u32>, sample: &Sample) -> Result<u32, MixError> {
    let name = &sample.origin.source;
    if let Some(&number) = sources.get(name) {
        return Ok(number);
    }
    let number = sources.len() as u32;
    if sources.len() >= MAX_SOURCES {
        return Err(MixError::TooManySources { limit: MAX_SOURCES });
    }
    sources.insert(name.clone(), number);
    Ok(number)
}

/// Sorts samples into cells, and each cell by its samples' draws.
fn cells(mut rows: Vec<Row>, sources: &BTreeMap<String, u32>, bands: &Bands) -> Vec<Cell> {
    // What a source is called decides, not the list in which it was met first.
    let mut rank = vec![0u32; sources.len()];
    let names: Vec<&String> = sources.keys().collect();
    for (at, &number) in (0u32..).zip(sources.values()) {
        rank[number as usize] = at;
    }
    let band_of = |row: &Row| bands.of((!row.difficulty.is_nan()).then_some(row.difficulty));
    let cell_of = |row: &Row| (rank[row.source as usize], band_of(row));
    rows.par_sort_unstable_by_key(|row| (cell_of(row), row.draw, row.line));
    rows.chunk_by(|a, b| cell_of(a) == cell_of(b))
        .map(|some| {
            let (source, band) = cell_of(&some[0]);
            let lines = some.iter().map(|row| row.line).collect();
            Cell { source: names[source as usize].clone(), band, lines }
        })
        .collect()
}

/// Digest of ids in their order.
pub(crate) struct Ids(blake3::Hasher);

impl Default for Ids {
    fn default() -> Self {
        Self(blake3::Hasher::new_derive_key("talkoot mixture ids v1"))
    }
}

impl Ids {
    pub(crate) fn add(&mut self, id: &SampleId) {
        self.0.update(id.as_bytes());
    }

    pub(crate) fn digest(&self) -> Digest {
        Digest::from_bytes(*self.0.finalize().as_bytes())
    }
}
