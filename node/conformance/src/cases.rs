//! Forward and backward over each stored case: every value inside, every gradient, and their statistics.

use std::{collections::BTreeMap, path::Path};

use talkoot_trainer::{
    batch::NOT_LEARNED,
    config::ModelConfig,
    model::{ClassStrip, Sample},
};

use crate::{
    CheckError, Report,
    files::{Checkpoint, Tensors, json, malformed, names},
    statistics::{self, Summary},
    subject::{Shown, Subject},
};

/// Greatest difference of an element of an intermediate value.
const MAX_ABS: f64 = 2e-5;
/// Greatest relative difference of an intermediate value.
const RELATIVE: f64 = 5e-6;
/// Greatest difference of a loss, in nats.
const LOSS: f64 = 5e-6;
/// Greatest difference of an element of a gradient, times its largest where that is above one.
const GRADIENT: f64 = 5e-6;
/// Greatest relative difference of a gradient.
const GRADIENT_RELATIVE: f64 = 2e-5;

/// Behind the name of a case that the released code strips of its class tokens in its own way.
const RELEASED: &str = ".as_released_strip.safetensors";

pub(crate) fn check(
    folder: &Path,
    checkpoint: &Checkpoint,
    subject: &dyn Subject,
    report: &mut Report,
) -> Result<(), CheckError> {
    let cases = folder.join("cases");
    let summary: Summary = json(&cases.join("summary.json"))?;
    let mut seen = 0;
    for name in names(&cases)? {
        let path = cases.join(&name);
        match name.as_str() {
            // how far the reference itself is from f64: where the limits come from
            "summary.json" | "noise.json" => continue,
            name if name.ends_with(".safetensors") => {}
            _ => return Err(CheckError::Unknown { path }),
        }
        let expected = Tensors::read(&path)?;
        let (input, strip) = match name.strip_suffix(RELEASED) {
            None => (None, ClassStrip::PerSegment),
            Some(case) => {
                let sibling = Tensors::read(&cases.join(format!("{case}.safetensors")))?;
                (Some(sibling), ClassStrip::AsReleased)
            }
        };
        let input = input.as_ref().unwrap_or(&expected);
        let config = config_of(&checkpoint.config, input, &path)?;
        let samples = input.samples(&config)?;
        let shown = subject.show(&config, &checkpoint.state, strip, &samples)?;
        let file = format!("cases/{name}");
        compare_values(&file, &path, &expected, &shown, &samples, report)?;
        compare_gradients(&file, &path, &expected, &shown, report)?;
        let statistics = summary.cases.get(&name);
        let statistics =
            statistics.ok_or_else(|| malformed(&cases.join("summary.json"), format!("no {name}")))?;
        statistics::compare_case(&file, statistics, &shown, report);
        seen += 1;
    }
    if seen != summary.cases.len() {
        let all = summary.cases.keys().cloned().collect::<Vec<_>>().join(", ");
        return Err(malformed(&cases, format!("{seen} cases are there, but summary.json lists {all}")));
    }
    Ok(())
}

/// The config with the case's kind of token for rows of the merger.
fn config_of(config: &ModelConfig, input: &Tensors, path: &Path) -> Result<ModelConfig, CheckError> {
    let mut config = config.clone();
    if input.is_video() {
        let token = config.video_token_id;
        config.image_token_id =
            token.ok_or_else(|| malformed(path, "a video, but the config has no video_token_id"))?;
    }
    Ok(config)
}

fn compare_values(
    file: &str,
    path: &Path,
    expected: &Tensors,
    shown: &Shown,
    samples: &[Sample],
    report: &mut Report,
) -> Result<(), CheckError> {
    let losses = losses(shown, samples);
    for (name, expected) in expected.under("out.") {
        let got = losses.get(name).or_else(|| shown.values.get(name));
        let got = got.ok_or_else(|| CheckError::NotShown { name: name.to_owned(), path: path.to_owned() })?;
        // blocks and layers are one kind each
        let kind = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
        let (limit, relative) = if name == "loss" { (LOSS, None) } else { (MAX_ABS, Some(RELATIVE)) };
        report.tensors((file, kind, name), got, expected, limit, relative);
    }
    Ok(())
}

/// The mean, and every position's loss where the reference has it: at the position that predicts.
fn losses(shown: &Shown, samples: &[Sample]) -> BTreeMap<&'static str, Vec<f32>> {
    let count = shown.losses.len().max(1) as f64;
    let mean = shown.losses.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
    let mut losses = shown.losses.iter().copied();
    let mut spread = Vec::new();
    for sample in samples {
        let next = sample.labels.iter().skip(1);
        spread.extend(next.map(
            |&label| {
                if label == NOT_LEARNED { 0.0 } else { losses.next().unwrap_or(f32::NAN) }
            },
        ));
        spread.push(0.0);
    }
    BTreeMap::from([("loss", vec![mean as f32]), ("token_nll", spread)])
}

fn compare_gradients(
    file: &str,
    path: &Path,
    expected: &Tensors,
    shown: &Shown,
    report: &mut Report,
) -> Result<(), CheckError> {
    for (name, expected) in expected.under("grad.") {
        let got = shown.gradients.get(name);
        let got = got.ok_or_else(|| CheckError::NotShown { name: name.to_owned(), path: path.to_owned() })?;
        let largest = expected.iter().fold(1.0, |most: f64, g| most.max(f64::from(g.abs())));
        report.tensors((file, "gradients", name), got, expected, GRADIENT * largest, Some(GRADIENT_RELATIVE));
    }
    Ok(())
}
