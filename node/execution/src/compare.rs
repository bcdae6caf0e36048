//! Where a replay parts from what was committed.

use talkoot_protocol::{
    digest::BlobRef,
    event::{Commit, Divergence, DivergentPart, Finding},
};
use talkoot_trainer::trace::{StepRecord, Trace};

use crate::{Executed, execute::micronats};

/// Compares a replay with the commit that it repeats. `claimed_trace` is the blob that the commit names.
///
/// Equality is of bytes: this is the class `exact`. When the contribution differs, the trace tells the first step
/// at which the member did something else, found by halving ([`Trace::parting`]); when all steps agree, the contribution is
/// not what they lead to.
pub fn compare(commit: &Commit, claimed_trace: &[u8], replay: &Executed) -> Finding {
    let (replayed, trace) = (BlobRef::of(&replay.contribution), BlobRef::of(&replay.trace.to_bytes()));
    let divergence = |what, first_step: Option<(u32, u64, u64)>| {
        Finding::Fail(Divergence {
            what,
            replayed,
            first_step: first_step.map(|(step, ..)| step),
            claimed_micronats: first_step.map(|(_, claimed, _)| claimed),
            replayed_micronats: first_step.map(|(.., loss)| loss),
            trace: Some(trace),
        })
    };
    if trace != commit.trace {
        let Some(claimed) = trace_of(commit, claimed_trace, replay.trace.interval) else {
            return divergence(DivergentPart::Malformed, None);
        };
        // another state before the first step shows in nothing before the first step
        let at = claimed.parting(&replay.trace).unwrap_or(replay.trace.steps.len()).saturating_sub(1);
        let loss = |steps: &[StepRecord]| steps.get(at).map_or(0, |s| micronats(s.loss));
        let step = u32::try_from(at).unwrap_or(u32::MAX);
        let losses = (loss(&claimed.steps), loss(&replay.trace.steps));
        return divergence(DivergentPart::Step, Some((step, losses.0, losses.1)));
    }
    if replayed != commit.contribution {
        return divergence(DivergentPart::Contribution, None);
    }
    if BlobRef::of(&replay.feedback_out) != commit.feedback_out {
        return divergence(DivergentPart::Feedback, None);
    }
    if replay.moments != commit.moments {
        return divergence(DivergentPart::Moments, None);
    }
    if !summarises(commit, &replay.trace) {
        return divergence(DivergentPart::Summary, None);
    }
    Finding::Pass
}

/// Whether a commit tells the losses and the tokens of its trace: people read the losses, and speed decides shares.
pub fn summarises(commit: &Commit, trace: &Trace) -> bool {
    let loss = |step: Option<&StepRecord>| step.map_or(0, |step| micronats(step.loss));
    let tokens = trace.steps.iter().fold(0u64, |sum, step| sum.saturating_add(step.tokens));
    let told = (commit.loss_first_micronats, commit.loss_last_micronats, commit.tokens);
    told == (loss(trace.steps.first()), loss(trace.steps.last()), tokens)
}

/// The trace in `bytes`, when it is one of as many steps as the commit says, with digests as often as the run has them.
pub fn trace_of(commit: &Commit, bytes: &[u8], interval: u32) -> Option<Trace> {
    let trace = Trace::parse(bytes).ok()?;
    (trace.steps.len() == commit.steps as usize && trace.interval == interval).then_some(trace)
}

#[cfg(test)]
mod tests {
    use talkoot_protocol::digest::Digest;
    use talkoot_trainer::trace::points;

    use super::*;

    fn steps(losses: &[f32]) -> Vec<StepRecord> {
        losses
            .iter()
            .map(|loss| StepRecord { loss: *loss, gradient_norm: 1.0, tokens: 10, learned_tokens: 5 })
            .collect()
    }

