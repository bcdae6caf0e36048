//! Where a replay parts from what was committed.

use talkoot_protocol::{
    digest::BlobRef,
    event::{Commit, Divergence, DivergentPart, Finding},
};
use talkoot_trainer::trace::{StepRecord, first_difference, parse_trace};

use crate::{Executed, execute::micronats};

/// Compares a replay with the commit that it repeats. `claimed_trace` is the blob that the commit names.
///
/// Equality is of bytes: this is the class `exact`. When the contribution differs, the trace tells the first step
/// at which the member did something else; when all steps agree, the contribution is not what they lead to.
pub fn compare(commit: &Commit, claimed_trace: &[u8], replay: &Executed) -> Finding {
    let replayed = BlobRef::of(&replay.contribution);
    let divergence = |what, first_step: Option<(u32, u64, u64)>| {
        Finding::Fail(Divergence {
            what,
            replayed,
            first_step: first_step.map(|(step, ..)| step),
            claimed_micronats: first_step.map(|(_, claimed, _)| claimed),
            replayed_micronats: first_step.map(|(.., loss)| loss),
        })
    };
    if BlobRef::of(&replay.trace) != commit.trace {
        let Ok(claimed) = parse_trace(claimed_trace) else {
            return divergence(DivergentPart::Malformed, None);
        };
        let at = first_difference(&claimed, &replay.steps).unwrap_or(replay.steps.len());
        let loss = |steps: &[StepRecord]| steps.get(at).map_or(0, |s| micronats(s.loss));
        let step = u32::try_from(at).unwrap_or(u32::MAX);
        return divergence(DivergentPart::Step, Some((step, loss(&claimed), loss(&replay.steps))));
    }
    if replayed != commit.contribution {
        return divergence(DivergentPart::Contribution, None);
    }
    if BlobRef::of(&replay.feedback_out) != commit.feedback_out {
        return divergence(DivergentPart::Feedback, None);
    }
    // What the commit tells of its trace has to be in it: people read the losses, and speed decides shares.
    let loss = |step: Option<&StepRecord>| step.map_or(0, |step| micronats(step.loss));
    let told = (commit.loss_first_micronats, commit.loss_last_micronats, commit.tokens);
    if told != (loss(replay.steps.first()), loss(replay.steps.last()), replay.tokens) {
        return divergence(DivergentPart::Summary, None);
    }
    Finding::Pass
}

#[cfg(test)]
mod tests {
    use talkoot_protocol::digest::Digest;
    use talkoot_trainer::trace::trace_bytes;

    use super::*;

    fn steps(losses: &[f32]) -> Vec<StepRecord> {
        losses
            .iter()
            .map(|loss| StepRecord { loss: *loss, gradient_norm: 1.0, tokens: 10, learned_tokens: 5 })
            .collect()
    }

    fn executed(losses: &[f32]) -> Executed {
        let steps = steps(losses);
        Executed {
            contribution: b"contribution".to_vec(),
            trace: trace_bytes(&steps),
            feedback_out: b"feedback".to_vec(),
            tokens: steps.iter().map(|step| step.tokens).sum(),
            steps,
        }
    }

    /// The honest commit to `executed`.
    fn commit(executed: &Executed) -> Commit {
        Commit {
            round: 0,
            start_state: Digest::of(b"start"),
            work: Digest::of(b"work"),
            steps: 3,
            contribution: BlobRef::of(&executed.contribution),
            trace: BlobRef::of(&executed.trace),
            feedback_in: None,
            feedback_out: BlobRef::of(&executed.feedback_out),
            tokens: executed.tokens,
            loss_first_micronats: micronats(executed.steps[0].loss),
            loss_last_micronats: micronats(executed.steps[executed.steps.len() - 1].loss),
            train_ms: 1,
        }
    }

    fn what(finding: &Finding) -> (DivergentPart, Option<u32>) {
        match finding {
            Finding::Fail(divergence) => (divergence.what, divergence.first_step),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_honest_commit_passes() {
        let replay = executed(&[3.0, 2.0, 1.0]);
        assert_eq!(compare(&commit(&replay), &replay.trace, &replay), Finding::Pass);
    }

    #[test]
    fn the_first_step_that_differs_is_named_with_both_losses() {
        let replay = executed(&[3.0, 2.0, 1.0]);
        let claimed = executed(&[3.0, 2.5, 1.0]);
        let finding = compare(&commit(&claimed), &claimed.trace, &replay);
        assert_eq!(what(&finding), (DivergentPart::Step, Some(1)));
        let Finding::Fail(divergence) = finding else { unreachable!("it failed") };
        assert_eq!(divergence.claimed_micronats, Some(2_500_000));
        assert_eq!(divergence.replayed_micronats, Some(2_000_000));
    }

    #[test]
    fn each_other_difference_has_its_own_name() {
        let replay = executed(&[3.0, 2.0, 1.0]);
        let honest = commit(&replay);
        let forged = Commit { contribution: BlobRef::of(b"noise"), ..honest.clone() };
        assert_eq!(what(&compare(&forged, &replay.trace, &replay)), (DivergentPart::Contribution, None));
        let hoarded = Commit { feedback_out: BlobRef::of(b"more"), ..honest.clone() };
        assert_eq!(what(&compare(&hoarded, &replay.trace, &replay)), (DivergentPart::Feedback, None));
        let boasting = Commit { loss_last_micronats: 1, ..honest.clone() };
        assert_eq!(what(&compare(&boasting, &replay.trace, &replay)), (DivergentPart::Summary, None));
        let garbled = Commit { trace: BlobRef::of(b"no trace"), ..honest };
        assert_eq!(what(&compare(&garbled, b"no trace", &replay)), (DivergentPart::Malformed, None));
    }

    #[test]
    fn one_bit_of_a_loss_is_enough() {
        let replay = executed(&[3.0, 2.0, 1.0]);
        let claimed = executed(&[3.0, 2.0, f32::from_bits(1.0f32.to_bits() + 1)]);
        assert_eq!(
            what(&compare(&commit(&claimed), &claimed.trace, &replay)),
            (DivergentPart::Step, Some(2))
        );
    }
}
