//! Whether what was sent of a chunk and what was kept of it can be one encoder's work, without the training that led to it.
//!
//! ```text
//! kept + sent = decay x feedback before + pseudo-gradient      the sum that the encoder had before it
//! ```
//! The left side is known, so the encoder can be asked what it makes of that sum: it has to send and keep the same. And what the
//! feedback before does not explain of it is a pseudo-gradient, which no training takes beyond its [`Reach`].

use super::{
    ChunkView, CodecSettings, FLUSH_BELOW, MAX_SCALE,
    bits::BitWriter,
    encode::{Scratch, encode_chunk},
};
use crate::reach::Reach;

/// What is kept of an entry that is sent, as a multiple of what is sent, above which the sum of the two may have lost a bit. A
/// level has 8 bits and a scale 8, so that below it f32 adds the two without rounding.
const EXACT_WITHIN: f32 = 64.0;

/// What is known of one chunk besides what was sent.
#[derive(Debug, Clone, Copy)]
pub struct KeptChunk<'a> {
    /// The error feedback before the round.
    pub before: &'a [f32],
    /// The error feedback after it.
    pub after: &'a [f32],
    /// The weights that the round started from.
    pub weights: &'a [f32],
}

/// Why a chunk is no encoder's work.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum KeptError {
    /// A value that no encoder leaves.
    #[error("element {element} of chunk {chunk} keeps {value:e}, which encoding never leaves")]
    Value {
        /// Number of the chunk.
        chunk: u64,
        /// Which element.
        element: usize,
        /// The value.
        value: f32,
    },
    /// The encoder would have sent something else of the same sum.
    #[error(
        "of what chunk {chunk} sent and kept together an encoder keeps {expected:e} in element {element}, and not {got:e}"
    )]
    OtherEncoding {
        /// Number of the chunk.
        chunk: u64,
        /// Which element.
        element: usize,
        /// What an encoder keeps.
        expected: f32,
        /// What was kept.
        got: f32,
    },
    /// The pseudo-gradient that it takes is none that training can have.
    #[error(
        "element {element} of chunk {chunk} would have moved by {moved:e} in the round, and training moves it by {most:e} at most"
    )]
    TooFar {
        /// Number of the chunk.
        chunk: u64,
        /// Which element.
        element: usize,
        /// How far.
        moved: f64,
        /// How far it could have.
        most: f64,
    },
}

