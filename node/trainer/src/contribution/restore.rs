//! Giving back what was encoded and never sent.

use super::{CodecSettings, DecodeError, ErrorFeedback, FLUSH_BELOW, Layout, MAX_SCALE, visit};

impl ErrorFeedback {
    /// Adds the entries of `contribution` to this buffer, which has to be the one that encoding left: afterwards it holds
    /// what a round learnt and nobody received.
    ///
    /// Each sum is one f32 addition, flushed to zero below [`FLUSH_BELOW`] and held within [`MAX_SCALE`], as encoding does.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when the bytes are not a canonical contribution for `settings` and `layout`; the buffer is then of no
    /// use.
    pub fn give_back(
        &mut self,
        contribution: &[u8],
        settings: &CodecSettings,
        layout: &Layout,
    ) -> Result<(), DecodeError> {
        let tensors = self.tensors_mut();
        visit(contribution, settings, layout, |view| {
            let own = &mut tensors[view.chunk.tensor][view.chunk.start as usize..];
            for (&at, value) in view.positions.iter().zip(view.values) {
                let sum = (own[usize::from(at)] + value).clamp(-MAX_SCALE, MAX_SCALE);
                own[usize::from(at)] = if sum.abs() < FLUSH_BELOW { 0.0 } else { sum };
            }
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contribution::{Origin, encode};

    #[test]
    fn what_is_given_back_is_what_was_learnt() {
        let layout = Layout::new(vec![("a".to_owned(), 5_000), ("b".to_owned(), 70)]).unwrap();
        let settings = CodecSettings { chunk: 4096, k: 64, bits: 2, error_feedback: 0.95 };
        let delta: Vec<Vec<f32>> = [5_000_u32, 70]
            .iter()
            .map(|n| (0..*n).map(|i| ((i * 7919 % 1013) as f32 - 500.0) * 1e-5).collect())
            .collect();
        let slices: Vec<&[f32]> = delta.iter().map(Vec::as_slice).collect();
        let origin = Origin { round: 0, member: [1; 32], steps: 1, tokens: 1 };
        let mut feedback = ErrorFeedback::zero(&layout);
        let contribution = encode(&settings, &layout, &origin, &slices, &mut feedback).unwrap();
        let kept = feedback.clone();
        feedback.give_back(&contribution, &settings, &layout).unwrap();
        assert_ne!(feedback, kept, "something had been encoded");
        for (restored, learnt) in feedback.tensors().iter().zip(&delta) {
            for (restored, learnt) in restored.iter().zip(learnt) {
                assert!(
                    (restored - learnt).abs() <= 2.0 * f32::EPSILON * learnt.abs().max(1e-3),
                    "{restored} {learnt}"
                );
            }
        }
        // it is a buffer like any other
        assert_eq!(ErrorFeedback::from_bytes(&feedback.to_bytes(), &layout), Ok(feedback));
    }

    #[test]
    fn garbage_is_refused() {
        let layout = Layout::new(vec![("a".to_owned(), 5_000)]).unwrap();
        let settings = CodecSettings { chunk: 4096, k: 64, bits: 2, error_feedback: 0.95 };
        assert!(ErrorFeedback::zero(&layout).give_back(b"garbage", &settings, &layout).is_err());
    }
}
