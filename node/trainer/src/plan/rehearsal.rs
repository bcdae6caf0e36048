//! Two steps on a device that only counts.

use std::cell::Cell;

use super::{
    Load, PlanError,
    dry::{Dry, Event, Operations},
    rooms::Rooms,
};
use crate::{
    adamw::{AdamW, AdamWSettings, DecayRule, global_norm},
    backend::Backend,
    config::ModelConfig,
    inner::{Normalisation, step_gradients},
    model::{Keep, Model, Sample, is_frozen},
    moments::MomentFormat,
};

/// Parts of a rehearsal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// A step begins.
    Step,
    /// Its gradients are whole.
    Gradients,
    /// The optimiser has moved the weights.
    Moved,
}

/// What a buffer was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// A parameter.
    Weight,
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
    /// Numbers that forward leaves for backward in one whole step, and those that are there at the same time.
    pub(super) kept: u64,
    pub(super) kept_at_once: u64,
}

impl Rehearsal {
    /// Remembers [`Steps`].
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
        let steps = Steps { config, trained, packs: &load.samples(config), keep, moments: MomentFormat::F32 };
        steps.play(&dry, |_| false, &mark)?;
        let operations = of_a_step.get();
        let events = dry.events();
        let whole = |counted: u128| counted / u128::from(load.rehearsed()) * u128::from(load.packs);
        let roles = roles(&events);
        let (kept_in_two, kept_at_once) = kept(&events, &roles);
        Ok(Self {
            roles,
            events,
            operations: Operations { executed: whole(operations.executed), model: whole(operations.model) },
            kept: whole(u128::from(kept_in_two / 2)) as u64,
            kept_at_once,
        })
    }
}

/// Steps to be played.
pub(super) struct Steps<'a> {
    pub(super) config: &'a ModelConfig,
    pub(super) trained: &'a [String],
    /// Of each step.
    pub(super) packs: &'a [Vec<Sample>],
    pub(super) keep: Keep,
    pub(super) moments: MomentFormat,
}

impl Steps<'_> {
    /// The building of a model and two steps: the trainer's own code. The second step is like all that follow, with moments in
    /// place. Matrices that `half` says so of are such that bf16 holds them. `mark` hears where it is.
    pub(super) fn play<B: Backend>(
        &self,
        backend: &B,
        half: impl Fn(&str) -> bool,
        mark: &dyn Fn(Mark),
    ) -> Result<(), PlanError> {
        let Self { config, trained, packs, keep, moments } = *self;
        let frozen = is_frozen(trained);
        let halves = |name: &str| frozen(name) && half(name);
        let mut model = Model::unfilled(backend, config, halves)?.with_keep(keep);
        let settings = AdamWSettings {
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.0,
            decay: DecayRule::Matrices,
            moments,
        };
        let mut optimizer = AdamW::new(settings, config);
        for _ in 0..2 {
            mark(Mark::Step);
            let found = step_gradients(&model, trained, packs, Normalisation::Token)?;
            mark(Mark::Gradients);
            let gradients = found.gradients.ok_or(PlanError::NothingLearned)?;
            global_norm(backend, &gradients)?;
            optimizer.step(&mut model, &gradients, 0.0, 1.0)?;
            mark(Mark::Moved);
        }
        Ok(())
    }
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
                    (true, _) => Role::Weight,
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

/// Numbers that were kept for backward: all of them together, and the most at the same time.
fn kept(events: &[Event], roles: &[Role]) -> (u64, u64) {
    let (mut all, mut now, mut most) = (0, 0, 0);
    let mut lengths = vec![0; roles.len()];
    for event in events {
        match *event {
            Event::Take(id, numbers) if roles[id] == Role::Kept => {
                lengths[id] = numbers;
                (all, now) = (all + numbers, now + numbers);
                most = most.max(now);
            }
            Event::Give(id) => now -= std::mem::take(&mut lengths[id]),
            _ => {}
        }
    }
    (all, most)
}

fn relabel(roles: &mut [Role], alive: &[usize], first: usize, role: Role) {
    alive.iter().filter(|&&id| id >= first).for_each(|&id| roles[id] = role);
}
