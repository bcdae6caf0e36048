//! What a digest of the training state costs next to a step: `cargo run --release -p talkoot-trainer --example digest`.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "an example tells what it found")]

use std::{ops::ControlFlow, time::Instant};

use talkoot_trainer::{
    adamw::{AdamW, AdamWSettings, DecayRule},
    batch::Pack,
    config::ModelConfig,
    contribution::Layout,
    cpu::Cpu,
    inner::{InnerPlan, Normalisation, OptimizerSettings, run_inner_steps},
    model::Model,
    modules::Module,
    moments::MomentFormat,
    presets::{Shape, demo_model, model_of},
    snapshot::Moment,
    state::State,
};

/// Middle of some times, in milliseconds.
fn middle(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn measure(name: &str, config: &ModelConfig, tokens: u32, packs: u64) {
    let state = State::initial(config, 1);
    let layout = Layout::trained(config, &Module::ALL).unwrap();
    let (cpu, settings) = (
        Cpu::default(),
        AdamWSettings {
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.0,
            decay: DecayRule::Matrices,
            moments: MomentFormat::F32,
        },
    );
    let model = Model::new(&cpu, config, &state).unwrap();
    let optimizer = AdamW::new(settings, config);
    let digest =
        || Moment { layout: &layout, stage_step: 0, model: &model, optimizer: &optimizer }.digest().unwrap();
    digest();
    let times = (0..9).map(|_| {
        let start = Instant::now();
        digest();
        start.elapsed().as_secs_f64() * 1e3
    });
    let digest = middle(times.collect());
    let bytes = 12.0 * layout.elements() as f64;

    let words: Vec<u32> = (0..tokens).map(|at| 5 + at % 40).collect();
    let labels = words.iter().enumerate().map(|(at, token)| if at == 0 { -100 } else { i64::from(*token) });
    let pack = Pack { labels: labels.collect(), sample_lengths: vec![tokens], images: vec![], tokens: words };
    let optimizer = OptimizerSettings {
        peak_learning_rate: 1e-4,
        final_learning_rate: 1e-4,
        warmup_steps: 0,
        total_steps: 8,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.0,
        clip_norm: 1.0,
        moments: MomentFormat::F32,
    };
    let plan = InnerPlan {
        trainable: Module::ALL.to_vec(),
        optimizer,
        normalisation: Normalisation::Token,
        first_step: 0,
        steps: vec![(0..packs).collect(); 5],
        digest_interval: 0,
    };
    let (mut times, mut last) = (Vec::new(), Instant::now());
    let packs: Vec<Pack> = vec![pack; packs as usize];
    run_inner_steps(config, &state, &plan, &packs, &mut |_, _| {
        times.push(last.elapsed().as_secs_f64() * 1e3);
        last = Instant::now();
        ControlFlow::Continue(())
    })
    .unwrap();
    let step = middle(times);
    println!(
        "{name}: {} trained parameters, {digest:.2} ms a digest ({:.2} GB/s), {step:.1} ms a step of {} tokens: {:.2} % with a \
         digest after every step, {:.2} % after every eighth",
        layout.elements(),
        bytes / digest / 1e6,
        u64::from(tokens) * packs.len() as u64,
        100.0 * digest / step,
        100.0 * digest / step / 8.0,
    );
}

fn main() {
    measure("demo", &demo_model(1024), 256, 4);
    let wide = Shape { vision: [2, 256, 4, 512], text: [6, 1024, 16, 8, 64, 3072], vocabulary: 8192 };
    measure("wide", &model_of(wide), 1024, 1);
}
