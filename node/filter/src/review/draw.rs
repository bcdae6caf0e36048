//! Which samples are shown: by hash, from each source as many, as far as there are.

use std::{
    collections::{BTreeMap, BinaryHeap},
    path::Path,
};

use talkoot_dataset::{ListReader, Progress, SampleId, progress::Unit};

use super::{MAX_SOURCES, ReviewError, read_error};

/// A sample that was drawn. In order of draws.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Drawn {
    draw: u64,
    id: SampleId,
    /// Where its line starts.
    pub(super) offset: u64,
}

/// What was drawn of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OfSource {
    pub(super) source: String,
    /// Samples that it has.
    pub(super) of: u64,
    pub(super) drawn: Vec<Drawn>,
}

#[derive(Default)]
struct Stratum {
    of: u64,
    /// The least draws; the largest of them on top.
    least: BinaryHeap<Drawn>,
}

/// Draws `samples` of the list in `path`: what a sample draws depends on its id and the seed alone.
pub(super) fn draw(
    path: &Path,
    samples: usize,
    seed: u64,
    progress: &dyn Progress,
) -> Result<Vec<OfSource>, ReviewError> {
    let bytes = std::fs::metadata(path).map_err(read_error(path))?.len();
    progress.begin("drawing", bytes, Unit::Bytes);
    let mut strata: BTreeMap<String, Stratum> = BTreeMap::new();
    let mut reader = ListReader::open(path)?;
    let mut told = 0;
    while let Some(placed) = reader.next().transpose()? {
        let sample = placed.sample;
        let stratum = strata.entry(sample.origin.source).or_default();
        stratum.of += 1;
        let draw = sample.id.draw("review", seed);
        stratum.least.push(Drawn { draw, id: sample.id, offset: placed.offset });
        if stratum.least.len() > samples {
            stratum.least.pop();
        }
        if strata.len() > MAX_SOURCES {
            return Err(ReviewError::TooManySources { list: path.to_path_buf() });
        }
        if reader.bytes_read() - told > 1 << 20 {
            progress.advance(reader.bytes_read() - told);
            told = reader.bytes_read();
        }
    }
    Ok(share_out(strata, samples))
}

/// Gives each source in turn one place more, until all places are given or every sample has one.
fn share_out(strata: BTreeMap<String, Stratum>, samples: usize) -> Vec<OfSource> {
    let mut sources: Vec<OfSource> = strata
        .into_iter()
        .map(|(source, Stratum { of, least })| OfSource { source, of, drawn: least.into_sorted_vec() })
        .collect();
    // When there are more sources than places, the draw decides who gets one, not the alphabet.
    let mut turns: Vec<usize> = (0..sources.len()).collect();
    turns.sort_by(|&a, &b| sources[a].drawn.first().cmp(&sources[b].drawn.first()));
    let mut places = vec![0; sources.len()];
    let mut left = samples;
    while left > 0 {
        let before = left;
        for &at in &turns {
            if left > 0 && places[at] < sources[at].drawn.len() {
                places[at] += 1;
                left -= 1;
            }
        }
        if left == before {
            break;
        }
    }
    for (source, places) in sources.iter_mut().zip(places) {
        source.drawn.truncate(places);
    }
    sources
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stratum(of: u64, first: u64) -> Stratum {
        let drawn = |n| Drawn { draw: first + n, id: SampleId::from_bytes([n as u8; 16]), offset: n };
        Stratum { of, least: (0..of).map(drawn).collect() }
    }

    fn places(strata: &[(&str, u64, u64)], samples: usize) -> Vec<usize> {
        let strata = strata.iter().map(|&(name, of, first)| (name.to_owned(), stratum(of, first))).collect();
        share_out(strata, samples).iter().map(|source| source.drawn.len()).collect()
    }

    #[test]
    fn sources_share_alike_as_far_as_they_have_samples() {
        let strata = [("a", 100, 5), ("b", 2, 6), ("c", 100, 7)];
        assert_eq!(places(&strata, 10), [4, 2, 4]);
        assert_eq!(places(&strata, 500), [100, 2, 100], "no more than there are");
        assert_eq!(places(&strata, 0), [0, 0, 0]);
        assert_eq!(places(&[("a", 9, 8), ("b", 9, 1), ("c", 9, 4)], 2), [0, 1, 1], "the least draws");
    }
}
