//! Five AdamW steps in seven variants.

use serde_json::Value;
use talkoot_trainer::{
    adamw::{AdamW, AdamWSettings, DecayRule, clip_factor, global_norm},
    config::ModelConfig,
    cpu::Cpu,
    model::{Batch, ClassStrip, Model},
    state::State,
};

use crate::files::{checkpoint, read, samples};

fn strings(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

fn near(what: &str, got: f64, expected: f64, limit: f64) {
    assert!((got - expected).abs() <= limit, "{what}: {got} instead of {expected}, limit {limit:e}");
}

fn loss(config: &ModelConfig, state: &State, strip: ClassStrip, batch: &Batch) -> f64 {
    let cpu = Cpu::default();
    let model = Model::new(&cpu, config, state).unwrap().with_strip(strip);
    let losses = model.losses(batch).unwrap();
    losses.into_iter().map(f64::from).sum::<f64>() / batch.learned() as f64
}

#[test]
fn five_steps_in_seven_variants() {
    let Some((folder, config, start)) = checkpoint() else { return };
    let text = std::fs::read_to_string(folder.join("train/train.json")).unwrap();
    let recipe: Value = serde_json::from_str(&text).unwrap();
    let mut all = Vec::new();
    for case in ["b_two_images", "c_text_only"] {
        all.extend(samples(&read(folder.join(format!("cases/{case}.safetensors"))), config.image_token_id));
    }
    let batch = Batch::new(&all, &config);
    let scales = vec![1.0 / batch.learned() as f32; batch.learned()];
    let cpu = Cpu::default();
    let runs = recipe["runs"].as_object().unwrap();
    assert_eq!(runs.len(), 7);
    for (name, run) in runs {
        let strip = match run["strip"].as_str().unwrap() {
            "per_segment" => ClassStrip::PerSegment,
            _ => ClassStrip::AsReleased,
        };
        let decay = match run["decay_rule"].as_str().unwrap() {
            "decay_2d" => DecayRule::Matrices,
            _ => DecayRule::Everything,
        };
        let trained = strings(&run["trainable"]);
        let settings = AdamWSettings { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weight_decay: 0.1, decay };
        let mut optimizer = AdamW::new(settings, &config);
        let mut model = Model::new(&cpu, &config, &start).unwrap().with_strip(strip);
        for step in run["steps"].as_array().unwrap() {
            let mut gradients = model.gradients(&trained).unwrap();
            let losses = model.differentiate(&batch, &scales, &mut gradients).unwrap();
            let sum: f64 = losses.into_iter().map(f64::from).sum();
            gradients.finish(&cpu).unwrap();
            let what = format!("{name} step {}", step["step"]);
            let expected = step["loss"].as_f64().unwrap();
            near(&format!("{what} loss"), sum / batch.learned() as f64, expected, 2e-5);
            let norm = global_norm(&cpu, &gradients).unwrap();
            let expected = step["grad_norm"].as_f64().unwrap();
            near(&format!("{what} gradient norm"), norm, expected, 1e-4 * expected);
            optimizer.step(&mut model, &gradients, 1e-3, clip_factor(norm, 1.0)).unwrap();
        }
        let state = model.state().unwrap();
        let expected = run["loss_after_5_steps"].as_f64().unwrap();
        near(&format!("{name} loss after"), loss(&config, &state, strip, &batch), expected, 2e-5);
        frozen_kept_their_bits(&start, &state, &trained);
        statistics(name, &state, &run["final"]);
        let stored = folder.join(format!("train/{name}.final.safetensors"));
        if stored.exists() {
            final_parameters(name, &state, &read(stored).floats);
        }
    }
}

fn frozen_kept_their_bits(start: &State, end: &State, trained: &[String]) {
    for (name, tensor) in &start.tensors {
        assert!(trained.contains(name) || end.tensors[name] == *tensor, "{name} is frozen and moved");
    }
}

fn statistics(run: &str, state: &State, expected: &Value) {
    for (name, expected) in expected.as_object().unwrap() {
        let values = &state.tensors[name].values;
        let l2 = values.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
        let reference = expected["l2"].as_f64().unwrap();
        near(&format!("{run}: l2 of {name}"), l2, reference, 1e-3 * reference.max(1e-3));
    }
}

/// Adam turns the rounding of a gradient near zero into a visible step, so a few elements may differ.
fn final_parameters(run: &str, state: &State, expected: &std::collections::BTreeMap<String, Vec<f32>>) {
    let (mut all, mut off) = (0, 0);
    for (name, expected) in expected {
        for (got, expected) in state.tensors[name].values.iter().zip(expected) {
            let difference = (got - expected).abs();
            assert!(difference <= 1e-3, "{run}: {name} differs by {difference}");
            all += 1;
            off += usize::from(difference > 5e-6);
        }
    }
    assert!(off * 1000 <= all, "{run}: {off} of {all} parameters differ by more than 5e-6");
    eprintln!("{run}: {all} parameters, {off} off by more than 5e-6");
}
