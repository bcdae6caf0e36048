//! How long a training step takes, over presets and cases that have a peer in PyTorch.
//!
//! A step is forward, backward, clip to norm 1 and AdamW over every parameter, on one pack that is already in memory.

mod bits;
pub mod codec;
mod flops;

use std::time::Instant;

use serde::Serialize;

use crate::{
    adamw::{AdamW, AdamWSettings, DecayRule, clip_factor, global_norm},
    backend::Backend,
    batch::NOT_LEARNED,
    config::ModelConfig,
    model::{Batch, Keep, Model, ModelError, Sample},
    modules::{Module, trainable},
    moments::MomentFormat,
    patches::Picture,
    presets::{Shape, model_of},
    reference,
    state::State,
};

pub use bits::{Bits, GRADIENTS, WEIGHTS, bits};

/// Sizes of a model: those of the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// Its name.
    pub name: &'static str,
    shape: Shape,
}

impl Preset {
    /// The model of these sizes.
    pub fn config(&self) -> ModelConfig {
        model_of(self.shape)
    }
}

/// The presets: the demo's model, the peer's, and one with a wide vocabulary.
pub const PRESETS: [Preset; 6] = [
    // the peer has no such preset
    Preset {
        name: "demo",
        shape: Shape { vision: [2, 96, 4, 192], text: [3, 128, 4, 2, 32, 256], vocabulary: 512 },
    },
    Preset {
        name: "mid",
        shape: Shape { vision: [6, 384, 6, 1536], text: [6, 512, 8, 4, 64, 1536], vocabulary: 8192 },
    },
    // the peer has no such preset: `mid` with the published vocabulary, to see what the head and its loss take
    Preset {
        name: "wide",
        shape: Shape { vision: [6, 384, 6, 1536], text: [6, 512, 8, 4, 64, 1536], vocabulary: 151_936 },
    },
    Preset {
        name: "small",
        shape: Shape { vision: [12, 768, 12, 3072], text: [16, 1024, 16, 8, 64, 3072], vocabulary: 32_768 },
    },
    Preset {
        name: "1b",
        shape: Shape {
            vision: [24, 1024, 16, 4096],
            text: [28, 1536, 16, 8, 128, 6144],
            vocabulary: 151_936,
        },
    },
    Preset {
        name: "4b",
        shape: Shape {
            vision: [24, 1024, 16, 4096],
            text: [36, 2560, 32, 8, 128, 9728],
            vocabulary: 151_936,
        },
    },
];

/// A pack: equal samples, each of pictures (rows and columns of patches) and words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// Its name.
    pub name: &'static str,
    samples: usize,
    grid: Option<(usize, usize)>,
    words: usize,
}

/// The cases.
pub const CASES: [Case; 5] = [
    // a step of the demo: four packs of 256 tokens, of small pictures and short conversations
    Case { name: "demo", samples: 24, grid: Some((6, 8)), words: 30 },
    Case { name: "image448", samples: 1, grid: Some((32, 32)), words: 256 },
    Case { name: "packed1024", samples: 4, grid: Some((16, 16)), words: 192 },
    Case { name: "packed8k", samples: 16, grid: Some((32, 32)), words: 256 },
    Case { name: "text8k", samples: 1, grid: None, words: 8192 },
];

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepFigures {
    /// The preset's name.
    pub preset: &'static str,
    /// The case's name.
    pub case: &'static str,
    /// What computed it.
    pub device: String,
    /// Threads that took part.
    pub threads: usize,
    /// Whether blocks were computed again in backward.
    pub checkpoint: bool,
    /// Parameters, all trained.
    pub parameters: usize,
    /// Tokens of the pack, image tokens included.
    pub tokens: usize,
    /// Patches of its pictures.
    pub patches: usize,
    /// Median seconds of a step.
    pub median_s: f64,
    /// Least seconds of a step.
    pub min_s: f64,
    /// Tokens a second at the median.
    pub tokens_per_s: f64,
    /// Floating-point operations that the model asks for in a step; nothing that is computed again counts.
    pub model_flops: f64,
    /// Loss before the last step, in nats.
    pub loss: f64,
    /// Greatest resident memory of the process so far, in bytes; 0 where the system doesn't tell.
    pub peak_bytes: u64,
    /// Bytes of weights and both moments, which are part of it.
    pub state_bytes: u64,
}

/// How to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepRun {
    /// The model's sizes.
    pub preset: Preset,
    /// The pack.
    pub case: Case,
    /// What is kept for backward.
    pub keep: Keep,
    /// Steps that are not counted, first.
    pub warmup: usize,
    /// Steps that are.
    pub steps: usize,
}

