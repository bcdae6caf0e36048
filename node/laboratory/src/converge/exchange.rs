//! A round: every member's inner steps, and what becomes of them.

use rayon::prelude::*;
use talkoot_trainer::{
    adamw::AdamW,
    aggregate::{Rule, Weight, aggregate_into, outer_step},
    contribution::{ErrorFeedback, Origin, encode_with},
    cpu::Cpu,
    inner::{InnerOutcome, InnerPlan, Start, run_inner_steps_on},
    moments::{Factors, MatrixShape, Moments, Published, matrix_shapes, public},
    state::State,
};

use super::trial::{Failure, Method, Seat, Setting, unwatched};

/// DiLoCo's outer learning rate and momentum (arXiv 2311.08105, table 5).
const OUTER_RATE: f32 = 0.7;
const OUTER_MOMENTUM: f32 = 0.9;

/// The outer learning rate of contributions (SparseLoCo, arXiv 2508.15706): the mean as it is.
const CONTRIBUTION_RATE: f32 = 1.0;

/// What a round moved.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moved {
    pub(super) tokens: u64,
    /// Bytes sent by a member, on the mean.
    pub(super) bytes_per_member: u64,
}

/// What lives from round to round.
#[derive(Debug)]
pub(super) struct Exchange {
    members: Vec<Private>,
    shapes: Vec<MatrixShape>,
    /// Moments that everybody starts the next round from.
    public: Option<Moments>,
    /// DiLoCo's outer momentum, by tensor.
    momentum: Vec<Vec<f32>>,
    factor_bytes: (u64, u64),
}

/// What a member keeps for itself.
#[derive(Debug)]
struct Private {
    feedback: ErrorFeedback,
    moments: Option<Moments>,
}

/// What a member's inner steps gave.
struct Work {
    outcome: InnerOutcome,
    optimizer: AdamW<Cpu>,
}

impl Exchange {
    pub(super) fn new(setting: &Setting<'_>, members: usize) -> Self {
        let layout = &setting.layout;
        let private = || Private { feedback: ErrorFeedback::zero(layout), moments: None };
        Self {
            members: (0..members).map(|_| private()).collect(),
            shapes: matrix_shapes(&setting.config, layout),
            public: None,
            momentum: layout.tensors().iter().map(|(_, elements)| vec![0.0; *elements as usize]).collect(),
            factor_bytes: (0, 0),
        }
    }

    /// Bytes of factors in a contribution, on the mean.
    pub(super) fn factor_bytes(&self) -> f64 {
        self.factor_bytes.0 as f64 / self.factor_bytes.1.max(1) as f64
    }

    pub(super) fn round(
        &mut self,
        setting: &Setting<'_>,
        state: &mut State,
        seats: &[Seat],
    ) -> Result<Moved, Failure> {
        match setting.method {
            Method::Synchronous => self.synchronous(setting, state, seats),
            Method::Diloco => self.diloco(setting, state, seats),
            Method::Carried | Method::Fresh | Method::Public | Method::PublicSecond => {
                self.contributions(setting, state, seats)
            }
        }
    }

    /// The mean gradient of all members in every step is the gradient of all their packs.
    fn synchronous(
        &mut self,
        setting: &Setting<'_>,
        state: &mut State,
        seats: &[Seat],
    ) -> Result<Moved, Failure> {
        let arrives = |seat: &&Seat| seat.arrives;
        let count = seats.iter().map(|seat| seat.plan.steps.len()).max().unwrap_or(0);
        let steps = (0..count).map(|step| {
            let packs = seats.iter().filter(arrives).filter_map(|seat| seat.plan.steps.get(step));
            packs.flatten().copied().collect::<Vec<u64>>()
        });
        let plan = InnerPlan { steps: steps.collect(), ..seats[0].plan.clone() };
        let start = Start { state, moments: self.public.as_ref() };
        let work = train(setting, start, &plan)?;
        let cpu = Cpu::default();
        self.public = Some(work.optimizer.moments(&cpu).map_err(lost)?);
        let tokens = tokens(&work);
        *state = work.outcome.end;
        let gradient = 4 * setting.layout.elements();
        Ok(Moved { tokens, bytes_per_member: gradient * count as u64 })
    }

    fn diloco(&mut self, setting: &Setting<'_>, state: &mut State, seats: &[Seat]) -> Result<Moved, Failure> {
        let works = self.work(setting, state, seats)?;
        let total: u64 = arrived(seats, &works).map(|(_, work)| tokens(work)).sum();
        let mut mean: Vec<Vec<f32>> = self.momentum.iter().map(|tensor| vec![0.0; tensor.len()]).collect();
        for (_, work) in arrived(seats, &works) {
            let share = tokens(work) as f32 / total as f32;
            for (mean, delta) in mean.iter_mut().zip(delta(setting, state, &work.outcome.end)) {
                for (mean, delta) in mean.iter_mut().zip(delta) {
                    *mean += share * delta;
                }
            }
        }
        for (at, (name, _)) in setting.layout.tensors().iter().enumerate() {
            let Some(tensor) = state.tensors.get_mut(name) else { continue };
            let moving = tensor.values.iter_mut().zip(&mut self.momentum[at]).zip(&mean[at]);
            for ((theta, momentum), mean) in moving {
                *momentum = OUTER_MOMENTUM * *momentum + mean;
                *theta -= OUTER_RATE * (mean + OUTER_MOMENTUM * *momentum);
            }
        }
        self.keep_moments(&works)?;
        let tokens = works.iter().map(tokens).sum();
        Ok(Moved { tokens, bytes_per_member: 4 * setting.layout.elements() })
    }

