//! A round's inner steps on a thread of their own, which the node can watch and stop.

use std::{
    ops::ControlFlow,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use talkoot_execution::{Arithmetic, Executed, ExecutionError, Job, Packs, execute};
use talkoot_protocol::{
    assignment::Work,
    digest::{BlobRef, Digest},
    event::Commit,
    manifest::Manifest,
    run::Round,
};
use talkoot_trainer::{config::ModelConfig, state::State, trace::StepRecord};
use tokio::task::JoinHandle;

use crate::cheat::{Cheat, FIRST_LIE, Previous, execute_falsely};

/// Everything that a round's training needs, owned, so that a thread can take it.
pub(crate) struct Assignment {
    pub(crate) manifest: Manifest,
    pub(crate) config: ModelConfig,
    pub(crate) round: Round,
    pub(crate) work: Work,
    pub(crate) start: State,
    pub(crate) packs: Arc<Packs>,
    /// The buffer's name in the ledger, and its bytes.
    pub(crate) feedback_in: Option<(BlobRef, Vec<u8>)>,
    /// The contributions that the round's moments come from.
    pub(crate) precedent: Vec<Vec<u8>>,
    pub(crate) arithmetic: Arithmetic,
    /// The digest of moments that the commit is to give instead of the true one: it is a canary.
    pub(crate) canary: Option<Digest>,
    pub(crate) cheat: Option<Cheat>,
    pub(crate) previous: Previous,
}

/// What came out of a round's training.
pub(crate) struct Trained {
    pub(crate) executed: Executed,
    pub(crate) commit: Commit,
}

/// A training under way.
pub(crate) struct Training {
    pub(crate) round: u64,
    pub(crate) steps: u32,
    task: JoinHandle<Result<Option<Trained>, ExecutionError>>,
    stop: Arc<AtomicBool>,
    progress: Arc<Mutex<(u32, Option<f32>)>>,
}

impl Training {
    pub(crate) fn start(assignment: Assignment) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let progress = Arc::new(Mutex::new((0, None)));
        let (round, steps) =
            (assignment.round.open.round, u32::try_from(assignment.work.steps.len()).unwrap_or(u32::MAX));
        let task = tokio::task::spawn_blocking({
            let (stop, progress) = (Arc::clone(&stop), Arc::clone(&progress));
            move || train(&assignment, steps, &stop, &progress)
        });
        Self { round, steps, task, stop, progress }
    }

    /// Asks the thread to stop after the step that it is in; what was done by then is the result.
    /// Whether it had not been asked before.
    pub(crate) fn stop(&self) -> bool {
        !self.stop.swap(true, Ordering::Relaxed)
    }

    /// Steps done, and the loss of the last one.
    pub(crate) fn progress(&self) -> (u32, Option<f32>) {
        self.progress.lock().map_or((0, None), |progress| *progress)
    }

    /// The result, once it is there; none when it was stopped before its first step was done. Cancel-safe.
    pub(crate) async fn result(&mut self) -> Option<Result<Option<Trained>, ExecutionError>> {
        (&mut self.task).await.ok()
    }
}

fn train(
    assignment: &Assignment,
    steps: u32,
    stop: &AtomicBool,
    progress: &Mutex<(u32, Option<f32>)>,
) -> Result<Option<Trained>, ExecutionError> {
    let started = Instant::now();
    let job = Job {
        manifest: &assignment.manifest,
        config: &assignment.config,
        round: &assignment.round,
        work: &assignment.work,
        steps,
        start: &assignment.start,
        feedback_in: assignment.feedback_in.as_ref().map(|(_, bytes)| bytes.as_slice()),
        precedent: &assignment.precedent,
        arithmetic: assignment.arithmetic,
    };
    let mut on_step = |index: usize, record: &StepRecord| {
        if let Ok(mut progress) = progress.lock() {
            *progress = (u32::try_from(index + 1).unwrap_or(u32::MAX), Some(record.loss));
        }
        if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let source = assignment.packs.as_ref();
    let executed = match assignment.cheat {
        Some(cheat) if job.round.open.round >= FIRST_LIE => {
            execute_falsely(cheat, &job, source, &assignment.previous, &mut on_step)?
        }
        _ => execute(&job, source, &mut on_step)?,
    };
    if executed.trace.steps.is_empty() {
        return Ok(None);
    }
    let train_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let feedback_in = assignment.feedback_in.as_ref().map(|(blob, _)| *blob);
    let mut commit = executed.commit(&job, feedback_in, train_ms);
    if assignment.canary.is_some() {
        commit.moments = assignment.canary;
    }
    Ok(Some(Trained { executed, commit }))
}
