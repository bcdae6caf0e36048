//! What every inner step left behind, as canonical bytes, so that a verifier can point at the first step that differs.

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

/// Most steps that a trace may have: far more than a round.
pub const MAX_TRACE_STEPS: usize = 65_536;

/// First bytes of a trace; the last of them is the version.
const MAGIC: [u8; 8] = *b"tk-trc\0\x01";
const RECORD_BYTES: usize = 24;

/// Bytes that are not a trace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// Another kind of file, or another version of it.
    #[error("these bytes are no step trace of version 1")]
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

/// The canonical bytes of a trace: a magic, the number of steps, then per step loss and gradient norm as the bits of
/// f32 and both counts as u64, all little-endian.
pub fn trace_bytes(steps: &[StepRecord]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16 + RECORD_BYTES * steps.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&(steps.len() as u64).to_le_bytes());
    for step in steps {
        bytes.extend_from_slice(&step.loss.to_le_bytes());
        bytes.extend_from_slice(&step.gradient_norm.to_le_bytes());
        bytes.extend_from_slice(&step.tokens.to_le_bytes());
        bytes.extend_from_slice(&step.learned_tokens.to_le_bytes());
    }
    bytes
}

/// Reads a trace back; the length is checked before anything is allocated.
///
/// # Errors
///
/// [`TraceError`] when the bytes are not exactly one trace.
pub fn parse_trace(bytes: &[u8]) -> Result<Vec<StepRecord>, TraceError> {
    let rest = bytes.strip_prefix(&MAGIC).ok_or(TraceError::Magic)?;
    let (count, records) =
        rest.split_first_chunk::<8>().ok_or(TraceError::Length { expected: 16, got: bytes.len() })?;
    let steps = u64::from_le_bytes(*count);
    if steps > MAX_TRACE_STEPS as u64 {
        return Err(TraceError::TooLong { steps });
    }
    let (expected, got) = (16 + RECORD_BYTES * steps as usize, bytes.len());
    if got != expected {
        return Err(TraceError::Length { expected, got });
    }
    let (records, _) = records.as_chunks::<RECORD_BYTES>();
    Ok(records.iter().map(parse_record).collect())
}

fn parse_record(bytes: &[u8; RECORD_BYTES]) -> StepRecord {
    let float = |at: usize| f32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let count = |at: usize| (0..8).map(|i| u64::from(bytes[at + i]) << (8 * i)).sum();
    StepRecord { loss: float(0), gradient_norm: float(4), tokens: count(8), learned_tokens: count(16) }
}

/// Index of the first step where two traces differ in any bit, lengths included.
pub fn first_difference(ours: &[StepRecord], theirs: &[StepRecord]) -> Option<usize> {
    let bits = |step: &StepRecord| {
        (step.loss.to_bits(), step.gradient_norm.to_bits(), step.tokens, step.learned_tokens)
    };
    let shared = ours.len().min(theirs.len());
    (0..shared)
        .find(|&i| bits(&ours[i]) != bits(&theirs[i]))
        .or_else(|| (ours.len() != theirs.len()).then_some(shared))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn records() -> impl Strategy<Value = Vec<StepRecord>> {
        let record =
            (any::<u32>(), any::<u32>(), any::<u64>(), any::<u64>()).prop_map(|(a, b, c, d)| StepRecord {
                loss: f32::from_bits(a),
                gradient_norm: f32::from_bits(b),
                tokens: c,
                learned_tokens: d,
            });
        prop::collection::vec(record, 0..20)
    }

    proptest! {
        #[test]
        fn a_trace_comes_back_bit_for_bit(steps in records()) {
            let back = parse_trace(&trace_bytes(&steps)).unwrap();
            prop_assert_eq!(first_difference(&steps, &back), None);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_trace(&bytes);
        }

        #[test]
        fn a_trace_of_the_wrong_length_is_refused(steps in records(), cut in 1usize..24, longer: bool) {
            let mut bytes = trace_bytes(&steps);
            let expected = bytes.len();
            if longer { bytes.extend(vec![0; cut]) } else { bytes.truncate(expected.saturating_sub(cut).max(16)) }
            prop_assume!(bytes.len() != expected);
            let got = bytes.len();
            prop_assert_eq!(parse_trace(&bytes), Err(TraceError::Length { expected, got }));
        }
    }

    #[test]
    fn a_trace_that_announces_too_much_is_refused_before_allocating() {
        let mut bytes = trace_bytes(&[]);
        bytes[8..].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(parse_trace(&bytes), Err(TraceError::TooLong { steps: u64::MAX }));
        assert_eq!(parse_trace(b"tk-trc\0\x02aaaaaaaa"), Err(TraceError::Magic));
    }

    #[test]
    fn the_first_difference_is_found_in_any_field_and_in_the_length() {
        let step = StepRecord { loss: 1.0, gradient_norm: 2.0, tokens: 3, learned_tokens: 4 };
        let other = StepRecord { learned_tokens: 5, ..step };
        assert_eq!(first_difference(&[step, step], &[step, other]), Some(1));
        assert_eq!(first_difference(&[step], &[step, step]), Some(1));
        assert_eq!(first_difference(&[step], &[step]), None);
    }
}