    fn contributions(
        &mut self,
        setting: &Setting<'_>,
        state: &mut State,
        seats: &[Seat],
    ) -> Result<Moved, Failure> {
        let Setting { layout, codec, method, .. } = setting;
        let works = self.work(setting, state, seats)?;
        let publishes = matches!(method, Method::Public | Method::PublicSecond);
        let cpu = Cpu::default();
        let mut blobs = Vec::new();
        for (seat, work) in arrived(seats, &works) {
            let factors = publishes
                .then(|| work.optimizer.factors(&cpu, layout, &self.shapes))
                .transpose()
                .map_err(lost)?;
            let delta = delta(setting, state, &work.outcome.end);
            let delta: Vec<&[f32]> = delta.iter().map(Vec::as_slice).collect();
            let origin = Origin {
                round: seat.plan.first_step,
                member: [seat.member as u8; 32],
                steps: seat.plan.steps.len() as u32,
                tokens: tokens(work),
            };
            let feedback = &mut self.members[seat.member].feedback;
            let blob = encode_with(codec, layout, &origin, &delta, factors.as_ref(), feedback)?;
            let rates = rates(&seat.plan);
            blobs.push((blob, Weight(origin.tokens), factors, rates));
        }
        let sent: u64 = blobs.iter().map(|(blob, ..)| blob.len() as u64).sum();
        let list: Vec<(&[u8], Weight)> =
            blobs.iter().map(|(blob, weight, ..)| (blob.as_slice(), *weight)).collect();
        if publishes {
            let all: u64 = list.iter().map(|(_, weight)| weight.0).sum();
            let rates = blobs.iter().map(|(_, weight, _, rates)| weight.0 as f32 / all as f32 * rates).sum();
            let factors: Vec<Factors> = blobs.iter().filter_map(|(.., factors, _)| factors.clone()).collect();
            let bytes = factors.iter().map(|factors| factors.to_bytes().len() as u64).sum::<u64>();
            self.factor_bytes = (self.factor_bytes.0 + bytes, self.factor_bytes.1 + factors.len() as u64);
            let mut aggregate: Vec<Vec<f32>> =
                self.momentum.iter().map(|tensor| vec![0.0; tensor.len()]).collect();
            let mut out: Vec<&mut [f32]> = aggregate.iter_mut().map(Vec::as_mut_slice).collect();
            aggregate_into(&mut out, &list, codec, layout, Rule::Mean)?;
            let mut moments = public(
                layout,
                &Published {
                    aggregate: &aggregate,
                    factors: &Factors::median(&factors),
                    shapes: &self.shapes,
                    rates,
                    epsilon: seats[0].plan.optimizer.epsilon,
                },
            );
            if *method == Method::PublicSecond {
                moments.tensors.values_mut().for_each(|(first, _)| first.fill(0.0));
            }
            self.public = Some(moments);
        }
        let mut tensors: Vec<&mut [f32]> =
            state.tensors.values_mut().map(|tensor| tensor.values.as_mut_slice()).collect();
        outer_step(&mut tensors, &list, codec, layout, CONTRIBUTION_RATE, Rule::Mean)?;
        if *method == Method::Carried {
            self.keep_moments(&works)?;
        }
        let tokens = works.iter().map(tokens).sum();
        Ok(Moved { tokens, bytes_per_member: sent / blobs.len().max(1) as u64 })
    }

    fn work(&self, setting: &Setting<'_>, state: &State, seats: &[Seat]) -> Result<Vec<Work>, Failure> {
        seats
            .par_iter()
            .map(|seat| {
                let moments = match setting.method {
                    Method::Fresh => None,
                    Method::Public | Method::PublicSecond | Method::Synchronous => self.public.as_ref(),
                    Method::Carried | Method::Diloco => self.members[seat.member].moments.as_ref(),
                };
                train(setting, Start { state, moments }, &seat.plan)
            })
            .collect()
    }

    fn keep_moments(&mut self, works: &[Work]) -> Result<(), Failure> {
        let cpu = Cpu::default();
        for (member, work) in self.members.iter_mut().zip(works) {
            member.moments = Some(work.optimizer.moments(&cpu).map_err(lost)?);
        }
        Ok(())
    }
}

fn train(setting: &Setting<'_>, start: Start<'_>, plan: &InnerPlan) -> Result<Work, Failure> {
    let packs = &setting.material.train;
    let (outcome, optimizer) =
        run_inner_steps_on(&Cpu::default(), &setting.config, start, plan, packs, &mut unwatched)?;
    Ok(Work { outcome, optimizer })
}

/// Those whose work arrives.
fn arrived<'a>(seats: &'a [Seat], works: &'a [Work]) -> impl Iterator<Item = (&'a Seat, &'a Work)> {
    seats.iter().zip(works).filter(|(seat, _)| seat.arrives)
}

fn tokens(work: &Work) -> u64 {
    work.outcome.trace.steps.iter().map(|step| step.tokens).sum()
}

/// Sum of the learning rates of a plan's steps.
fn rates(plan: &InnerPlan) -> f32 {
    (plan.first_step..).take(plan.steps.len()).map(|step| plan.optimizer.learning_rate(step)).sum()
}

fn delta(setting: &Setting<'_>, start: &State, end: &State) -> Vec<Vec<f32>> {
    let of = |(name, _): &(String, u64)| {
        let (start, end) = (&start.tensors[name].values, &end.tensors[name].values);
        start.iter().zip(end).map(|(start, end)| start - end).collect()
    };
    setting.layout.tensors().iter().map(of).collect()
}

fn lost(error: talkoot_trainer::backend::BackendError) -> Failure {
    Failure::Trial(error.to_string())
}
