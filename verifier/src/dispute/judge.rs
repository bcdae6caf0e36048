//! The judge: two accounts of one contribution, and which of them the truth contradicts.

use std::fmt;

use talkoot_execution::{Executed, ExecutionError, Job, encode_end, execute_steps, summarises, trace_of};
use talkoot_protocol::{
    digest::{BlobRef, Digest},
    event::{Commit, Divergence, DivergentPart, Finding},
};
use talkoot_trainer::{
    batch::BatchSource, contribution::EncodeError, inner::InnerError, snapshot::Snapshot, trace::Trace,
};

/// What member and accuser say, each under its own signature.
#[derive(Debug, Clone)]
pub(crate) struct Accounts {
    /// The member's commit.
    pub(crate) commit: Commit,
    /// The blob that it names as its trace.
    pub(crate) claimed: Vec<u8>,
    /// The accuser's finding.
    pub(crate) accusation: Divergence,
    /// The blob that it names as its trace; none when it executed nothing.
    pub(crate) replayed: Option<Vec<u8>>,
    /// Steps between two digests of the state, by the manifest.
    pub(crate) interval: u32,
}

/// What has to be found out to tell who is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    /// Whether the member's own words are well-formed and fit one another. Nothing has to be executed.
    Form,
    /// What the steps up to `until` lead to, from the state after `agreed` steps that both name, or else from the round's
    /// start.
    Steps { agreed: Option<usize>, until: usize },
    /// What contribution and error feedback follow from the state after `agreed` steps, the last.
    End { agreed: usize },
}

/// Why no execution of anything tells who is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Undecidable {
    /// The member is said to have handed out nothing.
    #[error("the accuser says that a blob was withheld, and whether it was cannot be shown afterwards")]
    Withheld,
    /// The accuser has no account of its own.
    #[error(
        "the accuser's finding names no trace of its own, so that there is nothing to hold against the member's"
    )]
    NoTrace,
    /// Other bits are no lie in this run.
    #[error(
        "the run's verification class allows differences, and only the class `exact` can be settled by a step"
    )]
    Class,
}

impl Question {
    /// Whether the error feedback before the round is needed.
    pub(crate) const fn needs_feedback(&self) -> bool {
        matches!(self, Self::Form | Self::End { .. })
    }

    /// Whether the round's start is what the steps begin with.
    pub(crate) const fn begins_at_the_start(&self) -> bool {
        matches!(self, Self::Steps { agreed: None, .. })
    }

    /// The steps that are executed.
    pub(crate) const fn steps(&self) -> std::ops::Range<usize> {
        match *self {
            Self::Steps { agreed: Some(agreed), until } => agreed..until,
            Self::Steps { agreed: None, until } => 0..until,
            Self::Form | Self::End { .. } => 0..0,
        }
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form => f.write_str("whether the member's words fit one another"),
            Self::Steps { until: 0, .. } => f.write_str("the training state before the first step"),
            Self::Steps { .. } if self.steps().len() == 1 => write!(f, "inner step {}", self.steps().end),
            Self::Steps { .. } => {
                write!(f, "inner steps {} to {}", self.steps().start + 1, self.steps().end)
            }
            Self::End { .. } => f.write_str("what follows from the last step"),
        }
    }
}

impl Accounts {
    fn claim(&self) -> Option<Trace> {
        trace_of(&self.commit, &self.claimed, self.interval)
    }

    fn counterclaim(&self) -> Option<Trace> {
        trace_of(&self.commit, self.replayed.as_deref()?, self.interval)
    }

    /// What the two disagree on.
    pub(crate) fn question(&self) -> Result<Question, Undecidable> {
        let steps = self.commit.steps as usize;
        match self.accusation.what {
            DivergentPart::Withheld => return Err(Undecidable::Withheld),
            // whoever looks again, looks at the blobs: nothing was executed
            DivergentPart::Codec
            | DivergentPart::Encoding
            | DivergentPart::Distance
            | DivergentPart::Moments => {
                return Err(Undecidable::NoTrace);
            }
            DivergentPart::Malformed | DivergentPart::Summary => return Ok(Question::Form),
            DivergentPart::Impossible => return Ok(Question::Steps { agreed: None, until: steps }),
            DivergentPart::Step | DivergentPart::Contribution | DivergentPart::Feedback => {}
        }
        if self.replayed.is_none() {
            return Err(Undecidable::NoTrace);
        }
        // who committed to no trace has said nothing that could be right
        let (Some(claim), Some(counterclaim)) = (self.claim(), self.counterclaim()) else {
            return Ok(Question::Form);
        };
        let points: Vec<usize> = claim.points().collect();
        Ok(match claim.parting(&counterclaim) {
            Some(parting) => Question::Steps {
                agreed: points.iter().copied().rfind(|point| *point < parting),
                until: points.into_iter().find(|point| *point >= parting).unwrap_or(steps),
            },
            None => Question::End { agreed: steps },
        })
    }

