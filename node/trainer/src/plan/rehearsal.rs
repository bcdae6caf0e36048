//! Two steps on a device that only counts.

use std::cell::Cell;

use super::{
    Load, PlanError,
    dry::{Dry, Event, Mark, Operations},
    rooms::Rooms,
};
use crate::{
    adamw::{AdamW, AdamWSettings, DecayRule, global_norm},
    backend::Backend,
    config::ModelConfig,
    inner::{Normalisation, step_gradients},
    model::{Keep, Model},
    moments::MomentFormat,
};

/// What a buffer was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// A parameter, by its place in canonical order.
    Weight(usize),
    /// Of a trained parameter, first or second.
    Moment,
    /// Of a trained parameter.
    Gradient,
    /// Left by forward for backward.
    Kept,
    /// Everything else of a step.
    Working,
}

/// What was seen.
#[derive(Debug)]
pub(super) struct Rehearsal {
    /// Of the building of the model and of two steps.
    pub(super) events: Vec<Event>,
    /// Of every buffer, by id.
    pub(super) roles: Vec<Role>,
    /// Of one whole step of the load.
    pub(super) operations: Operations,
}

impl Rehearsal {
    /// Remembers [`two_steps`].
    pub(super) fn run(
        config: &ModelConfig,
        trained: &[String],
        load: &Load,
        keep: Keep,
        rooms: Rooms,
    ) -> Result<Self, PlanError> {
        let dry = Dry::new(rooms);
        let of_a_step = Cell::new(Operations::default());
        let mark = |mark: Mark| {
            dry.mark(mark);
            if mark == Mark::Moved {
                of_a_step.set(dry.count());
            }
        };
        two_steps(&dry, config, trained, load, (keep, MomentFormat::F32), &mark)?;
        let operations = of_a_step.get();
        let events = dry.events();
        let whole = |counted: u128| counted / u128::from(load.rehearsed()) * u128::from(load.packs);
        Ok(Self {
            roles: roles(&events),
            events,
            operations: Operations { executed: whole(operations.executed), model: whole(operations.model) },
        })
    }
}

/// The building of a model and two steps: the trainer's own code. The second step is like all that follow, with moments in
/// place. `mark` hears where it is.
pub(super) fn two_steps<B: Backend>(
    backend: &B,
    config: &ModelConfig,
    trained: &[String],
    load: &Load,
    (keep, moments): (Keep, MomentFormat),
    mark: &dyn Fn(Mark),
) -> Result<(), PlanError> {
    let mut model = Model::unfilled(backend, config)?.with_keep(keep);
    let settings = AdamWSettings {
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.0,
        decay: DecayRule::Matrices,
        moments,
    };
    let mut optimizer = AdamW::new(settings, config);
    let packs = load.samples(config);
    for _ in 0..2 {
        mark(Mark::Step);
        let found = step_gradients(&model, trained, &packs, Normalisation::Token)?;
        mark(Mark::Gradients);
        let gradients = found.gradients.ok_or(PlanError::NothingLearned)?;
        global_norm(backend, &gradients)?;
        optimizer.step(&mut model, &gradients, 0.0, 1.0)?;
        mark(Mark::Moved);
    }
    Ok(())
}

/// What each buffer was for, from when it came and went.
fn roles(events: &[Event]) -> Vec<Role> {
    let mut roles = Vec::new();
    let mut alive = Vec::new();
    let (mut building, mut moving, mut first_of_step) = (true, false, 0);
    for event in events {
        match *event {
            Event::Take(id, _) => {
                roles.push(match (building, moving) {
                    (true, _) => Role::Weight(id),
                    (_, true) => Role::Moment,
                    _ => Role::Working,
                });
                alive.push(id);
            }
            Event::Give(id) => alive.retain(|&other| other != id),
            Event::Mark(Mark::Step) => (building, first_of_step) = (false, roles.len()),
            Event::Head => relabel(&mut roles, &alive, first_of_step, Role::Kept),
            Event::Mark(Mark::Gradients) => {
                moving = true;
                relabel(&mut roles, &alive, first_of_step, Role::Gradient);
            }
            Event::Mark(Mark::Moved) => moving = false,
            Event::Room(_) => {}
        }
    }
    roles
}

fn relabel(roles: &mut [Role], alive: &[usize], first: usize, role: Role) {
    alive.iter().filter(|&&id| id >= first).for_each(|&id| roles[id] = role);
}