/// Measures steps on a device; `describe` is what the figures call it.
///
/// # Errors
///
/// [`ModelError`] when the device fails or has no room.
pub fn step<B: Backend>(backend: &B, describe: &str, run: &StepRun) -> Result<StepFigures, ModelError> {
    let config = model_of(run.preset.shape);
    let mut model = {
        let state = State::initial(&config, 0);
        Model::new(backend, &config, &state)?.with_keep(run.keep)
    };
    let samples = run.case.samples(&config);
    let batch = Batch::new(&samples, &config);
    let scales = vec![1.0 / batch.learned() as f32; batch.learned()];
    let names = trainable(&config, &Module::ALL);
    let settings = AdamWSettings {
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.01,
        decay: DecayRule::Everything,
        moments: MomentFormat::F32,
    };
    let mut optimizer = AdamW::new(settings, &config);
    let (mut seconds, mut loss) = (Vec::new(), 0.0);
    for i in 0..run.warmup + run.steps {
        let start = Instant::now();
        let mut gradients = model.gradients(&names)?;
        let losses = model.differentiate(&batch, &scales, &mut gradients)?;
        gradients.finish(backend)?;
        let factor = clip_factor(global_norm(backend, &gradients)?, 1.0);
        optimizer.step(&mut model, &gradients, 1e-5, factor)?;
        loss = losses.iter().map(|&loss| f64::from(loss)).sum::<f64>() / losses.len() as f64;
        if i >= run.warmup {
            seconds.push(start.elapsed().as_secs_f64());
        }
    }
    Ok(run.figures(describe, &config, &samples, seconds, loss))
}

/// The same with the plain reference model on candle: forward and backward only, without clip and AdamW, and everything
/// kept, as its graph does.
///
/// # Errors
///
/// [`reference::ModelError`] when an operation fails.
pub fn reference_step(run: &StepRun) -> Result<StepFigures, reference::ModelError> {
    let config = model_of(run.preset.shape);
    let names = trainable(&config, &Module::ALL);
    let model = reference::Model::new(&config, &State::initial(&config, 0), &names)?;
    let samples = run.case.samples(&config);
    let batch = reference::Batch::new(&samples, &config)?;
    let learned: usize = samples.iter().map(Sample::learned).sum();
    let (mut seconds, mut loss) = (Vec::new(), 0.0);
    for i in 0..run.warmup + run.steps {
        let start = Instant::now();
        let (sum, _) = model.gradients(&batch, 1.0 / learned as f32)?;
        loss = sum / learned as f64;
        if i >= run.warmup {
            seconds.push(start.elapsed().as_secs_f64());
        }
    }
    let run = StepRun { keep: Keep::Everything, ..*run };
    Ok(run.figures("cpu, candle reference", &config, &samples, seconds, loss))
}

impl StepRun {
    fn figures(
        &self,
        device: &str,
        config: &ModelConfig,
        samples: &[Sample],
        mut seconds: Vec<f64>,
        loss: f64,
    ) -> StepFigures {
        seconds.sort_by(f64::total_cmp);
        let median = (seconds[(seconds.len() - 1) / 2] + seconds[seconds.len() / 2]) / 2.0;
        let parameters =
            config.parameter_shapes().values().map(|shape| shape.iter().product::<usize>()).sum();
        let tokens = samples.iter().map(|sample| sample.tokens.len()).sum();
        StepFigures {
            preset: self.preset.name,
            case: self.case.name,
            device: device.to_owned(),
            threads: rayon::current_num_threads(),
            checkpoint: self.keep == Keep::Inputs,
            parameters,
            tokens,
            patches: samples.iter().flat_map(|sample| &sample.pictures).map(Picture::len).sum(),
            median_s: median,
            min_s: seconds[0],
            tokens_per_s: tokens as f64 / median,
            model_flops: flops::of_step(config, samples),
            loss,
            peak_bytes: peak_bytes(),
            state_bytes: 12 * parameters as u64,
        }
    }
}

impl Case {
    /// Samples of pseudo-random words and patches; every word but a sample's first is learned.
    fn samples(&self, config: &ModelConfig) -> Vec<Sample> {
        let mut seed = 7u64;
        let mut next = move || {
            // Knuth's MMIX generator: any numbers do
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as u32
        };
        let values = config.vision.patch_values();
        let merged = config.vision.patches_per_token();
        let mut sample = || {
            let pictures: Vec<Picture> = self
                .grid
                .iter()
                .map(|&(rows, columns)| {
                    let number = |_| next() as f32 / (1u32 << 30) as f32 - 1.0;
                    Picture { rows, columns, patches: (0..rows * columns * values).map(number).collect() }
                })
                .collect();
            let seen = pictures.iter().map(|picture| picture.len() / merged).sum();
            let mut tokens = vec![config.image_token_id; seen];
            let first = config.image_token_id + 1;
            let words = (0..self.words).map(|_| first + next() % (config.text.vocab_size as u32 - first));
            tokens.extend(words);
            let label = |(i, &token): (usize, &u32)| if i > seen { i64::from(token) } else { NOT_LEARNED };
            let labels = tokens.iter().enumerate().map(label).collect();
            Sample { tokens, labels, pictures }
        };
        (0..self.samples).map(|_| sample()).collect()
    }
}

/// Greatest resident memory of this process, in bytes.
pub fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_have_the_peers_number_of_parameters() {
        let parameters = |name: &str| -> usize {
            let preset = PRESETS.iter().find(|preset| preset.name == name).unwrap();
            model_of(preset.shape).parameter_shapes().values().map(|s| s.iter().product::<usize>()).sum()
        };
        assert_eq!(parameters("mid"), 41_292_704);
    }

    #[test]
    fn cases_are_as_long_as_their_names_say() {
        let config = model_of(PRESETS[1].shape);
        let tokens = |case: &Case| case.samples(&config).iter().map(|s| s.tokens.len()).sum::<usize>();
        assert_eq!(CASES.each_ref().map(tokens), [24 * 42, 512, 1024, 8192, 8192]);
    }
}