    /// Digest of the state that the execution begins with, when both name it.
    pub(crate) fn agreed_state(&self, question: &Question) -> Option<Digest> {
        match question {
            Question::Steps { agreed: Some(agreed), .. } | Question::End { agreed } => {
                self.claim()?.digest_at(*agreed)
            }
            Question::Steps { agreed: None, .. } | Question::Form => None,
        }
    }
}

/// Two accounts and what it takes to judge them.
pub(crate) struct Case<'a> {
    /// What was to be done. Its error feedback is looked at for [`Question::Form`] and [`Question::End`] alone, its precedent
    /// only when the steps begin at the start.
    pub(crate) job: Job<'a>,
    /// The packs of the steps.
    pub(crate) packs: &'a dyn BatchSource,
    /// What the two say.
    pub(crate) accounts: &'a Accounts,
    /// The state that both name.
    pub(crate) state: Option<&'a Snapshot>,
}

/// Who said what is not so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ruling {
    /// What the member's commit says and is not so.
    pub member: Option<String>,
    /// What the accuser's verdict says and is not so.
    pub accuser: Option<String>,
    /// Inner steps that were executed to find out.
    pub executed: usize,
}

impl Ruling {
    /// What another verifier may say of the accused commit after this: the accusation, where the member alone lied. Its trace
    /// is left out, as that verifier has none of its own.
    ///
    /// A step never acquits: an accuser in league with a member could accuse it falsely of a late step, after a lie in an
    /// earlier one that both tell alike, to have it cleared.
    pub(crate) fn confirms(&self, accusation: &Divergence) -> Option<Finding> {
        let member_alone = self.member.is_some() && self.accuser.is_none();
        member_alone.then(|| Finding::Fail(Divergence { trace: None, ..accusation.clone() }))
    }
}

