//! From a round's contributions to the next state, bitwise by definition.
//!
//! ```text
//! w_i  = f32(weight_i) / f32(sum of weights)           each conversion and the division rounded to nearest
//! mean = (((0 + w_0 v_0) + w_1 v_1) + ...)              contributions in the order given
//! theta = theta - learning_rate x mean                  elementwise
//! ```
//!
//! Every `+ - x /` is one IEEE-754 f32 operation, rounded to nearest even, never fused. An entry that no
//! contribution sends keeps its bits. Work goes segment by segment, in parallel, with one chunk of accumulator
//! per thread: memory doesn't grow with the model or the number of contributions, and the result doesn't
//! depend on the number of threads, as no sum crosses an element.

mod gates;
#[cfg(test)]
mod tests;

use rayon::prelude::*;

pub use gates::{GateError, Measure, NormGate, Overlap, measure, overlap};

use crate::contribution::{
    CHUNKS_PER_SEGMENT, CodecSettings, Contribution, DecodeError, Layout, SettingsError,
};

/// What a contribution counts for: usually its tokens; 1 each for a plain mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Weight(pub u64);

/// How contributions become one update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rule {
    /// The weighted mean; an entry that a contribution doesn't send counts as zero.
    Mean,
}

/// What an aggregation did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AggregateReport {
    /// The round of all contributions.
    pub round: u64,
    /// How many contributions went in.
    pub contributions: usize,
    /// Sum of their weights.
    pub weight: u64,
    /// Entries sent, over all contributions.
    pub entries: u64,
    /// Elements of the aggregate that are not zero.
    pub moved: u64,
    /// Euclidean norm of the aggregate, before the learning rate.
    pub norm: f64,
}

/// Why a round's contributions are not aggregated. Nothing has been changed then.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AggregateError {
    /// The settings are out of bounds.
    #[error("the codec's settings are out of bounds")]
    Settings(#[from] SettingsError),
    /// The state has not the layout's shape.
    #[error("tensor {tensor} of the layout has {expected} elements; the state has {got} there")]
    Shape {
        /// Which tensor of the layout.
        tensor: usize,
        /// Elements in the layout; 0 when the tensor is not in it.
        expected: u64,
        /// Elements in the state; 0 when the tensor is missing.
        got: u64,
    },
    /// There is nothing to aggregate.
    #[error("no contributions to aggregate")]
    Empty,
    /// A weight of zero, or weights whose sum passes 2^64.
    #[error("contribution {index} has weight {weight}: weights are positive and sum up to less than 2^64")]
    Weight {
        /// Which contribution.
        index: usize,
        /// Its weight.
        weight: u64,
    },
    /// The learning rate is no positive number.
    #[error("the outer learning rate must be positive and finite, got {got}")]
    LearningRate {
        /// The rate as given.
        got: f32,
    },
    /// A contribution can't be decoded: leave it out, and say whose it is.
    #[error("contribution {index} is refused")]
    Decode {
        /// Which contribution.
        index: usize,
        /// Why.
        #[source]
        source: DecodeError,
    },
    /// A contribution to another round than the first one.
    #[error("contribution {index} is for round {got}, the first one for round {expected}")]
    Round {
        /// Which contribution.
        index: usize,
        /// Round of the first contribution.
        expected: u64,
        /// Round of this one.
        got: u64,
    },
    /// Two contributions of one member.
    #[error("contributions {first} and {second} are of the same member")]
    Repeated {
        /// The earlier one.
        first: usize,
        /// The later one.
        second: usize,
    },
}

/// Takes the outer step in place: `start`, one slice per tensor of the layout, becomes the next state.
///
/// Contributions are `(blob, weight)` in member order; that order is part of the result's definition.
///
/// # Errors
///
/// [`AggregateError`] when anything at all is wrong with state, settings or a contribution; all of them are
/// checked to the last bit before the first element changes.
pub fn outer_step(
    start: &mut [&mut [f32]],
    contributions: &[(&[u8], Weight)],
    settings: &CodecSettings,
    layout: &Layout,
    outer_learning_rate: f32,
    rule: Rule,
) -> Result<AggregateReport, AggregateError> {
    if !(outer_learning_rate > 0.0 && outer_learning_rate.is_finite()) {
        return Err(AggregateError::LearningRate { got: outer_learning_rate });
    }
    let round = Round::open(start, contributions, settings, layout)?;
    match rule {
        Rule::Mean => Ok(round.mean_into(start, settings, |theta, mean| {
            for (theta, mean) in theta.iter_mut().zip(mean) {
                *theta -= outer_learning_rate * mean;
            }
        })),
    }
}

/// Puts the aggregate itself, without a learning rate, into `out`, one slice per tensor of the layout.
///
/// It is what the next round's public first moments start from.
///
/// # Errors
///
/// As [`outer_step`]'s.
pub fn aggregate_into(
    out: &mut [&mut [f32]],
    contributions: &[(&[u8], Weight)],
    settings: &CodecSettings,
    layout: &Layout,
    rule: Rule,
) -> Result<AggregateReport, AggregateError> {
    let round = Round::open(out, contributions, settings, layout)?;
    match rule {
        Rule::Mean => {
            for tensor in out.iter_mut() {
                tensor.fill(0.0);
            }
            Ok(round.mean_into(out, settings, |out, mean| out.copy_from_slice(mean)))
        }
    }
}

/// Checked contributions and their shares.
struct Round<'a> {
    contributions: Vec<(Contribution<'a>, f32)>,
    weight: u64,
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
    fn open(
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

    /// Calls `apply(own, mean)` for every chunk that some contribution touches, with the chunk of `state`.
    fn mean_into(
        &self,
        state: &mut [&mut [f32]],
        settings: &CodecSettings,
        apply: impl Fn(&mut [f32], &[f32]) + Sync,
    ) -> AggregateReport {
        let chunk = settings.chunk as usize;
        let mut chunks: Vec<&mut [f32]> =
            state.iter_mut().flat_map(|tensor| tensor.chunks_mut(chunk)).collect();
        let tallies: Vec<Tally> = chunks
            .par_chunks_mut(CHUNKS_PER_SEGMENT)
            .enumerate()
            .map_init(Vec::new, |sum, (segment, chunks)| self.segment(segment as u64, chunks, sum, &apply))
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
        sum: &mut Vec<f32>,
        apply: impl Fn(&mut [f32], &[f32]),
    ) -> Tally {
        let mut readers: Vec<_> = self
            .contributions
            .iter()
            .map(|(contribution, share)| (contribution.segment(segment), *share))
            .collect();
        let mut tally = Tally::default();
        let first = segment * CHUNKS_PER_SEGMENT as u64;
        for (own, number) in chunks.iter_mut().zip(first..) {
            sum.clear();
            sum.resize(own.len(), 0.0);
            let before = tally.entries;
            for (reader, share) in &mut readers {
                reader.next(number, own.len()).expect("every segment was read once in `open`");
                for (&at, &value) in reader.positions.iter().zip(&reader.values) {
                    sum[usize::from(at)] += *share * value;
                }
                tally.entries += reader.positions.len() as u64;
            }
            if tally.entries > before {
                tally.add(sum);
                apply(own, sum);
            }
        }
        tally
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
