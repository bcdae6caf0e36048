//! A round's contributions, checked, and how they are combined chunk by chunk.

use rayon::prelude::*;

use super::{AggregateError, AggregateReport, Rule, Weight, clip};
use crate::contribution::{CHUNKS_PER_SEGMENT, CodecSettings, Contribution, Layout};

/// Checked contributions and their shares.
pub(super) struct Round<'a> {
    pub(super) contributions: Vec<(Contribution<'a>, f32)>,
    weight: u64,
}

/// How one chunk's entries are combined.
enum Combine {
    /// Each contribution's share of the sum.
    Shares(Vec<f32>),
    /// Without so many of the smallest values and as many of the largest.
    Trimmed(usize),
}

/// What one segment adds to the report.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    entries: u64,
    moved: u64,
    square: f64,
}

impl Tally {
    /// Counts and squares one chunk of the aggregate. In eight lanes, because one chain of additions would take
    /// longer than all the rest; the lanes are fixed, so the norm has the same bits everywhere.
    fn add(&mut self, mean: &[f32]) {
        let mut lanes = [0f64; 8];
        let (groups, rest) = mean.as_chunks::<8>();
        for group in groups {
            for (lane, &value) in lanes.iter_mut().zip(group) {
                *lane += f64::from(value) * f64::from(value);
            }
        }
        for (lane, &value) in lanes.iter_mut().zip(rest) {
            *lane += f64::from(value) * f64::from(value);
        }
        self.square += lanes.iter().sum::<f64>();
        self.moved += mean.iter().map(|&value| u64::from(value != 0.0)).sum::<u64>();
    }
}

