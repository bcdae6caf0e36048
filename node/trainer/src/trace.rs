//! What every inner step left behind, as canonical bytes, so that anybody can point at the first step that differs.
//!
//! ```text
//! "tk-trc" 0 2 | steps LE32 | interval LE32
//! digest of the state before | step | step | .. | digest after `interval` steps | step | .. | digest after the last
//! ```
//! Records and digests stand in the order in which they come to be. So two traces that have the same bytes up to some place
//! say the same of everything before it, and the question *where do they part?* is one of halving
//! ([`Bisection`]). A commit names the trace by its BLAKE3 hash, which is a tree: no second root is needed to prove any part of
//! it.

use talkoot_protocol::{digest::Digest, dispute::Bisection};

/// One inner step, as the member saw it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepRecord {
    /// Mean loss over the learned tokens of the step's packs before the update, in nats per token; 0 without any.
    pub loss: f32,
    /// Norm of all gradients before clipping.
    pub gradient_norm: f32,
    /// Tokens of the step's packs.
    pub tokens: u64,
    /// Those of them that counted in the loss.
    pub learned_tokens: u64,
}

/// What a round's inner steps left behind.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Trace {
    /// Steps between two digests of the training state; 0 where none are taken.
    pub interval: u32,
    /// The steps.
    pub steps: Vec<StepRecord>,
    /// Digests of the training state ([`crate::snapshot`]) at the steps of [`Trace::points`], in order.
    pub digests: Vec<Digest>,
}

/// Most steps that a trace may have: far more than a round.
pub const MAX_TRACE_STEPS: usize = 65_536;

/// First bytes of a trace; the last of them is the version.
const MAGIC: [u8; 8] = *b"tk-trc\0\x02";
const HEADER_BYTES: usize = 16;
const RECORD_BYTES: usize = 24;
const DIGEST_BYTES: usize = 32;

/// Bytes that are not a trace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// Another kind of file, or another version of it.
    #[error("these bytes are no step trace of version 2")]
    Magic,
    /// More steps than any round has.
    #[error("the trace says it has {steps} steps, more than {MAX_TRACE_STEPS}")]
    TooLong {
        /// Steps that the header announces.
        steps: u64,
    },
    /// Bytes missing or left over.
    #[error("a trace with its header takes {expected} bytes, got {got}")]
    Length {
        /// Bytes that the header asks for.
        expected: usize,
        /// Bytes that came.
        got: usize,
    },
}

/// Numbers of steps after which a trace of `steps` steps has a digest: none of them, every `interval`, and all.
pub fn points(steps: usize, interval: u32) -> impl Iterator<Item = usize> {
    let every = if interval == 0 { usize::MAX } else { interval as usize };
    let last = (interval > 0 && !steps.is_multiple_of(every)).then_some(steps);
    (0..=steps).step_by(every).take(if interval == 0 { 0 } else { usize::MAX }).chain(last)
}

impl Trace {
    /// Numbers of steps after which there is a digest, in the order of [`Trace::digests`].
    pub fn points(&self) -> impl Iterator<Item = usize> {
        points(self.steps.len(), self.interval)
    }

    /// The digest of the training state after so many steps, where the trace has one.
    pub fn digest_at(&self, step: usize) -> Option<Digest> {
        self.points().position(|point| point == step).and_then(|place| self.digests.get(place)).copied()
    }

