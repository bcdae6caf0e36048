//! How long an inner step of the demo's model takes, and how fast it learns.
//!
//! ```text
//! RAYON_NUM_THREADS=1 cargo run --release -p talkoot-trainer --example step -- [steps] [packs per step]
//! ```
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program that people run at the desk")]

use std::{ops::ControlFlow, time::Instant};

use talkoot_trainer::{
    batch::{Image, Pack},
    cpu::Cpu,
    evaluate::mean_loss,
    generate::{Generator, Prompt},
    inner::{InnerPlan, Normalisation, OptimizerSettings, run_inner_steps},
    modules::Module,
    moments::MomentFormat,
    presets::demo_model,
    state::State,
};

const VOCABULARY: u32 = 512;
const IMAGE: u32 = 511;
const ASK: u32 = 10;
const END: u32 = 11;
/// The squares' colours; their names are the tokens 100 to 105.
const COLOURS: [[u8; 3]; 6] =
    [[220, 30, 30], [30, 200, 40], [40, 60, 230], [230, 210, 40], [200, 50, 210], [240, 240, 240]];

/// A small generator of numbers; only this example's data depend on it.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// A grey picture with a coloured square in one of four corners; the answer names colour and corner.
fn picture(dice: &mut Dice) -> (Image, [u32; 2]) {
    let side = if dice.roll(2) == 0 { 84 } else { 112 };
    let (colour, corner) = (dice.roll(6), dice.roll(4));
    let half = side / 2;
    let (left, top) = ((corner % 2) as u32 * half, (corner / 2) as u32 * half);
    let mut rgb = Vec::new();
    for y in 0..side {
        for x in 0..side {
            let inside = (left + 8..left + half - 8).contains(&x) && (top + 8..top + half - 8).contains(&y);
            let noise = dice.roll(24) as u8;
            let base = if inside { COLOURS[colour as usize] } else { [90, 90, 90] };
            rgb.extend(base.map(|level| level.saturating_sub(noise)));
        }
    }
    (Image { width: side, height: side, rgb }, [100 + colour as u32, 110 + corner as u32])
}

/// Eight questions of about 30 tokens each.
fn pack(dice: &mut Dice) -> (Pack, Vec<(Prompt, [u32; 2])>) {
    let mut pack = Pack::default();
    let mut questions = Vec::new();
    for _ in 0..8 {
        let (image, answer) = picture(dice);
        let mut tokens: Vec<u32> = (20..34).collect();
        tokens.extend(std::iter::repeat_n(IMAGE, (image.width / 28 * (image.height / 28)) as usize));
        tokens.extend([ASK, 40, 41, 42]);
        let mut labels = vec![-100; tokens.len()];
        questions.push((Prompt { tokens: tokens.clone(), images: vec![image.clone()] }, answer));
        tokens.extend([answer[0], answer[1], END]);
        labels.extend([answer[0], answer[1], END].map(i64::from));
        pack.sample_lengths.push(tokens.len() as u32);
        pack.tokens.extend(tokens);
        pack.labels.extend(labels);
        pack.images.push(image);
    }
    (pack, questions)
}

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|word| word.parse::<u64>().ok());
    let (steps, per_step) = (numbers.next().unwrap_or(60), numbers.next().unwrap_or(4));
    let config = demo_model(VOCABULARY);
    let mut state = State::initial(&config, 1);
    println!("{} parameters, {steps} steps of {per_step} packs for each stage", config.parameter_count());
    let mut dice = Dice(3);
    let packs: Vec<Pack> = (0..steps * per_step).map(|_| pack(&mut dice).0).collect();
    let (held_out, questions): (Vec<_>, Vec<_>) = (0..24).map(|_| pack(&mut dice)).unzip();

    let optimizer = OptimizerSettings {
        peak_learning_rate: 3e-3,
        final_learning_rate: 3e-4,
        warmup_steps: 10,
        total_steps: steps,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.01,
        clip_norm: 1.0,
        moments: MomentFormat::F32,
    };
    for (name, trainable) in [("merger", vec![Module::Merger]), ("everything", Module::ALL.to_vec())] {
        let plan_steps = (0..steps).map(|i| (i * per_step..(i + 1) * per_step).collect()).collect();
        let plan = InnerPlan {
            trainable,
            optimizer,
            normalisation: Normalisation::Token,
            first_step: 0,
            steps: plan_steps,
            digest_interval: 0,
        };
        let mut times = Vec::new();
        let mut last = Instant::now();
        let outcome = run_inner_steps(&config, &state, &plan, &packs, &mut |step, record| {
            times.push(last.elapsed().as_secs_f64() * 1e3);
            last = Instant::now();
            if step % 20 == 0 {
                println!("  {step:4}  loss {:.4}  norm {:.3}", record.loss, record.gradient_norm);
            }
            ControlFlow::Continue(())
        })
        .unwrap();
        times.sort_by(f64::total_cmp);
        let tokens = outcome.trace.steps[0].tokens;
        let (least, median) = (times[0], times[times.len() / 2]);
        state = outcome.end;
        println!(
            "{name}: {least:.1} ms at least, {median:.1} ms in the middle for a step of {tokens} tokens"
        );
        println!("  state {}", state.digest());
    }

    let start = Instant::now();
    let loss = mean_loss(&config, &state, &held_out).unwrap();
    println!("held-out loss {loss:.4} nats per token, {:.0} ms", start.elapsed().as_secs_f64() * 1e3);
    let questions: Vec<_> = questions.into_iter().flatten().collect();
    let prompts: Vec<Prompt> = questions.iter().map(|(prompt, _)| prompt.clone()).collect();
    let start = Instant::now();
    let answers =
        Generator::new(&Cpu::default(), &config, &state).unwrap().answer(&prompts, &[END], 8).unwrap();
    let right = answers.iter().zip(&questions).filter(|(got, (_, expected))| **got == *expected).count();
    println!("{right} of {} questions right, {:.0} ms", prompts.len(), start.elapsed().as_secs_f64() * 1e3);
}
