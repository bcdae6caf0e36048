//! A small model, trained by both classes from the same weights on the same packs.

use std::ops::ControlFlow;

use talkoot_emulator::Order;
use talkoot_trainer::{
    backend::Backend,
    batch::{Image, NOT_LEARNED, Pack},
    config::ModelConfig,
    cpu::Cpu,
    inner::{InnerPlan, Normalisation, OptimizerSettings, Start, run_inner_steps_on},
    modules::Module,
    moments::MomentFormat,
    presets::{Shape, model_of},
    state::State,
};

use crate::testkit::fast;

/// With heads of 24 and 32 numbers, and grouped queries.
pub(crate) fn model() -> ModelConfig {
    model_of(Shape { vision: [2, 48, 2, 96], text: [2, 64, 4, 2, 32, 96], vocabulary: 64 })
}

/// A picture of 4 x 4 patches, and words behind it.
pub(crate) fn pack(config: &ModelConfig, seed: u32) -> Pack {
    let word = |i: u32| 8 + (i * i * 7 + i * seed) % 50;
    let mut tokens = vec![config.image_token_id; 4];
    tokens.extend((0..28).map(word));
    let labels = tokens.iter().enumerate();
    let labels = labels.map(|(i, &token)| if i > 4 { i64::from(token) } else { NOT_LEARNED }).collect();
    let rgb = (0..3 * 56 * 56).map(|i: u32| (i * (seed + 3) % 251) as u8).collect();
    Pack {
        sample_lengths: vec![tokens.len() as u32],
        tokens,
        labels,
        images: vec![Image { width: 56, height: 56, rgb }],
    }
}

/// Losses, gradient norms, and the digest of the weights at the end.
fn train<B: Backend>(backend: &B, steps: usize) -> (Vec<(f32, f32)>, String) {
    let config = model();
    let optimizer = OptimizerSettings {
        peak_learning_rate: 3e-3,
        final_learning_rate: 1e-3,
        warmup_steps: 0,
        total_steps: steps as u64,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.01,
        clip_norm: 1.0,
        moments: MomentFormat::F32,
    };
    let plan = InnerPlan {
        trainable: Module::ALL.to_vec(),
        optimizer,
        normalisation: Normalisation::Token,
        first_step: 0,
        digest_interval: 0,
        steps: (0..steps).map(|_| vec![0, 1]).collect(),
    };
    let packs = vec![pack(&config, 1), pack(&config, 5)];
    let state = State::initial(&config, 3);
    let from = Start { state: &state, moments: None };
    let done =
        run_inner_steps_on(backend, &config, from, &plan, &packs, &mut |_, _| ControlFlow::Continue(()));
    let (outcome, _) = done.unwrap();
    let records = outcome.trace.steps.iter().map(|step| (step.loss, step.gradient_norm)).collect();
    (records, outcome.end.digest().to_string())
}

/// What the classes may differ in: operands have eight significant bits, so a step's loss agrees to about 2^-9 of itself,
/// and what has been learnt from it drifts apart slowly.
const TOLERANCE: f32 = 0.02;

#[test]
fn a_training_in_the_fast_class_stays_near_the_exact_one_and_repeats_itself() {
    const STEPS: usize = 8;
    let (exact, _) = train(&Cpu::default(), STEPS);
    let mut ends = Vec::new();
    for order in [Order::Forward, Order::Random(5)] {
        let Some(fast) = fast(order) else { return };
        let (found, end) = train(&fast, STEPS);
        for (step, (found, exact)) in found.iter().zip(&exact).enumerate() {
            let off = |found: f32, exact: f32| (found - exact).abs() / exact;
            assert!(off(found.0, exact.0) < TOLERANCE, "loss of step {step}: {} and {}", found.0, exact.0);
            assert!(
                off(found.1, exact.1) < 5.0 * TOLERANCE,
                "norm of step {step}: {} and {}",
                found.1,
                exact.1
            );
        }
        assert!(found[STEPS - 1].0 < 0.8 * found[0].0, "it learns: {found:?}");
        ends.push(end);
    }
    assert_eq!(ends[0], ends[1], "the order of threads is not to be seen");
}
