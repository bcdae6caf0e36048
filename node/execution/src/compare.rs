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