    /// The canonical bytes: a magic, the number of steps and the interval as u32; then, in order, for each step loss and
    /// gradient norm as the bits of f32 and both counts as u64, and the digests where they belong. All little-endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        let digests = self.digests.len();
        let mut bytes =
            Vec::with_capacity(HEADER_BYTES + RECORD_BYTES * self.steps.len() + DIGEST_BYTES * digests);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&(self.steps.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&self.interval.to_le_bytes());
        let mut done = 0;
        for (point, digest) in self.points().zip(&self.digests) {
            self.steps[done..point].iter().for_each(|step| write_record(step, &mut bytes));
            bytes.extend_from_slice(digest.as_bytes());
            done = point;
        }
        self.steps[done..].iter().for_each(|step| write_record(step, &mut bytes));
        bytes
    }

    /// Reads a trace back; the length is checked before anything is allocated.
    ///
    /// # Errors
    ///
    /// [`TraceError`] when the bytes are not exactly one trace.
    pub fn parse(bytes: &[u8]) -> Result<Self, TraceError> {
        let rest = bytes.strip_prefix(&MAGIC).ok_or(TraceError::Magic)?;
        let short = TraceError::Length { expected: HEADER_BYTES, got: bytes.len() };
        let (count, rest) = rest.split_first_chunk::<4>().ok_or(short.clone())?;
        let (interval, mut rest) = rest.split_first_chunk::<4>().ok_or(short)?;
        let (steps, interval) = (u32::from_le_bytes(*count), u32::from_le_bytes(*interval));
        if steps as usize > MAX_TRACE_STEPS {
            return Err(TraceError::TooLong { steps: u64::from(steps) });
        }
        let steps = steps as usize;
        let digests = if interval == 0 { 0 } else { 1 + steps.div_ceil(interval as usize) };
        let expected = HEADER_BYTES + RECORD_BYTES * steps + DIGEST_BYTES * digests;
        if bytes.len() != expected {
            return Err(TraceError::Length { expected, got: bytes.len() });
        }
        let mut trace =
            Self { interval, steps: Vec::with_capacity(steps), digests: Vec::with_capacity(digests) };
        let mut records = |until: usize, rest: &mut &[u8]| {
            while trace.steps.len() < until {
                let Some((record, others)) = rest.split_first_chunk::<RECORD_BYTES>() else { return };
                trace.steps.push(parse_record(record));
                *rest = others;
            }
        };
        for point in points(steps, interval) {
            records(point, &mut rest);
            if let Some((digest, others)) = rest.split_first_chunk::<DIGEST_BYTES>() {
                trace.digests.push(Digest::from_bytes(*digest));
                rest = others;
            }
        }
        records(steps, &mut rest);
        Ok(trace)
    }

    /// Where two traces part: the first number of steps up to and including which they don't say the same; 0 when they start
    /// from different states. None when they are the same.
    ///
    /// Found by halving: the log of the steps, in comparisons.
    pub fn parting(&self, other: &Self) -> Option<usize> {
        if self.to_bytes() == other.to_bytes() {
            return None;
        }
        let last = self.steps.len().max(other.steps.len());
        let mut search = Bisection::over(u32::try_from(last).unwrap_or(u32::MAX));
        while let Some(position) = search.question() {
            search.answer(self.agrees(other, position as usize));
        }
        search.parting().map(|position| position as usize)
    }

    /// Whether two traces say the same of the first `steps` steps, the states at their points included.
    pub fn agrees(&self, other: &Self, steps: usize) -> bool {
        if steps > self.steps.len() || steps > other.steps.len() || self.interval != other.interval {
            return false;
        }
        let bits = |step: &StepRecord| {
            (step.loss.to_bits(), step.gradient_norm.to_bits(), step.tokens, step.learned_tokens)
        };
        let same = |i: usize| bits(&self.steps[i]) == bits(&other.steps[i]);
        // a shorter trace ends with a digest that a longer one need not have there; its length tells them apart
        let states = self.points().zip(&self.digests).zip(other.points().zip(&other.digests));
        let mut shared = states.filter(|((ours, _), (theirs, _))| ours == theirs && *ours <= steps);
        (0..steps).all(same) && shared.all(|((_, ours), (_, theirs))| ours == theirs)
    }
}

fn write_record(step: &StepRecord, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&step.loss.to_le_bytes());
    bytes.extend_from_slice(&step.gradient_norm.to_le_bytes());
    bytes.extend_from_slice(&step.tokens.to_le_bytes());
    bytes.extend_from_slice(&step.learned_tokens.to_le_bytes());
}

