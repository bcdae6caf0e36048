//! The inner loop of a round: a few AdamW steps from a public state over assigned packs.
//!
//! A pure function of its inputs: the same config, state, moments, plan and packs give the same bits, whatever the number
//! of threads. Moments start at zero (the manifest's `inner_state = "fresh"`) or from what the last round published
//! (`"public"`, see [`crate::moments`]), so nobody has to believe a private past.

use std::{
    ops::{ControlFlow, Range},
    sync::mpsc,
};

use crate::{
    adamw::{AdamW, AdamWSettings, DecayRule, clip_factor, global_norm},
    backend::{Backend, BackendError},
    batch::{BatchError, BatchSource, PackError},
    config::{ConfigError, ModelConfig},
    contribution::{Layout, LayoutError},
    cpu::Cpu,
    model::{Gradients, Keep, Model, ModelError, Sample},
    modules::{Module, trainable},
    moments::{MomentFormat, Moments},
    schedule::learning_rate,
    snapshot::Moment,
    state::{State, StateError},
    team::{Differentiated, Part, Team, alone},
    trace::{StepRecord, Trace},
};

/// What a stage's manifest says about the optimiser.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OptimizerSettings {
    /// Learning rate at the end of the warm-up.
    pub peak_learning_rate: f32,
    /// Learning rate from `total_steps` on.
    pub final_learning_rate: f32,
    /// Steps of the linear warm-up; the very first step then has rate 0.
    pub warmup_steps: u64,
    /// Steps of the whole stage, over all its rounds.
    pub total_steps: u64,
    /// Decay of the mean of gradients.
    pub beta1: f32,
    /// Decay of the mean of squared gradients.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Decoupled weight decay, on tensors with two or more axes.
    pub weight_decay: f32,
    /// Largest norm of all gradients together.
    pub clip_norm: f32,
    /// How the moments are held between steps.
    pub moments: MomentFormat,
}

impl OptimizerSettings {
    /// Learning rate of the step with index `step` of the stage, counted from 0.
    pub fn learning_rate(&self, step: u64) -> f32 {
        learning_rate(
            step,
            self.warmup_steps,
            self.total_steps,
            self.peak_learning_rate,
            self.final_learning_rate,
        )
    }

    fn check(&self) -> Result<(), InnerError> {
        let fields = [
            ("peak_learning_rate", self.peak_learning_rate, 0.0, 10.0),
            ("final_learning_rate", self.final_learning_rate, 0.0, 10.0),
            ("beta1", self.beta1, 0.0, 0.9999),
            ("beta2", self.beta2, 0.0, 0.999_999),
            ("epsilon", self.epsilon, 0.0, 1.0),
            ("weight_decay", self.weight_decay, 0.0, 10.0),
            ("clip_norm", self.clip_norm, 1e-9, 1e9),
        ];
        // written so that NaN is refused too
        match fields.into_iter().find(|&(_, got, min, max)| !(got >= min && got <= max)) {
            Some((field, got, min, max)) => Err(InnerError::Settings { field, got, min, max }),
            None => Ok(()),
        }
    }

    /// The optimiser with these numbers, its moments zero.
    pub fn adamw<B: Backend>(&self, config: &ModelConfig) -> AdamW<B> {
        let settings = AdamWSettings {
            beta1: self.beta1,
            beta2: self.beta2,
            epsilon: self.epsilon,
            weight_decay: self.weight_decay,
            decay: DecayRule::Matrices,
            moments: self.moments,
        };
        AdamW::new(settings, config)
    }
}

/// How the loss of a step is normalised over its learned tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Normalisation {
    /// The mean over all learned tokens of the step.
    #[default]
    Token,
    /// The mean over packs of each pack's mean: every pack counts the same, as in the recipe that we follow. Packs with
    /// nothing to learn are left out.
    Pack,
}

