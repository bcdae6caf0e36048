//! One member's round: inner steps, pseudo-gradient, error feedback, encoding.

use std::{fmt, ops::ControlFlow, str::FromStr};

use talkoot_cuda::device::{Device, Driver};
use talkoot_protocol::{
    assignment::Work,
    digest::{BlobRef, Digest},
    event::Commit,
    manifest::{self, InnerState, Manifest},
    run::Round,
};
use talkoot_trainer::{
    backend::Backend,
    batch::BatchSource,
    config::ModelConfig,
    contribution::{ErrorFeedback, Layout, Origin},
    cpu::{Cpu, Isa, Products},
    inner::{
        InnerError, InnerOutcome, InnerPlan, Normalisation, OptimizerSettings, Start, run_inner_steps_on,
    },
    moments::{Factors, MomentFormat, matrix_shapes},
    plan::Ahead,
    state::State,
    trace::{StepRecord, Trace},
};

use crate::{
    ExecutionError,
    engine::{Computation, Engine, chosen},
    layout::{codec_settings, layout_of, modules_of, values_of},
    moments::moments_of,
};

/// What is to be executed.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// The rules.
    pub manifest: &'a Manifest,
    /// The model.
    pub config: &'a ModelConfig,
    /// The round, as the ledger has it.
    pub round: &'a Round,
    /// The seat.
    pub work: &'a Work,
    /// How many of the seat's inner steps.
    pub steps: u32,
    /// All weights at the start.
    pub start: &'a State,
    /// Bytes of the error-feedback buffer; none when it starts from zero.
    pub feedback_in: Option<&'a [u8]>,
    /// The contributions that the round's moments come from, in the order of its precedent; none when it has none.
    pub precedent: &'a [Vec<u8>],
    /// Whose arithmetic the inner steps are done in.
    pub arithmetic: Arithmetic,
}

/// What came out.
#[derive(Debug, Clone)]
pub struct Executed {
    /// The encoded pseudo-gradient.
    pub contribution: Vec<u8>,
    /// Loss and gradient norm of every step, and digests of the training state.
    pub trace: Trace,
    /// The error-feedback buffer after the round.
    pub feedback_out: Vec<u8>,
    /// Tokens in the packs.
    pub tokens: u64,
    /// Digest of the inner optimiser's moments after the last step, in runs that have canaries.
    pub moments: Option<Digest>,
}

impl Job<'_> {
    fn stage(&self) -> Result<&manifest::Stage, ExecutionError> {
        let stage = self.round.open.stage;
        self.manifest.stage(stage).map(|(stage, _)| stage).ok_or(ExecutionError::NoSuchStage { stage })
    }

    /// The tensors that the job trains.
    pub(crate) fn layout(&self) -> Result<Layout, ExecutionError> {
        Ok(layout_of(self.config, self.stage()?)?)
    }

    /// The buffer that the job starts from.
    pub(crate) fn feedback(&self, layout: &Layout) -> Result<ErrorFeedback, ExecutionError> {
        Ok(match self.feedback_in {
            Some(bytes) => ErrorFeedback::from_bytes(bytes, layout)?,
            None => ErrorFeedback::zero(layout),
        })
    }

    /// Whether the run has second moments in brief go with a contribution.
    pub(crate) fn publishes_moments(&self) -> bool {
        self.manifest.terms.contribution.inner_state == InnerState::Public
    }

    /// Whether the error feedback that the job starts from is one of its stage.
    ///
    /// # Errors
    ///
    /// [`ExecutionError::Feedback`] says what is wrong with it.
    pub fn check_feedback(&self) -> Result<(), ExecutionError> {
        self.feedback(&self.layout()?).map(drop)
    }

    pub(crate) fn plan(&self) -> Result<InnerPlan, ExecutionError> {
        let stage = self.stage()?;
        Ok(InnerPlan {
            trainable: modules_of(stage),
            optimizer: optimizer_settings(stage),
            normalisation: match stage.normalisation {
                manifest::Normalisation::Token => Normalisation::Token,
                manifest::Normalisation::Pack => Normalisation::Pack,
            },
            first_step: self.round.first_step,
            steps: self.work.steps.iter().take(self.steps as usize).cloned().collect(),
            digest_interval: self.manifest.terms.verification.digest_interval(),
        })
    }
}

/// The stage's optimiser as the trainer takes it.
pub(crate) fn optimizer_settings(stage: &manifest::Stage) -> OptimizerSettings {
    let optimizer = &stage.optimizer;
    OptimizerSettings {
        peak_learning_rate: optimizer.peak_learning_rate.as_f32(),
        final_learning_rate: optimizer.final_learning_rate.as_f32(),
        warmup_steps: u64::from(optimizer.warmup_steps),
        total_steps: u64::from(stage.rounds) * u64::from(stage.inner_steps),
        beta1: optimizer.beta1.as_f32(),
        beta2: optimizer.beta2.as_f32(),
        epsilon: optimizer.epsilon.as_f32(),
        weight_decay: optimizer.weight_decay.as_f32(),
        clip_norm: optimizer.clip_norm.as_f32(),
        moments: match optimizer.moments {
            None | Some(manifest::MomentFormat::F32) => MomentFormat::F32,
            Some(manifest::MomentFormat::EightBit) => MomentFormat::EightBit,
        },
    }
}

