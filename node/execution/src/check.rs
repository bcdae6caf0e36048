//! Whether a commit is what a replay says, in the run's verification class.
//!
//! In `exact`, blobs are compared by name: [`compare`]. In `fast`, by distance, but only where rounding may come in:
//!
//! | what | compared |
//! |---|---|
//! | start state, packs, order, schedule | not at all: they are the replay's own, from the ledger |
//! | steps, tokens of each step | exactly |
//! | loss and gradient norm of each step | within the tolerance |
//! | contribution and `feedback_out`: is the one the encoding of both | exactly |
//! | the pseudo-gradient that they add up to | within the tolerance |
//! | second moments in brief | within the tolerance |
//! | what the commit says of its trace | exactly, with the trace that it names |
//!
//! What enters the next state is the committed blob, decoded and added bit for bit, whatever the class.

use talkoot_protocol::{
    digest::BlobRef,
    event::{Commit, Deviation, Divergence, DivergentPart, Finding},
    manifest::{Tolerance, VerificationClass},
};
use talkoot_trainer::{contribution::Origin, trace::StepRecord};

use crate::{
    Executed, ExecutionError, Job,
    compare::{compare, summarises, trace_of},
    deviation::{ClaimError, Learnt, Yardstick, limits, step},
    execute::micronats,
};

/// The blobs that a commit names, as far as the class compares them.
#[derive(Debug, Clone, Copy)]
pub struct Claimed<'a> {
    /// The trace.
    pub trace: &'a [u8],
    /// The contribution; needed in the class `fast` alone.
    pub contribution: Option<&'a [u8]>,
    /// The error-feedback buffer after the round; needed in the class `fast` alone.
    pub feedback_out: Option<&'a [u8]>,
}

/// What came of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// Whether they agree, and where not.
    pub finding: Finding,
    /// How far they are apart, where that was measured.
    pub deviation: Option<Deviation>,
}

/// Compares a replay of `job` with the commit that it repeats.
///
/// # Errors
///
/// [`ExecutionError`] when the terms have no such stage, or a blob that the class needs is not given.
pub fn check(
    job: &Job<'_>,
    commit: &Commit,
    claimed: Claimed<'_>,
    replay: &Executed,
) -> Result<Comparison, ExecutionError> {
    let rules = &job.manifest.terms.verification;
    match (rules.class, &rules.tolerance) {
        (VerificationClass::Fast, Some(tolerance)) => within(job, commit, claimed, replay, tolerance),
        // A valid manifest of the class `fast` has a tolerance.
        (VerificationClass::Exact | VerificationClass::Fast, _) => {
            Ok(Comparison { finding: compare(commit, claimed.trace, replay), deviation: None })
        }
    }
}

fn within(
    job: &Job<'_>,
    commit: &Commit,
    claimed: Claimed<'_>,
    replay: &Executed,
    tolerance: &Tolerance,
) -> Result<Comparison, ExecutionError> {
    let (Some(contribution), Some(feedback_out)) = (claimed.contribution, claimed.feedback_out) else {
        let reason =
            "the class fast compares the contribution and the buffer after it, and they are not here";
        return Err(ExecutionError::Claim { reason: reason.to_owned() });
    };
    let found = |what, step: Option<(usize, &StepRecord, &StepRecord)>| {
        Finding::Fail(Divergence {
            what,
            replayed: BlobRef::of(&replay.contribution),
            first_step: step.map(|(at, ..)| u32::try_from(at).unwrap_or(u32::MAX)),
            claimed_micronats: step.map(|(_, claimed, _)| micronats(claimed.loss)),
            replayed_micronats: step.map(|(.., replayed)| micronats(replayed.loss)),
            // a step settles nothing where honest steps may differ
            trace: None,
        })
    };
    let failed = |what| Ok(Comparison { finding: found(what, None), deviation: None });
    // The digests of training states in it are those of another arithmetic, and say nothing here.
    let Some(trace) = trace_of(commit, claimed.trace, replay.trace.interval) else {
        return failed(DivergentPart::Malformed);
    };
    let (steps, own_steps) = (&trace.steps, &replay.trace.steps);
    if steps.len() != own_steps.len() {
        return failed(DivergentPart::Step);
    }
    let yardstick = Yardstick::of(job.manifest, job.config, job.round.open.stage)?;
    let claim = Learnt { contribution, feedback_out, steps };
    let origin = Origin {
        round: commit.round,
        member: *job.work.member.as_bytes(),
        steps: commit.steps,
        tokens: commit.tokens,
    };
    match yardstick.check_encoding(claim, &origin) {
        Ok(()) => {}
        Err(ClaimError::Malformed(_)) => return failed(DivergentPart::Malformed),
        Err(ClaimError::NotItsEncoding) => return failed(DivergentPart::Encoding),
    }
    let own =
        Learnt { contribution: &replay.contribution, feedback_out: &replay.feedback_out, steps: own_steps };
    let distances = yardstick.distances(claim, own, job.feedback_in)?;
    let limits = limits(tolerance);
    let numbers = distances.numbers();
    let beyond = |at: usize| numbers[at] > limits[at];
    let (loss, norm) = (limits[4], limits[5]);
    let parted = steps.iter().zip(own_steps).enumerate().find_map(|(at, (claimed, replayed))| {
        let apart = step(claimed, replayed);
        (apart.0 > loss || apart.1 > norm).then_some((at, claimed, replayed))
    });
    let finding = if parted.is_some() {
        found(DivergentPart::Step, parted)
    } else if (0..4).any(beyond) {
        found(DivergentPart::Distance, None)
    } else if beyond(6) {
        found(DivergentPart::Moments, None)
    } else if !summarises(commit, &trace) {
        found(DivergentPart::Summary, None)
    } else {
        Finding::Pass
    };
    Ok(Comparison { finding, deviation: Some(distances.in_millionths()) })
}
