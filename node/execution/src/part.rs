//! A part of a member's round: what settles a dispute without doing the whole again.
//!
//! ```text
//! the start, or a state between two steps ---execute_steps---> the steps up to another, and the state there
//! the state after the last step ----------encode_end---------> contribution, error feedback
//! ```

use std::ops::ControlFlow;

use talkoot_trainer::{
    adamw::AdamW,
    backend::Backend,
    batch::BatchSource,
    config::ModelConfig,
    cpu::Cpu,
    inner::{InnerError, InnerOutcome, InnerPlan, Start, run_inner_steps_on},
    moments::{Moments, matrix_shapes},
    plan::Ahead,
    snapshot::Snapshot,
    trace::{StepRecord, Trace},
};

use crate::{
    Arithmetic, Executed, ExecutionError, Job,
    engine::{Computation, chosen},
    execute::finish,
    moments::moments_of,
};

/// Some steps of a job, executed.
#[derive(Debug)]
pub struct Part {
    /// Their records, with the states before, at every interval and after the last.
    pub trace: Trace,
    /// The state after the last of them.
    pub end: Snapshot,
}

/// Executes the steps of `job` from `from` up to `until`. `from` is a state and how many steps came before it; without one
/// the steps begin where the round does. With `until` at `from` nothing is executed, and the state alone comes back.
///
/// # Errors
///
/// [`ExecutionError`] as [`execute`](crate::execute()), and when the state is none of this job.
pub fn execute_steps(
    job: &Job<'_>,
    from: Option<(usize, &Snapshot)>,
    until: usize,
    source: &dyn BatchSource,
) -> Result<Part, ExecutionError> {
    let layout = job.layout()?;
    let whole = job.plan()?;
    let done = from.map_or(0, |(done, _)| done);
    let stage_step = whole.first_step.saturating_add(done as u64);
    let resumed = match from {
        Some((_, snapshot)) if snapshot.stage_step() != stage_step => {
            return Err(ExecutionError::StateOfAnotherStep {
                expected: stage_step,
                got: snapshot.stage_step(),
            });
        }
        Some((_, snapshot)) => {
            let (state, moments) = snapshot.resume(&layout, job.start)?;
            (Some(state), Some(moments))
        }
        None => (None, moments_of(job.manifest, job.config, job.round, job.precedent)?),
    };
    let state = resumed.0.as_ref().unwrap_or(job.start);
    let steps: Vec<Vec<u64>> = whole.steps.iter().take(until).skip(done).cloned().collect();
    let end_step = stage_step.saturating_add(steps.len() as u64);
    if steps.is_empty() {
        let none = Moments::default();
        let end = Snapshot::new(&layout, stage_step, state, resumed.1.as_ref().unwrap_or(&none))?;
        let digest = talkoot_protocol::digest::Digest::of(&end.to_bytes());
        let trace = Trace { interval: whole.digest_interval, steps: Vec::new(), digests: vec![digest] };
        return Ok(Part { trace, end });
    }
    source.plan(&steps.concat());
    let plan = InnerPlan { first_step: stage_step, steps, ..whole };
    let from = Start { state, moments: resumed.1.as_ref() };
    let (outcome, moments) =
        chosen().run(Arithmetic::Exact, &mut PartSteps { config: job.config, from, plan, source })?;
    let end = Snapshot::new(&layout, end_step, &outcome.end, &moments)?;
    Ok(Part { trace: outcome.trace, end })
}

/// The inner steps of a part, and the moments that they end with.
struct PartSteps<'a> {
    config: &'a ModelConfig,
    from: Start<'a>,
    plan: InnerPlan,
    source: &'a dyn BatchSource,
}

impl Computation for PartSteps<'_> {
    type Output = (InnerOutcome, Moments);

    fn ahead(&self) -> Result<Option<Ahead<'_>>, ExecutionError> {
        Ok(Ahead::of(self.config, self.from.state, &self.plan, self.source)?)
    }

    fn on<B: Backend>(&mut self, backend: &B) -> Result<Self::Output, ExecutionError> {
        let Self { config, from, plan, source } = self;
        let mut unwatched = |_: usize, _: &StepRecord| ControlFlow::Continue(());
        let (outcome, optimizer) = run_inner_steps_on(backend, config, *from, plan, *source, &mut unwatched)?;
        let moments = optimizer.moments(backend).map_err(InnerError::from)?;
        Ok((outcome, moments))
    }
}

/// What follows from `end`, the state after the last step of `job`, when `trace` is what its steps left behind.
///
/// # Errors
///
/// [`ExecutionError`] when the state is none of this job, or cannot be encoded.
pub fn encode_end(job: &Job<'_>, end: &Snapshot, trace: Trace) -> Result<Executed, ExecutionError> {
    let layout = job.layout()?;
    let feedback = job.feedback(&layout)?;
    let (state, moments) = end.resume(&layout, job.start)?;
    let cpu = Cpu::default();
    let optimizer = job.plan()?.optimizer.adamw(job.config);
    let optimizer: AdamW<Cpu> = optimizer.going_on(&cpu, &moments).map_err(InnerError::from)?;
    let factors = job
        .publishes_moments()
        .then(|| optimizer.factors(&cpu, &layout, &matrix_shapes(job.config, &layout)))
        .transpose()
        .map_err(InnerError::from)?;
    let canaries = job.manifest.terms.verification.canaries.is_some();
    let digest = canaries.then(|| optimizer.digest(&cpu)).transpose().map_err(InnerError::from)?;
    finish(chosen(), job, &layout, feedback, &state, factors.as_ref(), trace, digest)
}