/// Whose arithmetic the inner steps are done in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Arithmetic {
    /// Ours, in fixed order: the same bits on every machine.
    #[default]
    Exact,
    /// Matrix products of a library, whose bits depend on the machine: for runs of the class `fast` alone.
    Library,
    /// A GPU's tensor cores, which round to bf16: for runs of the class `fast` alone, whose limits allow for that.
    TensorCores,
}

impl Arithmetic {
    /// The processor with this arithmetic; tensor cores it has none, and computes exactly instead.
    pub fn cpu(self) -> Cpu {
        let products = match self {
            Self::Exact | Self::TensorCores => Products::FixedOrder,
            Self::Library => Products::GemmCrate,
        };
        Cpu::new(Isa::best(), products)
    }
}

impl fmt::Display for Arithmetic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exact => "exact",
            Self::Library => "library",
            Self::TensorCores => "tensor-cores",
        })
    }
}

/// The text names no arithmetic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no such arithmetic: {0:?}; there are exact, library and tensor-cores")]
pub struct ParseArithmeticError(String);

impl FromStr for Arithmetic {
    type Err = ParseArithmeticError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "exact" => Ok(Self::Exact),
            "library" => Ok(Self::Library),
            "tensor-cores" => Ok(Self::TensorCores),
            other => Err(ParseArithmeticError(other.to_owned())),
        }
    }
}

/// Executes `job` with packs from `source`, in its arithmetic. `on_step` sees every step and may stop the work.
///
/// # Errors
///
/// [`ExecutionError`] when a pack cannot be read, the training diverged, or the inputs do not fit together.
pub fn execute(
    job: &Job<'_>,
    source: &dyn BatchSource,
    on_step: &mut dyn FnMut(usize, &StepRecord) -> ControlFlow<()>,
) -> Result<Executed, ExecutionError> {
    execute_on(chosen(), job, source, on_step)
}

/// The same on an engine of one's own. Where its GPU fails, `on_step` sees the steps again from the first one on.
///
/// # Errors
///
/// As [`execute`].
pub fn execute_on<D: Device>(
    engine: &Engine<D>,
    job: &Job<'_>,
    source: &dyn BatchSource,
    on_step: &mut dyn FnMut(usize, &StepRecord) -> ControlFlow<()>,
) -> Result<Executed, ExecutionError> {
    around(engine, job, source, on_step, |steps| engine.run(job.arithmetic, steps))
}

/// The same on a backend of one's own, whatever the job's arithmetic.
///
/// # Errors
///
/// As [`execute`].
pub fn execute_with<B: Backend>(
    backend: &B,
    job: &Job<'_>,
    source: &dyn BatchSource,
    on_step: &mut dyn FnMut(usize, &StepRecord) -> ControlFlow<()>,
) -> Result<Executed, ExecutionError> {
    around(&Engine::<Driver>::new(None), job, source, on_step, |steps| steps.on(backend))
}

