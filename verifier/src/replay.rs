//! Executing somebody's contribution again.

use std::{ops::ControlFlow, sync::Arc};

use talkoot_execution::{
    Arithmetic, Claimed, Comparison, Executed, ExecutionError, Job, Packs, check, execute, restore,
};
use talkoot_protocol::{
    assignment::Work,
    digest::BlobRef,
    event::{Commit, Deviation, Divergence, DivergentPart, Finding},
    manifest::{Manifest, VerificationClass},
    run::Round,
};
use talkoot_trainer::{
    config::ModelConfig, contribution::EncodeError, inner::InnerError, state::State, trace::Trace,
};

use crate::cheat::Cheat;

/// Everything that a replay needs, owned, so that a thread can take it.
#[derive(Debug)]
pub(crate) struct Replay {
    pub(crate) manifest: Manifest,
    pub(crate) config: ModelConfig,
    pub(crate) round: Round,
    pub(crate) work: Work,
    pub(crate) start: State,
    pub(crate) packs: Arc<Packs>,
    pub(crate) commit: Commit,
    /// The trace that was committed.
    pub(crate) trace: Vec<u8>,
    /// The contribution and the error-feedback buffer after it that were committed, where the class compares them.
    pub(crate) learnt: Option<(Vec<u8>, Vec<u8>)>,
    /// The error-feedback buffer that was committed as the one before the round.
    pub(crate) feedback_in: Option<Vec<u8>>,
    /// The contributions that the round's moments come from.
    pub(crate) precedent: Vec<Vec<u8>>,
    /// For work that missed its seal: the buffer that was said to hold all of it.
    pub(crate) restored: Option<BlobRef>,
}

/// Whether a replay in this run's class needs the committed contribution and the buffer after it.
pub(crate) const fn needs_learnt(manifest: &Manifest) -> bool {
    matches!(manifest.terms.verification.class, VerificationClass::Fast)
}

/// A finding of a blob that is not what was committed, before anything was executed.
pub(crate) fn disproved(what: DivergentPart, commit: &Commit) -> Finding {
    Finding::Fail(Divergence {
        what,
        // Nothing was computed, so that there is nothing else to show.
        replayed: BlobRef { digest: commit.contribution.digest, bytes: 0 },
        first_step: None,
        claimed_micronats: None,
        replayed_micronats: None,
        trace: None,
    })
}

/// How a replay ended.
#[derive(Debug)]
pub(crate) struct Replayed {
    pub(crate) finding: Finding,
    /// How far replay and commit are apart, where that was measured.
    pub(crate) deviation: Option<Deviation>,
    /// What the replay's steps left behind; none when they did not come to an end.
    pub(crate) trace: Option<Trace>,
}

impl Replay {
    /// What is to be executed.
    pub(crate) fn job(&self) -> Job<'_> {
        Job {
            manifest: &self.manifest,
            config: &self.config,
            round: &self.round,
            work: &self.work,
            steps: self.commit.steps,
            start: &self.start,
            feedback_in: self.feedback_in.as_deref(),
            precedent: &self.precedent,
            arithmetic: Arithmetic::Exact,
        }
    }

    /// Executes and compares. An error is the verifier's own trouble, and nobody's fault.
    pub(crate) fn run(&self) -> Result<Finding, ExecutionError> {
        Ok(self.run_as(None)?.finding)
    }

    /// The same, with what the replay saw; by a verifier that lies about it, where one is rehearsed.
    pub(crate) fn run_as(&self, cheat: Option<Cheat>) -> Result<Replayed, ExecutionError> {
        let unseen = |finding| Ok(Replayed { finding, deviation: None, trace: None });
        let executed = execute(&self.job(), self.packs.as_ref(), &mut |_, _| ControlFlow::Continue(()));
        let mut executed = match executed {
            Ok(executed) => executed,
            Err(ExecutionError::Feedback(error)) => {
                tracing::warn!(%error, "the committed error-feedback buffer is none");
                return unseen(disproved(DivergentPart::Malformed, &self.commit));
            }
            // An honest member would have met the same, and committed to nothing.
            Err(
                ExecutionError::Inner(InnerError::NotFinite { .. })
                | ExecutionError::Encode(EncodeError::Absurd { .. }),
            ) => {
                return unseen(disproved(DivergentPart::Impossible, &self.commit));
            }
            Err(error) => return Err(error),
        };
        if let Some(cheat) = cheat {
            cheat.falsify(&mut executed);
        }
        let (contribution, feedback_out) =
            self.learnt.as_ref().map(|(one, other)| (one.as_slice(), other.as_slice())).unzip();
        let claimed = Claimed { trace: &self.trace, contribution, feedback_out };
        let Comparison { finding, deviation } = check(&self.job(), &self.commit, claimed, &executed)?;
        let Some(claimed) = self.restored else {
            // A step settles nothing where honest steps may differ.
            let trace = (!needs_learnt(&self.manifest)).then_some(executed.trace);
            return Ok(Replayed { finding, deviation, trace });
        };
        // The verdict is about the commit that goes on from this work, and not about this: there is nothing to settle by a step.
        let finding = match finding {
            Finding::Fail(divergence) => Finding::Fail(Divergence { trace: None, ..divergence }),
            finding => finding,
        };
        if finding != Finding::Pass {
            return unseen(finding);
        }
        // Giving back is exact in every class: of the committed blobs where they may differ from the replayed ones.
        let Executed { feedback_out: own_buffer, contribution: own, .. } = &executed;
        let (contribution, feedback_out) = (contribution.unwrap_or(own), feedback_out.unwrap_or(own_buffer));
        let stage = self.round.open.stage;
        let restored = restore(&self.manifest, &self.config, stage, feedback_out, contribution)?;
        if BlobRef::of(&restored) == claimed {
            unseen(finding)
        } else {
            unseen(disproved(DivergentPart::Feedback, &self.commit))
        }
    }
}
