//! The inner loop of a round: a few AdamW steps from a public state over assigned packs.
//!
//! A pure function of its inputs: the same config, state, plan and packs give the same bits, whatever the number of
//! threads. Moments start at zero (the manifest's `inner_state = "fresh"`), so nobody has to believe a private past.

use std::ops::ControlFlow;

use crate::{
    adamw::{AdamW, AdamWSettings, DecayRule, Gradients, clip},
    batch::{BatchError, BatchSource, PackError},
    config::{ConfigError, ModelConfig},
    model::{Batch, Model, ModelError, Sample},
    modules::{Module, trainable},
    schedule::learning_rate,
    state::{State, StateError},
    trace::{StepRecord, trace_bytes},
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

    fn adamw(&self) -> AdamW {
        AdamW::new(AdamWSettings {
            beta1: self.beta1,
            beta2: self.beta2,
            epsilon: self.epsilon,
            weight_decay: self.weight_decay,
            decay: DecayRule::Matrices,
        })
    }
}

/// What a member is to do in a round.
#[derive(Debug, Clone, PartialEq)]
pub struct InnerPlan {
    /// Modules that the stage trains; the others keep every bit.
    pub trainable: Vec<Module>,
    /// The optimiser.
    pub optimizer: OptimizerSettings,
    /// Index of the first step on the stage's schedule.
    pub first_step: u64,
    /// Pack indices of every inner step, in order.
    pub steps: Vec<Vec<u64>>,
}

/// What came out of a round's inner steps.
#[derive(Debug, Clone)]
pub struct InnerOutcome {
    /// The weights after the last step that was done.
    pub end: State,
    /// One record for every step that was done.
    pub steps: Vec<StepRecord>,
    /// Whether `on_step` asked to stop before the plan was done.
    pub stopped_early: bool,
}

impl InnerOutcome {
    /// The canonical bytes of the step records.
    pub fn trace_bytes(&self) -> Vec<u8> {
        trace_bytes(&self.steps)
    }
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

/// Decoder and vision rows that go through the model together. Packs of a step are joined up to this many rows, which
/// keeps the matrices large enough to be worth a call and the memory bounded. Part of what decides the bits.
const GROUP_ROWS: usize = 4096;

/// Runs the steps of `plan` from `start` and calls `on_step` after each with its index and record.
///
/// The loss of a step is the sum of the losses of all learned tokens of its packs over their number. A step with nothing
/// to learn changes nothing and records a loss of 0. When `on_step` breaks, the outcome holds what was done so far.
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
    config.validate()?;
    start.check(config)?;
    plan.optimizer.check()?;
    let names = trainable(config, &plan.trainable);
    if names.is_empty() {
        return Err(InnerError::NothingTrainable);
    }
    let mut optimizer = plan.optimizer.adamw();
    let mut outcome = InnerOutcome { end: start.clone(), steps: Vec::new(), stopped_early: false };
    for (step, packs) in plan.steps.iter().enumerate() {
        let samples = fetch(config, step, packs, source)?;
        let rate = plan.optimizer.learning_rate(plan.first_step.saturating_add(step as u64));
        let not_finite = |what, value| InnerError::NotFinite { what, step, packs: packs.clone(), value };
        let found = step_gradients(config, &outcome.end, &names, &samples)
            .map_err(|source| InnerError::Model { step, source })?;
        let record = match found {
            Found { learned: 0, tokens, .. } => {
                StepRecord { loss: 0.0, gradient_norm: 0.0, tokens, learned_tokens: 0 }
            }
            Found { loss, .. } if !loss.is_finite() => return Err(not_finite("loss", loss)),
            Found { loss, mut gradients, tokens, learned } => {
                let norm = clip(&mut gradients, plan.optimizer.clip_norm);
                if !norm.is_finite() {
                    return Err(not_finite("gradient norm", norm));
                }
                optimizer.step(&mut outcome.end, &gradients, rate);
                StepRecord { loss: loss as f32, gradient_norm: norm as f32, tokens, learned_tokens: learned }
            }
        };
        outcome.steps.push(record);
        if on_step(step, &record).is_break() {
            outcome.stopped_early = step + 1 < plan.steps.len();
            break;
        }
    }
    // a last step may overflow a weight without any loss showing it
    if let Err(StateError::NotFinite { value, .. }) = outcome.end.check(config) {
        let step = outcome.steps.len().saturating_sub(1);
        let packs = plan.steps.get(step).cloned().unwrap_or_default();
        return Err(InnerError::NotFinite { what: "weights", step, packs, value: f64::from(value) });
    }
    Ok(outcome)
}

fn fetch(
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

struct Found {
    loss: f64,
    gradients: Gradients,
    tokens: u64,
    learned: u64,
}

/// Mean loss of a step's packs and its gradient.
fn step_gradients(
    config: &ModelConfig,
    state: &State,
    names: &[String],
    packs: &[Vec<Sample>],
) -> Result<Found, ModelError> {
    let model = Model::new(config, state, names)?;
    let batches = groups(packs).map(|samples| Batch::new(&samples, config)).collect::<Result<Vec<_>, _>>()?;
    let learned: u64 = batches.iter().map(|batch| batch.learned() as u64).sum();
    let tokens = packs.iter().flatten().map(|sample| sample.tokens.len() as u64).sum();
    let mut gradients = Gradients::new();
    let mut sum = 0.0;
    for batch in batches.iter().filter(|batch| batch.learned() > 0) {
        let (loss, found) = model.gradients(batch, (1.0 / learned as f64) as f32)?;
        sum += loss;
        for (name, more) in found {
            match gradients.get_mut(&name) {
                None => drop(gradients.insert(name, more)),
                Some(so_far) => so_far.iter_mut().zip(more).for_each(|(g, more)| *g += more),
            }
        }
    }
    Ok(Found { loss: sum / (learned.max(1)) as f64, gradients, tokens, learned })
}

/// Joins packs in order until their rows fill a group; a pack is never split.
pub(crate) fn groups(packs: &[Vec<Sample>]) -> impl Iterator<Item = Vec<Sample>> {
    let rows = |pack: &[Sample]| -> usize {
        let row_count = |sample: &Sample| {
            sample.tokens.len() + sample.pictures.iter().map(|p| p.len() + 1).sum::<usize>()
        };
        pack.iter().map(row_count).sum()
    };
    let mut groups: Vec<(usize, Vec<Sample>)> = Vec::new();
    for pack in packs {
        let more = rows(pack);
        match groups.last_mut() {
            Some((so_far, group)) if *so_far + more <= GROUP_ROWS => {
                *so_far += more;
                group.extend_from_slice(pack);
            }
            _ => groups.push((more, pack.clone())),
        }
    }
    groups.into_iter().map(|(_, group)| group)
}
