//! Liars for rehearsals: ways to claim work that was not done.
//!
//! A run has to withstand them, so the demo and the tests need somebody who tries. Each lie keeps every rule that
//! the ledger can check by itself; only a replay finds it.

use std::{ops::ControlFlow, str::FromStr};

use rand::{RngExt as _, SeedableRng};
use talkoot_execution::{Executed, ExecutionError, Job, codec_settings, execute, layout_of};
use talkoot_protocol::{assignment::Work, digest::Digest, manifest::InnerState};
use talkoot_trainer::{
    batch::BatchSource,
    contribution::{self, ErrorFeedback, Header, Origin},
    moments::{Factors, MatrixShape, ParameterFactors, matrix_shapes},
    trace::{StepRecord, Trace, points},
};

/// First round in which a liar lies: a lie in round 0 would find nothing to be stale about.
pub const FIRST_LIE: u64 = 2;

/// A way to claim work that was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cheat {
    /// Sends noise of about the right size without any training.
    Random,
    /// Sends the last round's contribution again under a new header.
    Stale,
    /// Takes half of the inner steps and claims all.
    Lazy,
    /// Trains honestly, but on packs of its own choice.
    WrongData,
    /// Trains honestly, but for the step in the middle, in which it learns what it likes: a poisoned step.
    OneStep,
    /// Trains honestly, and keeps twice what it may in its error feedback, so that its next contribution weighs more.
    Hoard,
}

/// The text names no lie.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no such lie: {0:?}; there are random, stale, lazy, wrong-data, one-step and hoard")]
pub struct ParseCheatError(String);

impl FromStr for Cheat {
    type Err = ParseCheatError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "random" => Ok(Self::Random),
            "stale" => Ok(Self::Stale),
            "lazy" => Ok(Self::Lazy),
            "wrong-data" => Ok(Self::WrongData),
            "one-step" => Ok(Self::OneStep),
            "hoard" => Ok(Self::Hoard),
            other => Err(ParseCheatError(other.to_owned())),
        }
    }
}

impl std::fmt::Display for Cheat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Random => "random",
            Self::Stale => "stale",
            Self::Lazy => "lazy",
            Self::WrongData => "wrong-data",
            Self::OneStep => "one-step",
            Self::Hoard => "hoard",
        })
    }
}

/// The last round's contribution and trace, for [`Cheat::Stale`].
pub(crate) type Previous = Option<(Vec<u8>, Trace)>;

/// Executes `job` dishonestly.
pub(crate) fn execute_falsely(
    cheat: Cheat,
    job: &Job<'_>,
    source: &dyn BatchSource,
    previous: &Previous,
    on_step: &mut dyn FnMut(usize, &StepRecord) -> ControlFlow<()>,
) -> Result<Executed, ExecutionError> {
    match cheat {
        Cheat::WrongData => on_other_packs(job, source, on_step, |_| true),
        Cheat::OneStep => {
            let middle = job.steps as usize / 2;
            on_other_packs(job, source, on_step, |step| step == middle)
        }
        Cheat::Hoard => {
            let mut executed = execute(job, source, on_step)?;
            let values = executed.feedback_out.split_at_mut(ErrorFeedback::HEADER_BYTES).1;
            for word in values.as_chunks_mut::<4>().0 {
                *word = (2.0 * f32::from_le_bytes(*word)).to_le_bytes();
            }
            Ok(executed)
        }
        Cheat::Lazy => {
            let mut half = execute(&Job { steps: job.steps.div_ceil(2), ..*job }, source, on_step)?;
            let Trace { interval, steps: done, digests } = half.trace;
            let steps: Vec<StepRecord> = done.iter().cycle().take(job.steps as usize).copied().collect();
            let last = digests.last().copied();
            // states that it never had: the last one again
            let digests = points(steps.len(), interval)
                .enumerate()
                .filter_map(|(place, _)| digests.get(place).copied().or(last))
                .collect();
            half.tokens = steps.iter().map(|step| step.tokens).sum();
            half.trace = Trace { interval, steps, digests };
            readdress(&mut half.contribution, job, half.tokens);
            Ok(half)
        }
        Cheat::Stale => {
            let Some((contribution, trace)) = previous else { return execute(job, source, on_step) };
            let mut contribution = contribution.clone();
            let tokens = trace.steps.iter().map(|step| step.tokens).sum();
            readdress(&mut contribution, job, tokens);
            let feedback_out = feedback(job)?.to_bytes();
            Ok(Executed { contribution, trace: trace.clone(), feedback_out, tokens, moments: invented(job) })
        }
        Cheat::Random => noise(job),
    }
}