/// Checks one chunk of a contribution against what was kept of it. A chunk of which an entry is sent that is far larger than
/// what is sent of it passes: the sum is not known to the last bit then.
///
/// # Errors
///
/// [`KeptError`] when no training and encoding leads to this.
///
/// # Panics
///
/// When the slices are not as long as the chunk.
pub fn check_kept(
    settings: &CodecSettings,
    view: &ChunkView<'_>,
    kept: KeptChunk<'_>,
    reach: &Reach,
) -> Result<(), KeptError> {
    let KeptChunk { before, after, weights } = kept;
    let lengths = [before.len(), after.len(), weights.len()];
    assert_eq!(lengths, [view.chunk.len; 3], "the parts of a chunk are as long as the chunk");
    let chunk = view.number;
    for (element, &value) in after.iter().enumerate() {
        let usable = value.abs() >= FLUSH_BELOW && value.abs() <= MAX_SCALE;
        if !usable && value.to_bits() != 0 {
            return Err(KeptError::Value { chunk, element, value });
        }
    }
    let mut sums = after.to_vec();
    for (&at, &sent) in view.positions.iter().zip(view.values) {
        let at = usize::from(at);
        if after[at].abs() > EXACT_WITHIN * sent.abs() {
            return Ok(());
        }
        sums[at] = after[at] + sent;
    }
    let mut ours = vec![0.0; sums.len()];
    encode_chunk(settings, &sums, &mut ours, &mut Scratch::default(), &mut BitWriter::default());
    if let Some(element) = (0..ours.len()).find(|&at| ours[at].to_bits() != after[at].to_bits()) {
        let (expected, got) = (ours[element], after[element]);
        return Err(KeptError::OtherEncoding { chunk, element, expected, got });
    }
    for (element, (&sum, &before)) in sums.iter().zip(before).enumerate() {
        let moved = (f64::from(sum) - f64::from(settings.error_feedback * before)).abs();
        let rounding = f64::from(sum.abs()) * f64::from(f32::EPSILON) + f64::from(FLUSH_BELOW);
        let most = reach.of(weights[element]) + rounding;
        if moved.is_nan() || moved > most {
            return Err(KeptError::TooFar { chunk, element, moved, most });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        contribution::{ErrorFeedback, Layout, Origin, encode, visit},
        inner::OptimizerSettings,
        moments::MomentFormat,
    };

    const ELEMENTS: usize = 300;

    fn settings(bits: u8) -> CodecSettings {
        CodecSettings { chunk: 128, k: 12, bits, error_feedback: 0.95 }
    }

    /// A round's worth of learning that moves a parameter by 0.01 and little more.
    fn reach() -> Reach {
        let optimizer = OptimizerSettings {
            peak_learning_rate: 0.001,
            final_learning_rate: 0.001,
            warmup_steps: 0,
            total_steps: 10,
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.0,
            clip_norm: 1.0,
            moments: MomentFormat::F32,
        };
        Reach::new(&optimizer, 0, 10, false)
    }

    struct Sent {
        blob: Vec<u8>,
        before: Vec<f32>,
        after: Vec<f32>,
    }

    /// Two rounds of `delta`, the second of which is looked at.
    fn sent(bits: u8, delta: &[f32]) -> Sent {
        let layout = Layout::new(vec![("a".to_owned(), ELEMENTS as u64)]).unwrap();
        let mut feedback = ErrorFeedback::zero(&layout);
        let origin = Origin { round: 0, member: [1; 32], steps: 1, tokens: 1 };
        encode(&settings(bits), &layout, &origin, &[delta], &mut feedback).unwrap();
        let before = feedback.tensors()[0].clone();
        let blob = encode(&settings(bits), &layout, &origin, &[delta], &mut feedback).unwrap();
        Sent { blob, before, after: feedback.tensors()[0].clone() }
    }

    fn check(bits: u8, sent: &Sent) -> Result<(), KeptError> {
        let layout = Layout::new(vec![("a".to_owned(), ELEMENTS as u64)]).unwrap();
        let weights = vec![0.0; ELEMENTS];
        let mut found = Ok(());
        visit(&sent.blob, &settings(bits), &layout, |view| {
            let own = view.chunk.start as usize..view.chunk.start as usize + view.chunk.len;
            let kept = KeptChunk {
                before: &sent.before[own.clone()],
                after: &sent.after[own.clone()],
                weights: &weights[own],
            };
            if found.is_ok() {
                found = check_kept(&settings(bits), &view, kept, &reach());
            }
        })
        .unwrap();
        found
    }

    fn learnt() -> Vec<f32> {
        (0..ELEMENTS).map(|i| ((i * 7919 % 1013) as f32 - 506.0) * 1.8e-5).collect()
    }

    proptest! {
        #[test]
        fn honest_work_passes_whatever_was_learnt(
            delta in prop::collection::vec((-1.0f32..1.0, 0i32..40), ELEMENTS),
            bits in prop::sample::select(vec![1u8, 2, 4, 8]),
        ) {
            let delta: Vec<f32> = delta.into_iter().map(|(x, e)| 0.01 * x * 0.5f32.powi(e)).collect();
            prop_assert_eq!(check(bits, &sent(bits, &delta)), Ok(()));
        }
    }

    #[test]
    fn who_keeps_something_else_is_found() {
        for bits in [1, 2, 4, 8] {
            let honest = sent(bits, &learnt());
            assert_eq!(check(bits, &honest), Ok(()));
            // keeps twice as much as it may
            let mut hoard = sent(bits, &learnt());
            hoard.after.iter_mut().for_each(|value| *value *= 2.0);
            assert!(matches!(check(bits, &hoard), Err(KeptError::OtherEncoding { .. })), "{bits} bits");
        }
    }

    #[test]
    fn who_sends_something_else_is_found() {
        let mut louder = sent(2, &learnt());
        let other = sent(2, &learnt().iter().rev().copied().collect::<Vec<f32>>());
        louder.blob = other.blob;
        assert!(check(2, &louder).is_err(), "another contribution over its own feedback");
    }

    #[test]
    fn what_no_training_can_have_learnt_is_found() {
        let shouted: Vec<f32> = learnt().iter().map(|delta| delta * 10.0).collect();
        assert!(matches!(check(2, &sent(2, &shouted)), Err(KeptError::TooFar { .. })));
        // starts from another buffer than it says
        let mut other = sent(2, &learnt());
        other.before.iter_mut().for_each(|value| *value += 0.05);
        assert!(matches!(check(2, &other), Err(KeptError::TooFar { .. })));
    }

    #[test]
    fn numbers_that_are_none_are_found() {
        for value in [f32::NAN, f32::INFINITY, 1e-40, -0.0] {
            let mut bad = sent(2, &learnt());
            bad.after[7] = value;
            assert!(matches!(check(2, &bad), Err(KeptError::Value { element: 7, .. })), "{value}");
        }
    }
}