/// What a member is to do in a round.
#[derive(Debug, Clone, PartialEq)]
pub struct InnerPlan {
    /// Modules that the stage trains; the others keep every bit.
    pub trainable: Vec<Module>,
    /// The optimiser.
    pub optimizer: OptimizerSettings,
    /// How the loss of a step is normalised.
    pub normalisation: Normalisation,
    /// Index of the first step on the stage's schedule.
    pub first_step: u64,
    /// Pack indices of every inner step, in order.
    pub steps: Vec<Vec<u64>>,
    /// Steps between two digests of the training state; 0 for none.
    pub digest_interval: u32,
}

/// What came out of a round's inner steps.
#[derive(Debug, Clone)]
pub struct InnerOutcome {
    /// The weights after the last step that was done.
    pub end: State,
    /// One record for every step that was done, and the digests of the training state.
    pub trace: Trace,
    /// Whether `on_step` asked to stop before the plan was done.
    pub stopped_early: bool,
}

/// Why inner steps could not be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InnerError {
    /// The config cannot be built.
    #[error("the model's config is wrong")]
    Config(#[from] ConfigError),
    /// The start state is not one of the model.
    #[error("the start state does not fit the model")]
    Start(#[from] StateError),
    /// A number of the optimiser is out of range.
    #[error("optimizer setting {field} is {got}, but must be between {min} and {max}")]
    Settings {
        /// The field.
        field: &'static str,
        /// What stood there.
        got: f32,
        /// Smallest allowed value.
        min: f32,
        /// Largest allowed value.
        max: f32,
    },
    /// No module is trained, so there is nothing to do.
    #[error("the plan trains no module: a stage must name at least one of vision, merger, language")]
    NothingTrainable,
    /// The device failed outside of a step.
    #[error(transparent)]
    Device(#[from] BackendError),
    /// The trained tensors make no layout.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// Moments of a parameter that is not trained, or of another length.
    #[error("`{name}` has {expected} trained elements, but {got} moments")]
    Moments {
        /// The parameter.
        name: String,
        /// Its elements; 0 when it is not trained.
        expected: usize,
        /// Moments given.
        got: usize,
    },
    /// A step without packs.
    #[error("inner step {step} has no packs")]
    EmptyStep {
        /// Index of the step in the plan.
        step: usize,
    },
    /// A pack did not come.
    #[error("inner step {step} lacks a pack")]
    Batch {
        /// Index of the step in the plan.
        step: usize,
        /// Why.
        #[source]
        source: BatchError,
    },
    /// A pack doesn't fit the model.
    #[error("pack {pack} of inner step {step} does not fit the model")]
    Pack {
        /// Index of the step in the plan.
        step: usize,
        /// Index of the pack.
        pack: u64,
        /// What is wrong with it.
        #[source]
        source: PackError,
    },
    /// A loss, a gradient or a weight became infinite or NaN.
    #[error("{what} of inner step {step} is {value} (packs {packs:?}): the learning rate may be too high")]
    NotFinite {
        /// `loss`, `gradient norm` or `weights`.
        what: &'static str,
        /// Index of the step in the plan.
        step: usize,
        /// Packs of the step.
        packs: Vec<u64>,
        /// The number.
        value: f64,
    },
    /// The model failed.
    #[error("inner step {step} failed")]
    Model {
        /// Index of the step in the plan.
        step: usize,
        /// Why.
        #[source]
        source: ModelError,
    },
}

/// Runs the steps of `plan` from `start`, with moments of zero, on this machine's processor and calls `on_step` after each
/// with its index and record.
///
/// The loss of a step is normalised as the plan says. A step with nothing to learn changes nothing and records a loss of
/// 0. When `on_step` breaks, the outcome holds what was done so far.
///
/// # Errors
///
/// [`InnerError`] names the step and the pack; nothing is returned of a round that failed.
pub fn run_inner_steps(
    config: &ModelConfig,
    start: &State,
    plan: &InnerPlan,
    source: &dyn BatchSource,
    on_step: &mut dyn FnMut(usize, &StepRecord) -> ControlFlow<()>,
) -> Result<InnerOutcome, InnerError> {
    let from = Start { state: start, moments: None };
    Ok(run_inner_steps_on(&Cpu::default(), config, from, plan, source, on_step)?.0)
}

/// What a round's inner steps start from.
#[derive(Debug, Clone, Copy)]
pub struct Start<'a> {
    /// All weights.
    pub state: &'a State,
    /// AdamW's moments; none are zeros.
    pub moments: Option<&'a Moments>,
}

/// The same on any device, with the help of the [others](Backend::others), and from any moments. The optimiser comes back with
/// the moments that it ends with.
///
/// # Errors
///
/// As [`run_inner_steps`].
pub fn run_inner_steps_on<B: Backend>(
    backend: &B,
    config: &ModelConfig,
    start: Start<'_>,
    plan: &InnerPlan,
    source: &dyn BatchSource,
    on_step: &mut dyn FnMut(usize, &StepRecord) -> ControlFlow<()>,
) -> Result<(InnerOutcome, AdamW<B>), InnerError> {
    let Start { state: start, moments } = start;
    config.validate()?;
    start.check(config)?;
    plan.optimizer.check()?;
    let names = trainable(config, &plan.trainable);
    if names.is_empty() {
        return Err(InnerError::NothingTrainable);
    }
    let mut team = Team::new(backend, config, start, Keep::within(config, GROUP_ROWS, KEPT_BYTES), &names)
        .map_err(|source| InnerError::Model { step: 0, source })?;
    let mut optimizer = plan.optimizer.adamw(config);
    if let Some(moments) = moments {
        check_moments(config, &names, moments)?;
        optimizer = optimizer.going_on(backend, moments)?;
    }
    let layout = Layout::trained(config, &plan.trainable)?;
    let mut trace = Trace { interval: plan.digest_interval, ..Trace::default() };
    let digest = |model: &Model<'_, B>, optimizer: &AdamW<B>, done: usize| {
        let stage_step = plan.first_step.saturating_add(done as u64);
        Moment { layout: &layout, stage_step, model, optimizer }.digest()
    };
    if plan.digest_interval > 0 {
        trace.digests.push(digest(team.first(), &optimizer, 0)?);
    }
    let mut stopped_early = false;
    ahead(config, plan, source, |step, packs, samples| {
        let rate = plan.optimizer.learning_rate(plan.first_step.saturating_add(step as u64));
        let not_finite = |what, value| InnerError::NotFinite { what, step, packs: packs.clone(), value };
        let failed = |source| InnerError::Model { step, source };
        let found = team_gradients(&mut team, &samples, plan.normalisation).map_err(failed)?;
        let record = match found {
            Found { gradients: None, tokens, .. } => {
                StepRecord { loss: 0.0, gradient_norm: 0.0, tokens, learned_tokens: 0 }
            }
            Found { loss, .. } if !loss.is_finite() => return Err(not_finite("loss", loss)),
            Found { loss, gradients: Some(gradients), tokens, learned } => {
                let norm = global_norm(backend, &gradients).map_err(failed)?;
                if !norm.is_finite() {
                    return Err(not_finite("gradient norm", norm));
                }
                let factor = clip_factor(norm, plan.optimizer.clip_norm);
                optimizer.step(team.first_mut(), &gradients, rate, factor).map_err(failed)?;
                team.spread().map_err(failed)?;
                StepRecord { loss: loss as f32, gradient_norm: norm as f32, tokens, learned_tokens: learned }
            }
        };
        trace.steps.push(record);
        let (done, stop) = (step + 1, on_step(step, &record).is_break());
        let last = stop || done == plan.steps.len();
        if plan.digest_interval > 0 && (last || done.is_multiple_of(plan.digest_interval as usize)) {
            trace.digests.push(digest(team.first(), &optimizer, done)?);
        }
        if stop {
            stopped_early = done < plan.steps.len();
            return Ok(ControlFlow::Break(()));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    let step = trace.steps.len().saturating_sub(1);
    let end = team.first().state().map_err(|source| InnerError::Model { step, source })?;
    // a last step may overflow a weight without any loss showing it
    if let Err(StateError::NotFinite { value, .. }) = end.check(config) {
        let packs = plan.steps.get(step).cloned().unwrap_or_default();
        return Err(InnerError::NotFinite { what: "weights", step, packs, value: f64::from(value) });
    }
    Ok((InnerOutcome { end, trace, stopped_early }, optimizer))
}

/// Moments are of trained parameters and as long as they are.
fn check_moments(config: &ModelConfig, trained: &[String], moments: &Moments) -> Result<(), InnerError> {
    let shapes = config.parameter_shapes();
    for (name, (first, second)) in &moments.tensors {
        let expected = shapes.get(name).filter(|_| trained.contains(name));
        let expected = expected.map_or(0, |shape| shape.iter().product::<usize>());
        if expected == 0 || [first.len(), second.len()] != [expected; 2] {
            let got = first.len().max(second.len());
            return Err(InnerError::Moments { name: name.clone(), expected, got });
        }
    }
    Ok(())
}

/// Decoder and vision rows that go through the model together. Packs of a step are joined up to this many rows, which
/// keeps the matrices large enough to be worth a call and the memory bounded. It decides nothing about the bits.
pub(crate) const GROUP_ROWS: usize = 4096;

/// Bytes of intermediate values below which nothing is computed again in backward.
pub(crate) const KEPT_BYTES: u64 = 512 << 20;

/// Calls `work` for every step of a plan with its packs, which a thread of its own prepares: those of the next step while one
/// is under way. Breaking ends it.
fn ahead<'p>(
    config: &ModelConfig,
    plan: &'p InnerPlan,
    source: &dyn BatchSource,
    mut work: impl FnMut(usize, &'p Vec<u64>, Vec<Vec<Sample>>) -> Result<ControlFlow<()>, InnerError>,
) -> Result<(), InnerError> {
    std::thread::scope(|scope| {
        // nothing waits in the channel: one step under way, one prepared in the other thread's hands
        let (prepared, next) = mpsc::sync_channel(0);
        scope.spawn(move || {
            for (step, packs) in plan.steps.iter().enumerate() {
                if prepared.send(fetch(config, step, packs, source)).is_err() {
                    break;
                }
            }
        });
        for (step, packs) in plan.steps.iter().enumerate() {
            // a thread that has panicked sends nothing, and its panic goes on from here
            let Ok(samples) = next.recv() else { break };
            if work(step, packs, samples?)?.is_break() {
                break;
            }
        }
        Ok(())
    })
}

/// The packs of a step, as samples.
pub(crate) fn fetch(
    config: &ModelConfig,
    step: usize,
    packs: &[u64],
    source: &dyn BatchSource,
) -> Result<Vec<Vec<Sample>>, InnerError> {
    if packs.is_empty() {
        return Err(InnerError::EmptyStep { step });
    }
    let fetch_one = |&pack: &u64| {
        let content = source.pack(pack).map_err(|source| InnerError::Batch { step, source })?;
        content.check(config).map_err(|source| InnerError::Pack { step, pack, source })?;
        Ok(Sample::from_pack(&content, config))
    };
    packs.iter().map(fetch_one).collect()
}

/// What a step's packs gave.
pub(crate) struct Found<B: Backend> {
    loss: f64,
    /// None when there was nothing to learn.
    pub(crate) gradients: Option<Gradients<B>>,
    tokens: u64,
    learned: u64,
}

/// Loss of a step's packs and its gradient, on one device.
pub(crate) fn step_gradients<B: Backend>(
    model: &Model<'_, B>,
    names: &[String],
    packs: &[Vec<Sample>],
    normalisation: Normalisation,
) -> Result<Found<B>, ModelError> {
    gradients_by(packs, normalisation, GROUP_ROWS, |parts| alone(model, names, parts))
}

/// The same on all devices of a team. Where it decides no bit, packs are joined such that all have something to do.
fn team_gradients<B: Backend>(
    team: &mut Team<'_, B>,
    packs: &[Vec<Sample>],
    normalisation: Normalisation,
) -> Result<Found<B>, ModelError> {
    let backend = team.first().backend();
    let rows = match backend.others().len() {
        0 => GROUP_ROWS,
        _ if !backend.joins_freely() => GROUP_ROWS,
        others => packs.iter().map(|pack| rows_of(pack)).sum::<usize>().div_ceil(1 + others).min(GROUP_ROWS),
    };
    gradients_by(packs, normalisation, rows, |parts| team.differentiate(parts))
}

fn gradients_by<B: Backend>(
    packs: &[Vec<Sample>],
    normalisation: Normalisation,
    rows: usize,
    differentiate: impl FnOnce(&[Part<'_>]) -> Result<Differentiated<B>, ModelError>,
) -> Result<Found<B>, ModelError> {
    let learned_in = |pack: &Vec<Sample>| pack.iter().map(Sample::learned).sum::<usize>();
    let learned: Vec<usize> = packs.iter().map(learned_in).collect();
    let total = learned.iter().sum::<usize>() as u64;
    let tokens = packs.iter().flatten().map(|sample| sample.tokens.len() as u64).sum();
    if total == 0 {
        return Ok(Found { loss: 0.0, gradients: None, tokens, learned: 0 });
    }
    let weights = normalisation.weights(&learned);
    let groups = groups_within(packs, rows);
    let part = |group: &Range<usize>| {
        let each = learned[group.clone()].iter().zip(&weights[group.clone()]);
        let scales = each.flat_map(|(&count, &weight)| std::iter::repeat_n(weight as f32, count)).collect();
        Part { samples: packs[group.clone()].iter().flatten().collect(), scales }
    };
    let parts: Vec<Part<'_>> = groups.iter().map(part).collect();
    let Differentiated { losses, gradients } = differentiate(&parts)?;
    let mut loss = 0.0;
    for (group, losses) in groups.into_iter().zip(losses) {
        let mut losses = losses.into_iter().map(f64::from);
        for (&count, weight) in learned[group.clone()].iter().zip(&weights[group]) {
            loss += weight * losses.by_ref().take(count).sum::<f64>();
        }
    }
    Ok(Found { loss, gradients: Some(gradients), tokens, learned: total })
}

impl Normalisation {
    /// What every learned token of each pack counts, from the numbers of learned tokens; a pack with none has no part.
    fn weights(self, learned: &[usize]) -> Vec<f64> {
        let total: usize = learned.iter().sum();
        let packs = learned.iter().filter(|&&count| count > 0).count();
        let weight = |&count: &usize| match self {
            _ if count == 0 => 0.0,
            Self::Token => 1.0 / total as f64,
            Self::Pack => 1.0 / (packs as f64 * count as f64),
        };
        learned.iter().map(weight).collect()
    }
}

/// Decoder and vision rows of a pack.
fn rows_of(pack: &[Sample]) -> usize {
    let row_count =
        |sample: &Sample| sample.tokens.len() + sample.pictures.iter().map(|p| p.len() + 1).sum::<usize>();
    pack.iter().map(row_count).sum()
}

/// Joins packs in order until their rows fill a group; a pack is never split.
pub(crate) fn groups(packs: &[Vec<Sample>]) -> Vec<Range<usize>> {
    groups_within(packs, GROUP_ROWS)
}

/// The same with groups of so many rows.
fn groups_within(packs: &[Vec<Sample>], most: usize) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    let mut so_far = 0;
    for (i, pack) in packs.iter().enumerate() {
        let more = rows_of(pack);
        match groups.last_mut() {
            Some(group) if so_far + more <= most => {
                group.end = i + 1;
                so_far += more;
            }
            _ => {
                groups.push(i..i + 1);
                so_far = more;
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_counts_the_same_in_every_pack_or_every_pack_counts_the_same() {
        assert_eq!(Normalisation::Token.weights(&[1, 3, 0]), [0.25, 0.25, 0.0]);
        assert_eq!(Normalisation::Pack.weights(&[1, 4, 0]), [0.5, 0.125, 0.0]);
        assert_eq!(Normalisation::Pack.weights(&[0, 0]), [0.0, 0.0]);
    }
}