/// Executes `job` on packs of its own choice in the steps that `lies` names.
fn on_other_packs(
    job: &Job<'_>,
    source: &dyn BatchSource,
    on_step: &mut dyn FnMut(usize, &StepRecord) -> ControlFlow<()>,
    lies: impl Fn(usize) -> bool,
) -> Result<Executed, ExecutionError> {
    let packs = job.manifest.stage(job.round.open.stage).map_or(1, |(_, data)| data.packs);
    let other = |pack: &u64| (pack + packs / 2 + 1) % packs;
    let steps = job.work.steps.iter().enumerate().map(|(step, assigned)| {
        if lies(step) { assigned.iter().map(other).collect() } else { assigned.clone() }
    });
    let work = Work { steps: steps.collect(), ..job.work.clone() };
    execute(&Job { work: &work, ..*job }, source, on_step)
}

fn feedback(job: &Job<'_>) -> Result<ErrorFeedback, ExecutionError> {
    let stage = job.round.open.stage;
    let (terms, _) = job.manifest.stage(stage).ok_or(ExecutionError::NoSuchStage { stage })?;
    let layout = layout_of(job.config, terms)?;
    Ok(match job.feedback_in {
        Some(bytes) => ErrorFeedback::from_bytes(bytes, &layout)?,
        None => ErrorFeedback::zero(&layout),
    })
}

fn noise(job: &Job<'_>) -> Result<Executed, ExecutionError> {
    let stage = job.round.open.stage;
    let (terms, _) = job.manifest.stage(stage).ok_or(ExecutionError::NoSuchStage { stage })?;
    let layout = layout_of(job.config, terms)?;
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(job.round.open.round);
    let mut delta: Vec<Vec<f32>> = Vec::new();
    for (_, elements) in layout.tensors() {
        delta.push((0..*elements).map(|_| rng.random_range(-0.002f32..0.002)).collect());
    }
    let delta: Vec<&[f32]> = delta.iter().map(Vec::as_slice).collect();
    // A believable number of tokens: three quarters of what the packs may hold.
    let tokens = u64::from(terms.packs_per_step) * u64::from(terms.sequence_tokens) * 3 / 4;
    let loss = |i: u32| 2.5 - 0.01 * i as f32;
    let steps: Vec<StepRecord> = (0..job.steps)
        .map(|i| StepRecord { loss: loss(i), gradient_norm: 1.0, tokens, learned_tokens: tokens / 4 })
        .collect();
    let tokens = steps.iter().map(|step| step.tokens).sum();
    let origin =
        Origin { round: job.round.open.round, member: *job.work.member.as_bytes(), steps: job.steps, tokens };
    let mut feedback = feedback(job)?;
    let settings = codec_settings(&job.manifest.terms.contribution);
    // Believable second moments, too: all alike.
    let public = job.manifest.terms.contribution.inner_state == InnerState::Public;
    let factors = public.then(|| {
        let alike =
            |shape: MatrixShape| ParameterFactors::of(&vec![1e-6; shape.rows * shape.columns], shape, 1.0);
        Factors(matrix_shapes(job.config, &layout).into_iter().map(alike).collect())
    });
    let contribution =
        contribution::encode_with(&settings, &layout, &origin, &delta, factors.as_ref(), &mut feedback)?;
    let interval = job.manifest.terms.verification.digest_interval();
    let digests = points(steps.len(), interval).map(|point| Digest::of(&point.to_le_bytes())).collect();
    let trace = Trace { interval, steps, digests };
    Ok(Executed { contribution, trace, feedback_out: feedback.to_bytes(), tokens, moments: invented(job) })
}

/// A digest of moments that nobody has, where the run wants one.
fn invented(job: &Job<'_>) -> Option<Digest> {
    job.manifest.terms.verification.canaries.map(|_| Digest::of(&job.round.open.round.to_le_bytes()))
}

/// Rewrites round, steps and tokens in a contribution's header; they are the last fields but the member.
fn readdress(contribution: &mut [u8], job: &Job<'_>, tokens: u64) {
    const TOKENS: usize = Header::BYTES - 8;
    const STEPS: usize = TOKENS - 4;
    const ROUND: usize = STEPS - 32 - 8;
    if contribution.len() >= Header::BYTES {
        contribution[ROUND..ROUND + 8].copy_from_slice(&job.round.open.round.to_le_bytes());
        contribution[STEPS..TOKENS].copy_from_slice(&job.steps.to_le_bytes());
        contribution[TOKENS..Header::BYTES].copy_from_slice(&tokens.to_le_bytes());
    }
}
