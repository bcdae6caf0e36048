//! One forward and backward pass over each stored case.

use std::collections::BTreeMap;

use talkoot_trainer::{
    cpu::Cpu,
    model::{Batch, ClassStrip, Model, Sample},
    modules::{Module, trainable},
};

use crate::files::{File, checkpoint, close, read, samples};

const MAX_ABS: f64 = 2e-5;
const RELATIVE: f64 = 5e-6;

/// Everything that the oracle holds as `out.*`, from our model.
fn outputs(model: &Model<'_, Cpu>, batch: &Batch, samples: &[Sample]) -> BTreeMap<String, Vec<f32>> {
    let mut found = BTreeMap::new();
    let mut keep = |name: &str, values| drop(found.insert(name.to_owned(), values));
    let hidden = model.hidden(batch, Some(&mut keep)).unwrap();
    let normal = model.final_norm(&hidden).unwrap();
    found.insert("text.norm".to_owned(), normal.to_vec());
    found.insert("logits".to_owned(), model.logits(&normal).unwrap());

    let losses = model.losses(batch).unwrap();
    let mean = losses.iter().map(|&x| f64::from(x)).sum::<f64>() / losses.len() as f64;
    found.insert("loss".to_owned(), vec![mean as f32]);
    found.insert("token_nll".to_owned(), spread(&losses, samples));
    found
}

/// Puts the losses of learned positions where the oracle has them: at the position that predicts.
fn spread(losses: &[f32], samples: &[Sample]) -> Vec<f32> {
    let mut losses = losses.iter().copied();
    let mut all = Vec::new();
    for sample in samples {
        for next in sample.labels.iter().skip(1) {
            all.push(if *next == -100 { 0.0 } else { losses.next().unwrap() });
        }
        all.push(0.0);
    }
    all
}

fn compare_outputs(case: &str, expected: &File, found: &BTreeMap<String, Vec<f32>>) {
    let mut compared = 0;
    for (name, expected) in &expected.floats {
        let Some(name) = name.strip_prefix("out.") else { continue };
        let got = found.get(name).unwrap_or_else(|| panic!("{case}: {name} was not found in our model"));
        let limit = if name == "loss" { 5e-6 } else { MAX_ABS };
        close(&format!("{case} {name}"), got, expected, limit, RELATIVE);
        compared += 1;
    }
    assert!(compared >= 5, "{case}: only {compared} tensors were compared");
}

fn compare_gradients(case: &str, expected: &File, model: &Model<'_, Cpu>, batch: &Batch) {
    let mut gradients = model.gradients(&trainable(model.config(), &Module::ALL)).unwrap();
    let scales = vec![1.0 / batch.learned() as f32; batch.learned()];
    model.differentiate(batch, &scales, &mut gradients).unwrap();
    gradients.finish(model.backend()).unwrap();
    let gradients: BTreeMap<&str, _> = gradients.iter().collect();
    let mut compared = 0;
    for (name, expected) in &expected.floats {
        let Some(name) = name.strip_prefix("grad.") else { continue };
        let largest = expected.iter().fold(1.0, |most: f64, g| most.max(f64::from(g.abs())));
        close(&format!("{case} gradient of {name}"), gradients[name], expected, 5e-6 * largest, 2e-5);
        compared += 1;
    }
    eprintln!("{case}: {compared} gradients agree");
}

fn check(case: &str, strip: ClassStrip, video: bool) {
    let Some((folder, mut config, state)) = checkpoint() else { return };
    if video {
        config.image_token_id = config.video_token_id.unwrap();
    }
    let input = read(folder.join(format!("cases/{case}.safetensors")));
    let samples = samples(&input, config.image_token_id);
    let cpu = Cpu::default();
    let model = Model::new(&cpu, &config, &state).unwrap().with_strip(strip);
    let batch = Batch::new(&samples, &config);
    let found = outputs(&model, &batch, &samples);
    if strip == ClassStrip::AsReleased {
        let released = read(folder.join(format!("cases/{case}.as_released_strip.safetensors")));
        compare_outputs(case, &released, &found);
    } else {
        compare_outputs(case, &input, &found);
        compare_gradients(case, &input, &model, &batch);
    }
}

#[test]
fn one_picture() {
    check("a_one_image", ClassStrip::PerSegment, false);
    // with one segment both ways of dropping the class token are the same
}

#[test]
fn two_pictures() {
    check("b_two_images", ClassStrip::PerSegment, false);
}

#[test]
fn two_pictures_as_the_released_code_strips_them() {
    check("b_two_images", ClassStrip::AsReleased, false);
}

#[test]
fn text_alone() {
    check("c_text_only", ClassStrip::PerSegment, false);
}

#[test]
fn three_samples_in_a_pack() {
    check("d_packed3", ClassStrip::PerSegment, false);
}

#[test]
fn four_frames_of_a_video() {
    check("e_video4", ClassStrip::PerSegment, true);
}

#[test]
fn four_frames_as_the_released_code_strips_them() {
    check("e_video4", ClassStrip::AsReleased, true);
}

#[test]
fn our_canonical_file_is_the_one_that_the_released_code_wrote() {
    let Some((folder, _, state)) = checkpoint() else { return };
    assert!(state.to_safetensors() == std::fs::read(folder.join("checkpoint/model.safetensors")).unwrap());
}