fn parse_record(bytes: &[u8; RECORD_BYTES]) -> StepRecord {
    let float = |at: usize| f32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let count = |at: usize| (0..8).map(|i| u64::from(bytes[at + i]) << (8 * i)).sum();
    StepRecord { loss: float(0), gradient_norm: float(4), tokens: count(8), learned_tokens: count(16) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn traces() -> impl Strategy<Value = Trace> {
        let record =
            (any::<u32>(), any::<u32>(), any::<u64>(), any::<u64>()).prop_map(|(a, b, c, d)| StepRecord {
                loss: f32::from_bits(a),
                gradient_norm: f32::from_bits(b),
                tokens: c,
                learned_tokens: d,
            });
        (prop::collection::vec(record, 0..20), 0u32..6).prop_map(|(steps, interval)| {
            let digests =
                points(steps.len(), interval).map(|point| Digest::of(&point.to_le_bytes())).collect();
            Trace { interval, steps, digests }
        })
    }

    /// A trace of so many steps that nobody lied in.
    fn honest(steps: u64, interval: u32) -> Trace {
        let record = |i| StepRecord { loss: i as f32, gradient_norm: 1.0, tokens: i, learned_tokens: 1 };
        let digests =
            points(steps as usize, interval).map(|point| Digest::of(&point.to_le_bytes())).collect();
        Trace { interval, steps: (0..steps).map(record).collect(), digests }
    }

    proptest! {
        #[test]
        fn a_trace_comes_back_bit_for_bit(trace in traces()) {
            let back = Trace::parse(&trace.to_bytes()).unwrap();
            prop_assert_eq!(back.to_bytes(), trace.to_bytes());
            prop_assert_eq!(trace.parting(&back), None);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Trace::parse(&bytes);
        }

        #[test]
        fn a_trace_of_the_wrong_length_is_refused(trace in traces(), cut in 1usize..24, longer: bool) {
            let mut bytes = trace.to_bytes();
            let expected = bytes.len();
            if longer { bytes.extend(vec![0; cut]) } else { bytes.truncate(expected.saturating_sub(cut).max(16)) }
            prop_assume!(bytes.len() != expected);
            let got = bytes.len();
            prop_assert_eq!(Trace::parse(&bytes), Err(TraceError::Length { expected, got }));
        }

        #[test]
        fn halving_finds_what_looking_at_everything_finds(
            steps in 1u64..40, interval in 0u32..8, at in any::<prop::sample::Index>(), digest: bool,
        ) {
            let (ours, mut theirs) = (honest(steps, interval), honest(steps, interval));
            let lie = if digest && interval > 0 {
                let place = at.index(theirs.digests.len());
                theirs.digests[place] = Digest::of(b"made up");
                ours.points().nth(place).unwrap()
            } else {
                let place = at.index(theirs.steps.len());
                theirs.steps[place].loss += 0.5;
                place + 1
            };
            prop_assert_eq!(ours.parting(&theirs), Some(lie));
            // whoever lies once lies on
            for step in &mut theirs.steps[lie..] {
                step.gradient_norm = 2.0;
            }
            prop_assert_eq!(ours.parting(&theirs), Some(lie));
            let looked = (0..=steps as usize).find(|&until| !ours.agrees(&theirs, until));
            prop_assert_eq!(looked, Some(lie));
        }
    }

    #[test]
    fn a_trace_that_announces_too_much_is_refused_before_allocating() {
        let mut bytes = Trace::default().to_bytes();
        bytes[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(Trace::parse(&bytes), Err(TraceError::TooLong { steps: u64::from(u32::MAX) }));
        assert_eq!(Trace::parse(b"tk-trc\0\x01aaaaaaaa"), Err(TraceError::Magic));
    }

    #[test]
    fn digests_stand_at_the_start_at_every_interval_and_at_the_end() {
        let at = |steps, interval| points(steps, interval).collect::<Vec<_>>();
        assert_eq!(at(10, 4), [0, 4, 8, 10]);
        assert_eq!(at(8, 4), [0, 4, 8]);
        assert_eq!(at(2, 8), [0, 2]);
        assert_eq!(at(0, 8), [0]);
        assert_eq!(at(3, 1), [0, 1, 2, 3]);
        assert_eq!(at(3, 0), [0; 0]);
        assert_eq!(honest(10, 4).digest_at(8), Some(Digest::of(&8usize.to_le_bytes())));
        assert_eq!(honest(10, 4).digest_at(9), None);
    }

    #[test]
    fn a_shorter_trace_parts_where_it_ends_and_another_start_at_zero() {
        assert_eq!(honest(5, 4).parting(&honest(9, 4)), Some(6));
        assert_eq!(honest(4, 4).parting(&honest(9, 4)), Some(5));
        let mut other = honest(9, 4);
        other.digests[0] = Digest::of(b"another");
        assert_eq!(honest(9, 4).parting(&other), Some(0));
        assert_eq!(
            honest(9, 4).parting(&honest(9, 3)),
            Some(0),
            "another interval is another claim altogether"
        );
    }
}
