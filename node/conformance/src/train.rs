//! A few AdamW steps in every stored variant: losses, gradient norms, and where the parameters end.

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;
use talkoot_trainer::{
    adamw::{AdamW, AdamWSettings, DecayRule, clip_factor, global_norm},
    cpu::Cpu,
    model::{Batch, ClassStrip, Model},
    moments::MomentFormat,
};

use crate::{
    CheckError, Report,
    files::{Checkpoint, Tensors, json, malformed, names},
    report::Measured,
    statistics::{self, Statistics},
};

/// Greatest difference of a loss, in nats.
const LOSS: f64 = 2e-5;
/// Greatest relative difference of a gradient norm.
const NORM: f64 = 1e-4;
/// Where Adam turns the rounding of a gradient near zero into a visible step: no parameter may be off by more...
const FARTHEST: f64 = 1e-3;
/// ...and of all of them only one in a thousand by more than this.
const NEAR: f32 = 5e-6;
const FEW: f64 = 1e-3;
/// Relative limit of statistics of parameters that are not stored.
const STATISTICS: f64 = 1e-3;

#[derive(Debug, Deserialize)]
struct Recipe {
    hyper: Hyper,
    runs: BTreeMap<String, Run>,
}

#[derive(Debug, Deserialize)]
struct Hyper {
    lr: f32,
    beta1: f32,
    beta2: f32,
    eps: f32,
    weight_decay: f32,
    clip_norm: f32,
}

#[derive(Debug, Deserialize)]
struct Run {
    trainable: Vec<String>,
    decay_rule: String,
    strip: String,
    steps: Vec<Step>,
    loss_after_5_steps: f64,
    #[serde(rename = "final")]
    last: BTreeMap<String, Statistics>,
}

#[derive(Debug, Deserialize)]
struct Step {
    step: u32,
    loss: f64,
    grad_norm: f64,
}

/// Cases that make the batch of every step.
const BATCH: [&str; 2] = ["b_two_images", "c_text_only"];

pub(crate) fn check(folder: &Path, checkpoint: &Checkpoint, report: &mut Report) -> Result<(), CheckError> {
    let train = folder.join("train");
    let path = train.join("train.json");
    let recipe: Recipe = json(&path)?;
    for name in names(&train)? {
        let known = name == "train.json"
            || name.strip_suffix(".final.safetensors").is_some_and(|run| recipe.runs.contains_key(run));
        if !known {
            return Err(CheckError::Unknown { path: train.join(name) });
        }
    }
    let mut samples = Vec::new();
    for case in BATCH {
        let input = Tensors::read(&folder.join(format!("cases/{case}.safetensors")))?;
        samples.extend(input.samples(&checkpoint.config)?);
    }
    let batch = Batch::new(&samples, &checkpoint.config);
    for (name, run) in &recipe.runs {
        check_run(&train, &path, checkpoint, &recipe.hyper, (name, run), &batch, report)?;
    }
    Ok(())
}

fn check_run(
    folder: &Path,
    path: &Path,
    checkpoint: &Checkpoint,
    hyper: &Hyper,
    (name, run): (&str, &Run),
    batch: &Batch,
    report: &mut Report,
) -> Result<(), CheckError> {
    let Checkpoint { config, state: start } = checkpoint;
    let file = format!("train/{name}");
    let strip = match run.strip.as_str() {
        "per_segment" => ClassStrip::PerSegment,
        "as_released" => ClassStrip::AsReleased,
        other => return Err(malformed(path, format!("{name}: strip {other:?} is not known"))),
    };
    let decay = match run.decay_rule.as_str() {
        "decay_2d" => DecayRule::Matrices,
        "uniform" => DecayRule::Everything,
        other => return Err(malformed(path, format!("{name}: decay rule {other:?} is not known"))),
    };
    let cpu = Cpu::default();
    let mut model = Model::new(&cpu, config, start)?.with_strip(strip);
    let settings = AdamWSettings {
        beta1: hyper.beta1,
        beta2: hyper.beta2,
        epsilon: hyper.eps,
        weight_decay: hyper.weight_decay,
        decay,
        moments: MomentFormat::F32,
    };
    let mut optimizer = AdamW::new(settings, config);
    let mean =
        |losses: Vec<f32>| losses.iter().map(|&x| f64::from(x)).sum::<f64>() / losses.len().max(1) as f64;
    let scales = vec![1.0 / batch.learned().max(1) as f32; batch.learned()];
    for step in &run.steps {
        let mut gradients = model.gradients(&run.trainable)?;
        let loss = mean(model.differentiate(batch, &scales, &mut gradients)?);
        gradients.finish(&cpu)?;
        let norm = global_norm(&cpu, &gradients)?;
        let at = format!("step {}", step.step);
        report.number(&file, "losses", &at, loss, step.loss, LOSS);
        report.number(&file, "gradient norms", &at, norm, step.grad_norm, NORM * step.grad_norm);
        optimizer.step(&mut model, &gradients, hyper.lr, clip_factor(norm, hyper.clip_norm))?;
    }
    report.number(
        &file,
        "losses",
        "after the last",
        mean(model.losses(batch)?),
        run.loss_after_5_steps,
        LOSS,
    );
    let end = model.state()?;
    for (parameter, tensor) in &start.tensors {
        let moved = end.tensors.get(parameter) != Some(tensor);
        let may = run.trainable.contains(parameter);
        report.equal(&file, "frozen parameters keep their bits", parameter, may || !moved);
    }
    let none = Vec::new();
    for (parameter, statistics) in &run.last {
        let got = end.tensors.get(parameter).map_or(&none, |tensor| &tensor.values);
        statistics::compare(&file, "last parameters", parameter, statistics, got, STATISTICS, report);
    }
    let stored = folder.join(format!("{name}.final.safetensors"));
    if stored.exists() {
        let stored = Tensors::read(&stored)?;
        let (mut all, mut far) = (0usize, 0usize);
        for (parameter, expected) in &stored.floats {
            let got = end.tensors.get(parameter).map_or(&none, |tensor| &tensor.values);
            report.tensors((&file, "last parameters", parameter), got, expected, FARTHEST, None);
            all += expected.len();
            // what is not near is far, a NaN too
            let near = got.iter().zip(expected).filter(|(a, b)| (*a - *b).abs() <= NEAR).count();
            far += expected.len() - near;
        }
        let measured = Measured {
            max_abs: far as f64 / all.max(1) as f64,
            max_abs_limit: FEW,
            relative: 0.0,
            relative_limit: None,
        };
        report.add(&file, "share of last parameters off by more than 5e-6", "all", measured);
    }
    Ok(())
}
