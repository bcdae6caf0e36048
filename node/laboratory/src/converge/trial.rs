//! One training from first weights to last, all members in this process.

use std::{ops::ControlFlow, str::FromStr};

use rand::{RngExt as _, SeedableRng, seq::SliceRandom as _};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use talkoot_evaluation::exam::ExamError;
use talkoot_trainer::{
    aggregate::AggregateError,
    config::ModelConfig,
    contribution::{CodecSettings, EncodeError, Layout},
    evaluate::{EvaluateError, mean_loss},
    inner::{InnerError, InnerPlan, Normalisation, OptimizerSettings},
    modules::{Module, trainable},
    moments::MomentFormat,
    presets::{Shape, demo_model, model_of},
    state::State,
};

use super::exchange::Exchange;
use crate::{Material, material::VOCABULARY};

/// How members train together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// One optimiser, the mean of all members' gradients in every step.
    Synchronous,
    /// Pseudo-gradients in f32, Nesterov's momentum outside, each member's moments carried.
    Diloco,
    /// Contributions, each member's moments carried.
    Carried,
    /// Contributions, moments from zero in every round.
    Fresh,
    /// Contributions, moments from what the last round published.
    Public,
    /// The same, second moments alone.
    PublicSecond,
}

impl Method {
    /// All of them, the usual references first.
    pub const ALL: [Self; 6] =
        [Self::Synchronous, Self::Diloco, Self::Carried, Self::Fresh, Self::Public, Self::PublicSecond];

    /// Its name on the command line and in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Synchronous => "synchronous",
            Self::Diloco => "diloco",
            Self::Carried => "carried",
            Self::Fresh => "fresh",
            Self::Public => "public",
            Self::PublicSecond => "public-second",
        }
    }
}

impl FromStr for Method {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = || Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|method| method.name() == text)
            .ok_or_else(|| format!("no method `{text}`; there are {}", known()))
    }
}

/// Size of the model that is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Size {
    /// A quarter of a million parameters.
    Tiny,
    /// The demo's model, just under a million.
    Demo,
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "tiny" => Ok(Self::Tiny),
            "demo" => Ok(Self::Demo),
            other => Err(format!("no size `{other}`; there are tiny, demo")),
        }
    }
}

impl Size {
    /// The model, for a tokenizer with this token for pictures.
    pub fn config(self, image_token: u32) -> ModelConfig {
        let mut demo = demo_model(VOCABULARY as u32);
        demo.image_token_id = image_token;
        match self {
            Self::Demo => demo,
            Self::Tiny => {
                let mut config = model_of(Shape {
                    vision: [1, 64, 2, 128],
                    text: [2, 64, 2, 1, 32, 160],
                    vocabulary: VOCABULARY,
                });
                config.image_token_id = image_token;
                config.text.rope_theta = demo.text.rope_theta;
                config.text.max_position_embeddings = demo.text.max_position_embeddings;
                config.vision.initializer_range = demo.vision.initializer_range;
                config.text.initializer_range = demo.text.initializer_range;
                config
            }
        }
    }

    /// Peak learning rate of the inner optimiser.
    const fn learning_rate(self) -> f32 {
        match self {
            Self::Tiny => 3e-3,
            Self::Demo => 1.5e-3,
        }
    }
}

/// What is to be tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// How members train together.
    pub method: Method,
    /// The model.
    pub size: Size,
    /// Members.
    pub members: usize,
    /// H: inner steps of a round.
    pub inner_steps: usize,
    /// Inner steps of one member over all rounds.
    pub total_steps: usize,
    /// Packs of a member's step.
    pub packs_per_step: usize,
    /// Everything that is drawn follows from it.
    pub seed: u64,
    /// One member's work is lost in every round.
    pub lossy: bool,
    /// Members take 1, 3/4, 1/2 and 1/4 of H, in turn.
    pub uneven: bool,
    /// Parameters that are compressed together.
    pub chunk: u32,
    /// Entries kept of them.
    pub k: u32,
    /// Bits of a kept value.
    pub bits: u8,
    /// How the inner optimiser's moments are held.
    #[serde(default)]
    pub moments: MomentFormat,
}

/// Where a training stands after a round.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Tokens learnt from by all members.
    pub tokens: u64,
    /// Bytes that one member has sent, on the mean.
    pub bytes: u64,
    /// Mean loss of held-out packs in nats per learned token.
    pub loss: f64,
}

/// How a training went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// What was tried.
    pub trial: Trial,
    /// Parameters of the model.
    pub parameters: u64,
    /// After every round; first before the first one.
    pub points: Vec<Point>,
    /// Share of held-out questions answered rightly at the end.
    pub accuracy: f64,
    /// Bytes of a contribution that say what the second moments are, on the mean; 0 where none do.
    pub factor_bytes: f64,
}

/// Why a trial came to no end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The trial makes no sense.
    #[error("{0}")]
    Trial(String),
    /// The inner steps failed.
    #[error(transparent)]
    Inner(#[from] InnerError),
    /// The pseudo-gradient could not be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The outer step failed.
    #[error(transparent)]
    Aggregate(#[from] AggregateError),
    /// The held-out loss could not be taken.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// The questions could not be asked.
    #[error(transparent)]
    Exam(#[from] ExamError),
}

/// What a member is to do in a round.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) member: usize,
    pub(super) plan: InnerPlan,
    /// Whether the work arrives.
    pub(super) arrives: bool,
}

/// What the rounds of one trial have in common.
#[derive(Debug)]
pub(super) struct Setting<'a> {
    pub(super) material: &'a Material,
    pub(super) config: ModelConfig,
    pub(super) layout: Layout,
    pub(super) codec: CodecSettings,
    pub(super) method: Method,
}

