//! Inner steps that are about to be taken, so that a device can be asked beforehand whether it has the room.

use std::collections::BTreeSet;

use rayon::prelude::*;

use super::{Mark, PlanError, rehearsal::Steps, usual_keep};
use crate::{
    backend::Backend,
    batch::BatchSource,
    config::ModelConfig,
    inner::{InnerError, InnerPlan, fetch},
    model::{Keep, Sample, is_frozen},
    modules::trainable,
    moments::MomentFormat,
    state::State,
};

/// The first of a round's inner steps, as it will be taken: with its own packs, and with the weights that it starts from as a
/// device may hold them.
#[derive(Debug)]
pub struct Ahead<'a> {
    config: &'a ModelConfig,
    trained: Vec<String>,
    /// Parameters all of whose numbers are bf16.
    halves: BTreeSet<String>,
    packs: Vec<Vec<Sample>>,
    keep: Keep,
    moments: MomentFormat,
}

impl<'a> Ahead<'a> {
    /// The first step of `plan`; none, when there is none.
    ///
    /// # Errors
    ///
    /// [`InnerError`] when its packs do not come or do not fit the model.
    pub fn of(
        config: &'a ModelConfig,
        start: &State,
        plan: &InnerPlan,
        source: &dyn BatchSource,
    ) -> Result<Option<Self>, InnerError> {
        config.validate()?;
        let Some(packs) = plan.steps.first() else { return Ok(None) };
        let packs = fetch(config, 0, packs, source)?;
        let trained = trainable(config, &plan.trainable);
        let frozen = is_frozen(&trained);
        let halves = start.tensors.par_iter().filter(|(name, tensor)| {
            frozen(name) && tensor.values.par_iter().all(|value| value.to_bits() & 0xffff == 0)
        });
        let halves = halves.map(|(name, _)| name.clone()).collect();
        drop(frozen);
        let (keep, moments) = (usual_keep(config), plan.optimizer.moments);
        Ok(Some(Self { config, trained, halves, packs, keep, moments }))
    }

    /// What is kept for backward.
    pub fn keep(&self) -> Keep {
        self.keep
    }

    /// Plays two such steps on a device, but for the numbers: what it then has taken is what training takes.
    ///
    /// # Errors
    ///
    /// [`PlanError`] when the device has no room, or there is nothing to learn.
    pub fn play<B: Backend>(&self, backend: &B, mark: &dyn Fn(Mark)) -> Result<(), PlanError> {
        let Self { config, trained, halves, packs, keep, moments } = self;
        let steps = Steps { config, trained, packs, keep: *keep, moments: *moments };
        steps.play(backend, |name| halves.contains(name), mark)
    }
}