    fn executed(losses: &[f32]) -> Executed {
        let steps = steps(losses);
        let digests = points(losses.len(), 2).map(|point| Digest::of(&point.to_le_bytes())).collect();
        Executed {
            contribution: b"contribution".to_vec(),
            feedback_out: b"feedback".to_vec(),
            tokens: steps.iter().map(|step| step.tokens).sum(),
            trace: Trace { interval: 2, steps, digests },
            moments: Some(Digest::of(b"moments")),
        }
    }

    fn compared(commit: &Commit, claimed: &Executed, replay: &Executed) -> Finding {
        compare(commit, &claimed.trace.to_bytes(), replay)
    }

    /// The honest commit to `executed`.
    fn commit(executed: &Executed) -> Commit {
        Commit {
            round: 0,
            start_state: Digest::of(b"start"),
            work: Digest::of(b"work"),
            steps: 3,
            contribution: BlobRef::of(&executed.contribution),
            trace: BlobRef::of(&executed.trace.to_bytes()),
            feedback_in: None,
            feedback_out: BlobRef::of(&executed.feedback_out),
            tokens: executed.tokens,
            loss_first_micronats: micronats(executed.trace.steps[0].loss),
            loss_last_micronats: micronats(executed.trace.steps[executed.trace.steps.len() - 1].loss),
            train_ms: 1,
            moments: executed.moments,
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
        assert_eq!(compared(&commit(&replay), &replay, &replay), Finding::Pass);
    }

    #[test]
    fn the_first_step_that_differs_is_named_with_both_losses() {
        let replay = executed(&[3.0, 2.0, 1.0]);
        let claimed = executed(&[3.0, 2.5, 1.0]);
        let finding = compared(&commit(&claimed), &claimed, &replay);
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
        assert_eq!(what(&compared(&forged, &replay, &replay)), (DivergentPart::Contribution, None));
        let hoarded = Commit { feedback_out: BlobRef::of(b"more"), ..honest.clone() };
        assert_eq!(what(&compared(&hoarded, &replay, &replay)), (DivergentPart::Feedback, None));
        let boasting = Commit { loss_last_micronats: 1, ..honest.clone() };
        assert_eq!(what(&compared(&boasting, &replay, &replay)), (DivergentPart::Summary, None));
        let canary = Commit { moments: Some(Digest::of(b"drawn")), ..honest.clone() };
        assert_eq!(what(&compared(&canary, &replay, &replay)), (DivergentPart::Moments, None));
        let garbled = Commit { trace: BlobRef::of(b"no trace"), ..honest.clone() };
        assert_eq!(what(&compare(&garbled, b"no trace", &replay)), (DivergentPart::Malformed, None));
        // a trace, but not of these steps, or with fewer states than the run asks for
        let shorter = executed(&[3.0, 2.0]);
        assert_eq!(what(&compared(&commit(&shorter), &shorter, &replay)), (DivergentPart::Malformed, None));
        let mut rarer = executed(&[3.0, 2.0, 1.0]);
        rarer.trace.interval = 3;
        rarer.trace.digests.pop();
        assert_eq!(what(&compared(&commit(&rarer), &rarer, &replay)), (DivergentPart::Malformed, None));
    }

    #[test]
    fn a_state_that_differs_is_found_where_all_losses_agree() {
        let replay = executed(&[3.0, 2.0, 1.0]);
        for (place, step) in [(0, 0), (1, 1), (2, 2)] {
            let mut claimed = executed(&[3.0, 2.0, 1.0]);
            claimed.trace.digests[place] = Digest::of(b"another state");
            let finding = compared(&commit(&claimed), &claimed, &replay);
            assert_eq!(what(&finding), (DivergentPart::Step, Some(step)));
        }
    }

    #[test]
    fn one_bit_of_a_loss_is_enough() {
        let replay = executed(&[3.0, 2.0, 1.0]);
        let claimed = executed(&[3.0, 2.0, f32::from_bits(1.0f32.to_bits() + 1)]);
        assert_eq!(what(&compared(&commit(&claimed), &claimed, &replay)), (DivergentPart::Step, Some(2)));
    }
}