impl Trial {
    /// Runs it.
    ///
    /// # Errors
    ///
    /// [`Failure`] when the trial makes no sense or training diverges.
    pub fn run(&self, material: &Material, mut on_round: impl FnMut(usize)) -> Result<Curve, Failure> {
        self.check(material)?;
        let config = self.size.config(material.image_token);
        let mut state = State::initial(&config, self.seed);
        let setting = Setting {
            material,
            layout: layout_of(&config)?,
            config,
            codec: CodecSettings { chunk: self.chunk, k: self.k, bits: self.bits, error_feedback: 0.95 },
            method: self.method,
        };
        let mut exchange = Exchange::new(&setting, self.members);
        let mut deal = Deal::new(material.train.len(), self.seed);
        let mut point = Point { tokens: 0, bytes: 0, loss: 0.0 };
        let look = |state: &State| mean_loss(&setting.config, state, &material.held_out);
        point.loss = look(&state)?;
        let mut points = vec![point];
        for round in 0..self.total_steps / self.inner_steps {
            let seats = self.seats(round, &mut deal);
            let moved = exchange.round(&setting, &mut state, &seats)?;
            point.tokens += moved.tokens;
            point.bytes += moved.bytes_per_member;
            point.loss = look(&state)?;
            points.push(point);
            on_round(round);
        }
        let accuracy = material.exam.sit(&setting.config, &state)?.accuracy;
        Ok(Curve {
            trial: self.clone(),
            parameters: state.parameter_count() as u64,
            points,
            accuracy,
            factor_bytes: exchange.factor_bytes(),
        })
    }

    fn check(&self, material: &Material) -> Result<(), Failure> {
        let wrong = |what: &str| Err(Failure::Trial(what.to_owned()));
        if !(1..=256).contains(&self.members) {
            return wrong("there must be 1 to 256 members");
        }
        if self.inner_steps == 0 || !self.total_steps.is_multiple_of(self.inner_steps) {
            return wrong("the steps of a member must be a multiple of H");
        }
        if self.packs_per_step == 0 || self.packs_per_step > material.train.len() {
            return wrong("a step needs at least one pack, and no more than there are");
        }
        Ok(())
    }

    fn seats(&self, round: usize, deal: &mut Deal) -> Vec<Seat> {
        let lost = self.lossy.then(|| deal.dice.random_range(0..self.members));
        let mut seats = Vec::with_capacity(self.members);
        for member in 0..self.members {
            // A slow member gets less, not nothing.
            let quarters = if self.uneven { 4 - member % 4 } else { 4 };
            let steps = (self.inner_steps * quarters).div_ceil(4);
            let packs = (0..steps).map(|_| deal.take(self.packs_per_step)).collect();
            let first_step = (round * self.inner_steps) as u64;
            seats.push(Seat { member, plan: self.plan(first_step, packs), arrives: lost != Some(member) });
        }
        seats
    }

    fn plan(&self, first_step: u64, steps: Vec<Vec<u64>>) -> InnerPlan {
        let peak = self.size.learning_rate();
        InnerPlan {
            trainable: Module::ALL.to_vec(),
            optimizer: OptimizerSettings {
                peak_learning_rate: peak,
                final_learning_rate: peak / 10.0,
                warmup_steps: self.total_steps as u64 / 20,
                total_steps: self.total_steps as u64,
                beta1: 0.9,
                beta2: 0.98,
                epsilon: 1e-8,
                weight_decay: 0.01,
                clip_norm: 1.0,
                moments: self.moments,
            },
            normalisation: Normalisation::Token,
            first_step,
            steps,
            // nobody replays a laboratory
            digest_interval: 0,
        }
    }
}

fn layout_of(config: &ModelConfig) -> Result<Layout, Failure> {
    let shapes = config.parameter_shapes();
    let mut names = trainable(config, &Module::ALL);
    names.sort_unstable();
    let of = |name: String| {
        let elements = shapes.get(&name).map_or(0, |shape| shape.iter().product::<usize>() as u64);
        (name, elements)
    };
    Layout::new(names.into_iter().map(of).collect()).map_err(|error| Failure::Trial(error.to_string()))
}

/// Deals packs: every pass over the data is another order.
#[derive(Debug)]
struct Deal {
    dice: ChaCha8Rng,
    order: Vec<u64>,
    next: usize,
}

impl Deal {
    fn new(packs: usize, seed: u64) -> Self {
        Self { dice: ChaCha8Rng::seed_from_u64(seed), order: (0..packs as u64).collect(), next: packs }
    }

    fn take(&mut self, count: usize) -> Vec<u64> {
        (0..count)
            .map(|_| {
                if self.next == self.order.len() {
                    self.order.shuffle(&mut self.dice);
                    self.next = 0;
                }
                self.next += 1;
                self.order[self.next - 1]
            })
            .collect()
    }
}

/// Nobody watches the steps of a trial.
pub(super) fn unwatched<T>(_: usize, _: &T) -> ControlFlow<()> {
    ControlFlow::Continue(())
}