/// Everything before and after the inner steps, which `run` does.
fn around<D: Device>(
    engine: &Engine<D>,
    job: &Job<'_>,
    source: &dyn BatchSource,
    on_step: &mut dyn FnMut(usize, &StepRecord) -> ControlFlow<()>,
    run: impl FnOnce(&mut InnerSteps<'_>) -> Result<Ended, ExecutionError>,
) -> Result<Executed, ExecutionError> {
    let layout = job.layout()?;
    let feedback = job.feedback(&layout)?;
    let plan = job.plan()?;
    source.plan(&plan.steps.concat());
    let moments = moments_of(job.manifest, job.config, job.round, job.precedent)?;
    let from = Start { state: job.start, moments: moments.as_ref() };
    let mut steps = InnerSteps {
        config: job.config,
        from,
        plan,
        source,
        on_step,
        layout_of_factors: job.publishes_moments().then_some(&layout),
        with_digest: job.manifest.terms.verification.canaries.is_some(),
    };
    let Ended { outcome, factors, digest } = run(&mut steps)?;
    drop(moments);
    finish(engine, job, &layout, feedback, &outcome.end, factors.as_ref(), outcome.trace, digest)
}

/// What follows from the last step: pseudo-gradient, second moments in brief, encoding.
#[expect(clippy::too_many_arguments, reason = "everything that a round ends with")]
pub(crate) fn finish<D: Device>(
    engine: &Engine<D>,
    job: &Job<'_>,
    layout: &Layout,
    mut feedback: ErrorFeedback,
    end: &State,
    factors: Option<&Factors>,
    trace: Trace,
    moments: Option<Digest>,
) -> Result<Executed, ExecutionError> {
    let missing = |name| ExecutionError::MissingTensor { name };
    let before = values_of(job.start, layout).map_err(missing)?;
    let after = values_of(end, layout).map_err(missing)?;
    let delta: Vec<Vec<f32>> = before
        .iter()
        .zip(&after)
        .map(|(before, after)| before.iter().zip(*after).map(|(start, end)| start - end).collect())
        .collect();
    let delta: Vec<&[f32]> = delta.iter().map(Vec::as_slice).collect();
    let tokens = trace.steps.iter().map(|step| step.tokens).sum();
    // fewer than asked for when the work was stopped
    let steps = u32::try_from(trace.steps.len()).unwrap_or(u32::MAX);
    let origin = Origin { round: job.round.open.round, member: *job.work.member.as_bytes(), steps, tokens };
    let settings = codec_settings(&job.manifest.terms.contribution);
    let contribution = engine.encode(&settings, layout, &origin, &delta, factors, &mut feedback)?;
    Ok(Executed { contribution, trace, feedback_out: feedback.to_bytes(), tokens, moments })
}

/// The inner steps of a job, and the factors of the moments that they end with where the run publishes them.
struct InnerSteps<'a> {
    config: &'a ModelConfig,
    from: Start<'a>,
    plan: InnerPlan,
    source: &'a dyn BatchSource,
    on_step: &'a mut dyn FnMut(usize, &StepRecord) -> ControlFlow<()>,
    layout_of_factors: Option<&'a Layout>,
    with_digest: bool,
}

/// What the inner steps end with.
struct Ended {
    outcome: InnerOutcome,
    factors: Option<Factors>,
    /// Of the moments.
    digest: Option<Digest>,
}

impl Computation for InnerSteps<'_> {
    type Output = Ended;

    fn ahead(&self) -> Result<Option<Ahead<'_>>, ExecutionError> {
        Ok(Ahead::of(self.config, self.from.state, &self.plan, self.source)?)
    }

    fn on<B: Backend>(&mut self, backend: &B) -> Result<Self::Output, ExecutionError> {
        let Self { config, from, plan, source, on_step, layout_of_factors, with_digest } = self;
        let (outcome, optimizer) = run_inner_steps_on(backend, config, *from, plan, *source, &mut **on_step)?;
        let factors = layout_of_factors
            .map(|layout| optimizer.factors(backend, layout, &matrix_shapes(config, layout)))
            .transpose()
            .map_err(InnerError::from)?;
        let digest = with_digest.then(|| optimizer.digest(backend)).transpose().map_err(InnerError::from)?;
        Ok(Ended { outcome, factors, digest })
    }
}

/// The error-feedback buffer of work that missed its seal: `feedback_out`, with what `contribution` would have sent given
/// back.
///
/// # Errors
///
/// [`ExecutionError`] when the blobs are not of this stage.
pub fn restore(
    manifest: &Manifest,
    config: &ModelConfig,
    stage_index: u32,
    feedback_out: &[u8],
    contribution: &[u8],
) -> Result<Vec<u8>, ExecutionError> {
    let (stage, _) = manifest.stage(stage_index).ok_or(ExecutionError::NoSuchStage { stage: stage_index })?;
    let layout = layout_of(config, stage)?;
    let settings = codec_settings(&manifest.terms.contribution);
    let mut feedback = ErrorFeedback::from_bytes(feedback_out, &layout)?;
    feedback.give_back(contribution, &settings, &layout)?;
    Ok(feedback.to_bytes())
}

/// A loss in nats as the ledger holds it; 0 for what is no number.
pub(crate) fn micronats(loss: f32) -> u64 {
    // Saturating: a negative or absent loss becomes 0, an absurd one the greatest integer.
    (f64::from(loss) * 1e6).round() as u64
}

impl Executed {
    /// The commit to this result.
    pub fn commit(&self, job: &Job<'_>, feedback_in: Option<BlobRef>, train_ms: u64) -> Commit {
        let loss = |step: Option<&StepRecord>| step.map_or(0, |step| micronats(step.loss));
        let steps = u32::try_from(self.trace.steps.len()).unwrap_or(u32::MAX);
        Commit {
            round: job.round.open.round,
            start_state: job.round.open.start_state.digest,
            work: job.work.digest(steps),
            steps,
            contribution: BlobRef::of(&self.contribution),
            trace: BlobRef::of(&self.trace.to_bytes()),
            feedback_in,
            feedback_out: BlobRef::of(&self.feedback_out),
            tokens: self.tokens,
            loss_first_micronats: loss(self.trace.steps.first()),
            loss_last_micronats: loss(self.trace.steps.last()),
            train_ms,
            moments: self.moments,
        }
    }
}