impl Case<'_> {
    /// Finds out who is right.
    ///
    /// # Errors
    ///
    /// [`ExecutionError`] when the steps cannot be executed here: a shard is missing, say. It says nothing about anybody.
    pub(crate) fn judge(&self, question: &Question) -> Result<Ruling, ExecutionError> {
        match *question {
            Question::Form => Ok(self.judge_form()),
            Question::Steps { agreed, until } => self.judge_steps(agreed, until),
            Question::End { agreed } => self.judge_end(agreed),
        }
    }

    fn judge_form(&self) -> Ruling {
        let accounts = self.accounts;
        let member = match accounts.claim() {
            None => Some("the trace that it committed to is none of its steps".to_owned()),
            Some(trace) if !summarises(&accounts.commit, &trace) => {
                Some("its commit tells other losses or tokens than its own trace".to_owned())
            }
            Some(_) => self.job.check_feedback().err().map(|error| error.to_string()),
        };
        let accuser = if member.is_some() {
            None
        } else if accounts.replayed.is_some() && accounts.counterclaim().is_none() {
            Some("the trace that it names as its own is none of these steps".to_owned())
        } else {
            Some(
                "it says that the member's words are malformed or contradict one another, and they don't"
                    .to_owned(),
            )
        };
        Ruling { member, accuser, executed: 0 }
    }

    fn judge_steps(&self, agreed: Option<usize>, until: usize) -> Result<Ruling, ExecutionError> {
        let from = agreed.unwrap_or(0);
        let accounts = self.accounts;
        let (claim, counterclaim) = (accounts.claim(), accounts.counterclaim());
        let state = agreed.zip(self.state);
        let part = match execute_steps(&self.job, state, until, self.packs) {
            Ok(part) => part,
            Err(ExecutionError::Inner(InnerError::NotFinite { what, step, .. })) => {
                // an honest member meets the same and commits to nothing
                let step = from + step + 1;
                let told =
                    format!("honest training ends at step {step}, where the {what} is no number any more");
                let accuser = counterclaim.map(|_| format!("{told}, and its trace goes on"));
                return Ok(Ruling { member: Some(told), accuser, executed: until - from });
            }
            Err(error) => return Err(error),
        };
        let differs = |account: &Trace| difference(&part.trace, account, from);
        let member = match &claim {
            Some(claim) => differs(claim),
            None => Some("the trace that it committed to is none of its steps".to_owned()),
        };
        let accuser = match &counterclaim {
            Some(counterclaim) => differs(counterclaim),
            // it said that nobody could have come to an end
            None => {
                Some("it says that honest training of the seat ends in no number, and it does not".to_owned())
            }
        };
        Ok(Ruling { member, accuser, executed: until - from })
    }

    fn judge_end(&self, agreed: usize) -> Result<Ruling, ExecutionError> {
        let Accounts { commit, accusation, .. } = self.accounts;
        let (Some(trace), Some(state)) = (self.accounts.claim(), self.state) else {
            return Err(ExecutionError::StateOfAnotherStep { expected: agreed as u64, got: 0 });
        };
        let truth = match encode_end(&self.job, state, trace.clone()) {
            Ok(truth) => truth,
            Err(ExecutionError::Encode(EncodeError::Absurd { .. })) => {
                let told =
                    "honest training moved a weight so far that nothing could have been committed".to_owned();
                return Ok(Ruling { member: Some(told), accuser: None, executed: 0 });
            }
            Err(ExecutionError::Feedback(error)) => {
                return Ok(Ruling { member: Some(error.to_string()), accuser: None, executed: 0 });
            }
            Err(error) => return Err(error),
        };
        let Executed { contribution, feedback_out, .. } = &truth;
        let (contribution, feedback) = (BlobRef::of(contribution), BlobRef::of(feedback_out));
        let other = |what: &str, said: BlobRef, truth: BlobRef| {
            (said != truth).then(|| {
                format!(
                    "its {what} is blob {}, and what follows from the last step is {}",
                    said.digest.short(),
                    truth.digest.short()
                )
            })
        };
        let summary = || {
            (!summarises(commit, &trace))
                .then(|| "its commit tells other losses or tokens than its trace".to_owned())
        };
        let member = other("contribution", commit.contribution, contribution)
            .or_else(|| other("error feedback", commit.feedback_out, feedback))
            .or_else(summary);
        let accuser = other("contribution", accusation.replayed, contribution).or_else(|| {
            member
                .is_none()
                .then(|| "it says that the member's blobs are others than they have to be".to_owned())
        });
        Ok(Ruling { member, accuser, executed: 0 })
    }
}

/// The first thing that `account` says of the steps after `from` and that is not so.
fn difference(truth: &Trace, account: &Trace, from: usize) -> Option<String> {
    let state = |local: usize| {
        let told = account.digest_at(from + local);
        truth.digest_at(local).filter(|digest| told.is_some_and(|told| told != *digest))
    };
    if state(0).is_some() {
        return Some(match from {
            0 => "the training state before its first step is another one".to_owned(),
            _ => format!("the training state after its step {from} is another one"),
        });
    }
    for (local, step) in truth.steps.iter().enumerate() {
        let number = from + local + 1;
        let Some(said) = account.steps.get(from + local) else {
            return Some(format!("it has no step {number}"));
        };
        for (what, said, truth) in [
            ("loss", said.loss.to_bits(), step.loss.to_bits()),
            ("gradient norm", said.gradient_norm.to_bits(), step.gradient_norm.to_bits()),
        ] {
            if said != truth {
                let (said, truth) = (f32::from_bits(said), f32::from_bits(truth));
                return Some(format!("the {what} of its step {number} is {truth:e}, and it says {said:e}"));
            }
        }
        let counts = (said.tokens, said.learned_tokens);
        if counts != (step.tokens, step.learned_tokens) {
            return Some(format!(
                "its step {number} has {} tokens, and it says {}",
                step.tokens, said.tokens
            ));
        }
        if state(local + 1).is_some() {
            return Some(format!("the training state after its step {number} is another one"));
        }
    }
    None
}
