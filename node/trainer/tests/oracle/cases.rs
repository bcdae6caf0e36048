//! One forward and backward pass over each stored case.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use talkoot_trainer::{
    config::ModelConfig,
    model::{Batch, ClassStrip, Model, Probe, Sample},
    modules::{Module, trainable},
    state::State,
};

use crate::files::{File, checkpoint, close, read, samples};

const MAX_ABS: f64 = 2e-5;
const RELATIVE: f64 = 5e-6;

fn rows(tensor: &Tensor, order: &[u32]) -> Vec<f32> {
    let order = Tensor::from_slice(order, order.len(), &Device::Cpu).unwrap();
    tensor.index_select(&order, 0).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Everything that `expected` holds as `out.*`, from our model.
fn outputs(model: &Model, batch: &Batch, samples: &[Sample]) -> BTreeMap<String, Vec<f32>> {
    let mut probe = Probe::default();
    let hidden = model.hidden(batch, Some(&mut probe)).unwrap();
    let (text, vision) = (batch.token_rows(), batch.vision_rows());
    let ordered: Vec<u32> = (0..vision.len() as u32).collect();
    let patches = patch_rows(&vision, samples);
    let mut found = BTreeMap::new();
    for (name, value) in &probe.tensors {
        let order = match name.as_str() {
            name if name.starts_with("text.") => &text,
            "vision.patch_embed" => &patches,
            "vision.stripped" | "vision.merger" => &ordered[..value.dim(0).unwrap()].to_vec(),
            _ => &vision,
        };
        found.insert(name.clone(), rows(value, order));
    }
    let (normal, logits) = model.logits(&hidden).unwrap();
    found.insert("text.norm".to_owned(), rows(&normal, &text));
    found.insert("logits".to_owned(), rows(&logits, &text));

    let losses: Vec<f32> = model.losses(batch).unwrap().to_vec1().unwrap();
    let mean = losses.iter().map(|&x| f64::from(x)).sum::<f64>() / losses.len() as f64;
    found.insert("loss".to_owned(), vec![mean as f32]);
    found.insert("token_nll".to_owned(), spread(&losses, samples));
    found
}

/// Where every patch, in order of the sequence, stands among patches without class rows.
fn patch_rows(vision: &[u32], samples: &[Sample]) -> Vec<u32> {
    let mut start = 0;
    let mut classes = Vec::new();
    for picture in samples.iter().flat_map(|sample| &sample.pictures) {
        classes.push(vision[start]);
        start += picture.len() + 1;
    }
    let before = |row: u32| classes.iter().filter(|&&class| class < row).count() as u32;
    vision.iter().filter(|row| !classes.contains(row)).map(|&row| row - before(row)).collect()
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

fn compare_gradients(case: &str, expected: &File, model: &Model, batch: &Batch) {
    let (_, gradients) = model.gradients(batch, 1.0 / batch.learned() as f32).unwrap();
    let mut compared = 0;
    for (name, expected) in &expected.floats {
        let Some(name) = name.strip_prefix("grad.") else { continue };
        let largest = expected.iter().fold(1.0, |most: f64, g| most.max(f64::from(g.abs())));
        close(&format!("{case} gradient of {name}"), &gradients[name], expected, 5e-6 * largest, 2e-5);
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
    let model = everything_trained(&config, &state).with_strip(strip);
    let batch = Batch::new(&samples, &config).unwrap();
    let found = outputs(&model, &batch, &samples);
    if strip == ClassStrip::AsReleased {
        let released = read(folder.join(format!("cases/{case}.as_released_strip.safetensors")));
        compare_outputs(case, &released, &found);
    } else {
        compare_outputs(case, &input, &found);
        compare_gradients(case, &input, &model, &batch);
    }
}

fn everything_trained(config: &ModelConfig, state: &State) -> Model {
    Model::new(config, state, &trainable(config, &Module::ALL)).unwrap()
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