impl<'a> Round<'a> {
    pub(super) fn open(
        state: &[&mut [f32]],
        list: &[(&'a [u8], Weight)],
        settings: &CodecSettings,
        layout: &Layout,
    ) -> Result<Self, AggregateError> {
        settings.validate()?;
        check_shapes(state, layout)?;
        let weight = total_weight(list)?;
        let mut contributions: Vec<(Contribution<'a>, f32)> = Vec::with_capacity(list.len());
        for (index, (bytes, own)) in list.iter().enumerate() {
            let opened = Contribution::open(bytes, settings, layout)
                .map_err(|source| AggregateError::Decode { index, source })?;
            check_against_earlier(&contributions, &opened, index)?;
            contributions.push((opened, own.0 as f32 / weight as f32));
        }
        for (index, (contribution, _)) in contributions.iter().enumerate() {
            (0..contribution.geometry().segments())
                .into_par_iter()
                .map(|segment| contribution.visit_segment(segment, |_| {}))
                // the first damage in order, whichever thread comes first
                .collect::<Vec<_>>()
                .into_iter()
                .collect::<Result<(), _>>()
                .map_err(|source| AggregateError::Decode { index, source })?;
        }
        Ok(Self { contributions, weight })
    }

    /// Calls `apply(own, combined)` for every chunk that some contribution touches, with the chunk of `state`.
    pub(super) fn combine_into(
        &self,
        rule: Rule,
        state: &mut [&mut [f32]],
        settings: &CodecSettings,
        apply: impl Fn(&mut [f32], &[f32]) + Sync,
    ) -> AggregateReport {
        let combine = match rule {
            Rule::Mean => Combine::Shares(self.contributions.iter().map(|(_, share)| *share).collect()),
            Rule::CenteredClip { clip } => Combine::Shares(clip::shares(&self.contributions, clip)),
            // NaN and what is out of bounds cut nothing, or all but the middle.
            Rule::Trimmed { trim } => {
                let count = self.contributions.len();
                Combine::Trimmed(((trim * count as f64) as usize).min((count - 1) / 2))
            }
        };
        let chunk = settings.chunk as usize;
        let mut chunks: Vec<&mut [f32]> =
            state.iter_mut().flat_map(|tensor| tensor.chunks_mut(chunk)).collect();
        let tallies: Vec<Tally> = chunks
            .par_chunks_mut(CHUNKS_PER_SEGMENT)
            .enumerate()
            .map_init(Scratch::default, |scratch, (segment, chunks)| {
                self.segment(segment as u64, chunks, &combine, scratch, &apply)
            })
            .collect();
        let mut all = Tally::default();
        for tally in tallies {
            all.entries += tally.entries;
            all.moved += tally.moved;
            all.square += tally.square;
        }
        AggregateReport {
            round: self.contributions[0].0.header().origin.round,
            contributions: self.contributions.len(),
            weight: self.weight,
            entries: all.entries,
            moved: all.moved,
            norm: all.square.sqrt(),
        }
    }

    fn segment(
        &self,
        segment: u64,
        chunks: &mut [&mut [f32]],
        combine: &Combine,
        scratch: &mut Scratch,
        apply: impl Fn(&mut [f32], &[f32]),
    ) -> Tally {
        let mut readers: Vec<_> =
            self.contributions.iter().map(|(contribution, _)| contribution.segment(segment)).collect();
        let mut tally = Tally::default();
        let first = segment * CHUNKS_PER_SEGMENT as u64;
        for (own, number) in chunks.iter_mut().zip(first..) {
            let Scratch { sum, said } = &mut *scratch;
            sum.clear();
            sum.resize(own.len(), 0.0);
            said.clear();
            let before = tally.entries;
            for (at, reader) in readers.iter_mut().enumerate() {
                reader.next(number, own.len()).expect("every segment was read once in `open`");
                tally.entries += reader.positions.len() as u64;
                let entries = reader.positions.iter().zip(&reader.values);
                match combine {
                    Combine::Shares(shares) => {
                        for (&position, &value) in entries {
                            sum[usize::from(position)] += shares[at] * value;
                        }
                    }
                    Combine::Trimmed(_) => said.extend(entries.map(|(&position, &value)| (position, value))),
                }
            }
            if let Combine::Trimmed(cut) = combine {
                trim(said, *cut, self.contributions.len(), sum);
            }
            if tally.entries > before {
                tally.add(sum);
                apply(own, sum);
            }
        }
        tally
    }
}

/// Buffers of one thread.
#[derive(Debug, Default)]
struct Scratch {
    sum: Vec<f32>,
    said: Vec<(u16, f32)>,
}

/// The trimmed mean of every position that `said` names, of `count` values each, zeros for those that are not said.
fn trim(said: &mut [(u16, f32)], cut: usize, count: usize, mean: &mut [f32]) {
    said.sort_unstable_by(|one, other| one.0.cmp(&other.0).then(one.1.total_cmp(&other.1)));
    for group in said.chunk_by(|one, other| one.0 == other.0) {
        // No value is zero, so that the zeros lie between the two kinds.
        let negative = group.partition_point(|(_, value)| *value < 0.0);
        let (below, above) = group.split_at(negative);
        let left = below.get(cut..).unwrap_or_default();
        let right = above.get(..above.len().saturating_sub(cut)).unwrap_or_default();
        let mut sum = 0.0;
        for (_, value) in left.iter().chain(right) {
            sum += value;
        }
        mean[usize::from(group[0].0)] = sum / (count - 2 * cut) as f32;
    }
}

fn check_shapes(state: &[&mut [f32]], layout: &Layout) -> Result<(), AggregateError> {
    for tensor in 0..layout.tensors().len().max(state.len()) {
        let expected = layout.tensors().get(tensor).map_or(0, |(_, elements)| *elements);
        let got = state.get(tensor).map_or(0, |values| values.len() as u64);
        if expected != got || tensor >= layout.tensors().len() {
            return Err(AggregateError::Shape { tensor, expected, got });
        }
    }
    Ok(())
}

fn total_weight(list: &[(&[u8], Weight)]) -> Result<u64, AggregateError> {
    let mut total = 0u64;
    for (index, &(_, Weight(weight))) in list.iter().enumerate() {
        let refused = AggregateError::Weight { index, weight };
        if weight == 0 {
            return Err(refused);
        }
        total = total.checked_add(weight).ok_or(refused)?;
    }
    if list.is_empty() { Err(AggregateError::Empty) } else { Ok(total) }
}

fn check_against_earlier(
    earlier: &[(Contribution<'_>, f32)],
    new: &Contribution<'_>,
    index: usize,
) -> Result<(), AggregateError> {
    let origin = new.header().origin;
    for (first, (other, _)) in earlier.iter().enumerate() {
        let other = other.header().origin;
        if other.round != origin.round {
            return Err(AggregateError::Round { index, expected: other.round, got: origin.round });
        }
        if other.member == origin.member {
            return Err(AggregateError::Repeated { first, second: index });
        }
    }
    Ok(())
}
