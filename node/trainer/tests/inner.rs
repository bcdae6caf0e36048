//! The inner loop from outside: it learns, it is deterministic, it says what is wrong.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "in a test a panic is the report")]

#[path = "inner/synthetic.rs"]
mod synthetic;

use std::{
    ops::ControlFlow,
    process::Command,
    sync::Mutex,
    thread::{self, ThreadId},
};

use synthetic::{END, packs, questions, tiny_model};
use talkoot_protocol::digest::Digest;
use talkoot_trainer::{
    batch::{BatchError, BatchSource, NOT_LEARNED, Pack, PackError},
    contribution::Layout,
    cpu::Cpu,
    evaluate::mean_loss,
    generate::Generator,
    inner::{
        InnerError, InnerOutcome, InnerPlan, Normalisation, OptimizerSettings, Start, run_inner_steps,
        run_inner_steps_on,
    },
    model::{Batch, Model, Sample},
    modules::{Module, trainable},
    moments::MomentFormat,
    snapshot::Snapshot,
    state::State,
    trace::{StepRecord, Trace, points},
};

fn plan(trainable: &[Module], steps: u64, packs: u64) -> InnerPlan {
    let optimizer = OptimizerSettings {
        peak_learning_rate: 3e-3,
        final_learning_rate: 1e-3,
        warmup_steps: 4,
        total_steps: steps,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.01,
        clip_norm: 1.0,
        moments: MomentFormat::F32,
    };
    let steps = (0..steps).map(|step| vec![(2 * step) % packs, (2 * step + 1) % packs]).collect();
    InnerPlan {
        trainable: trainable.to_vec(),
        optimizer,
        normalisation: Normalisation::Token,
        first_step: 0,
        steps,
        digest_interval: 2,
    }
}

fn run(plan: &InnerPlan, source: &[Pack]) -> Result<InnerOutcome, InnerError> {
    let config = tiny_model();
    let source = source.to_vec();
    run_inner_steps(
        &config,
        &State::initial(&config, 5),
        plan,
        &source,
        &mut |_, _| ControlFlow::Continue(()),
    )
}

#[test]
fn it_learns_to_name_colours_alone() {
    let config = tiny_model();
    let packs = packs(1, 40);
    let (held_out, answers) = questions(2, 6);
    let before = mean_loss(&config, &State::initial(&config, 5), &held_out).unwrap();
    let outcome = run(&plan(&Module::ALL, 50, 40), &packs).unwrap();
    let after = mean_loss(&config, &outcome.end, &held_out).unwrap();
    assert!(before > 3.0 && after < 0.7 * before, "held-out loss {before} to {after}");
    assert!(outcome.trace.steps.last().unwrap().loss < 0.7 * outcome.trace.steps[0].loss);

    let (prompts, expected): (Vec<_>, Vec<_>) = answers.into_iter().unzip();
    let found =
        Generator::new(&Cpu::default(), &config, &outcome.end).unwrap().answer(&prompts, &[END], 4).unwrap();
    let right = found.iter().zip(&expected).filter(|(a, b)| a == b).count();
    eprintln!("held-out loss {before:.3} to {after:.3}, {right} of {} answers right", expected.len());
    assert!(right * 3 >= expected.len(), "{right} of {} answers right: {found:?}", expected.len());
}

#[test]
fn the_first_step_of_a_warm_up_changes_nothing_and_frozen_modules_keep_their_bits() {
    let start = State::initial(&tiny_model(), 5);
    let one = run(&plan(&Module::ALL, 1, 2), &packs(1, 2)).unwrap();
    assert_eq!(one.end.digest(), start.digest());
    let outcome = run(&plan(&[Module::Merger], 3, 2), &packs(1, 2)).unwrap();
    for (name, tensor) in &start.tensors {
        let moved = outcome.end.tensors[name] != *tensor;
        assert_eq!(moved, name.starts_with("visual.merger."), "{name}");
    }
}

#[test]
fn every_trainable_parameter_receives_a_gradient() {
    let config = tiny_model();
    let names = trainable(&config, &Module::ALL);
    assert_eq!(names.len(), config.parameter_shapes().len());
    let cpu = Cpu::default();
    let model = Model::new(&cpu, &config, &State::initial(&config, 5)).unwrap();
    let samples: Vec<Sample> = packs(1, 2).iter().flat_map(|pack| Sample::from_pack(pack, &config)).collect();
    let batch = Batch::new(&samples, &config);
    let mut gradients = model.gradients(&names).unwrap();
    model.differentiate(&batch, &vec![1.0; batch.learned()], &mut gradients).unwrap();
    gradients.finish(&cpu).unwrap();
    for (name, gradient) in gradients.iter() {
        assert!(gradient.iter().any(|&g| g != 0.0), "{name} has a gradient of zeros");
    }
}

#[test]
fn a_step_without_anything_to_learn_changes_nothing() {
    let mut packs = packs(1, 2);
    packs.iter_mut().for_each(|pack| pack.labels.fill(NOT_LEARNED));
    let mut plan = plan(&Module::ALL, 1, 2);
    plan.optimizer.warmup_steps = 0;
    let outcome = run(&plan, &packs).unwrap();
    let step = outcome.trace.steps[0];
    assert_eq!((step.loss, step.gradient_norm, step.learned_tokens), (0.0, 0.0, 0));
    assert_eq!(outcome.end.digest(), State::initial(&tiny_model(), 5).digest());
    assert_eq!(mean_loss(&tiny_model(), &outcome.end, &packs).unwrap(), 0.0);
}

#[test]
fn every_pack_counts_the_same_where_the_stage_says_so() {
    let packs = packs(1, 2);
    let mut plan = plan(&Module::ALL, 1, 2);
    let alone = |pack: &Pack| run(&plan, &[pack.clone(), pack.clone()]).unwrap().trace.steps[0].loss;
    let mean = (alone(&packs[0]) + alone(&packs[1])) / 2.0;
    plan.normalisation = Normalisation::Pack;
    let found = run(&plan, &packs).unwrap().trace.steps[0].loss;
    assert!((found - mean).abs() < 1e-5, "{found} instead of {mean}");
}

#[test]
fn a_pack_without_pictures_trains_the_language_model_alone() {
    let tokens: Vec<u32> = (10..30).collect();
    let labels = tokens.iter().map(|&token| i64::from(token)).collect();
    let text = Pack { tokens, labels, sample_lengths: vec![12, 8], images: Vec::new() };
    let mut plan = plan(&Module::ALL, 2, 1);
    plan.optimizer.weight_decay = 0.0;
    let outcome = run(&plan, &[text]).unwrap();
    assert_eq!(outcome.trace.steps[0].learned_tokens, 2 * 18);
    let start = State::initial(&tiny_model(), 5);
    assert_eq!(outcome.end.tensors["visual.class_embedding"], start.tensors["visual.class_embedding"]);
    assert_ne!(outcome.end.tensors["lm_head.weight"], start.tensors["lm_head.weight"]);
}

/// Packs, and who asked for which.
struct Asked {
    packs: Vec<Pack>,
    by: Mutex<Vec<(u64, ThreadId)>>,
}

impl BatchSource for Asked {
    fn pack(&self, index: u64) -> Result<Pack, BatchError> {
        self.by.lock().unwrap().push((index, thread::current().id()));
        self.packs.pack(index)
    }
}

#[test]
fn packs_are_prepared_in_order_by_a_thread_that_does_not_train_and_at_most_a_step_ahead() {
    let config = tiny_model();
    let source = Asked { packs: packs(1, 8), by: Mutex::default() };
    let start = State::initial(&config, 5);
    let mut most = 0;
    run_inner_steps(&config, &start, &plan(&Module::ALL, 4, 8), &source, &mut |step, _| {
        most = most.max(source.by.lock().unwrap().len().saturating_sub(2 * (step + 1)));
        if step == 1 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .unwrap();
    let by = source.by.lock().unwrap();
    assert!(by.iter().map(|(index, _)| *index).eq(0..by.len() as u64), "{by:?}");
    assert!(by.iter().all(|(_, thread)| *thread == by[0].1 && *thread != thread::current().id()), "{by:?}");
    assert!(most <= 2 && by.len() <= 6, "two packs of the next step: {most}, {by:?}");
}

#[test]
fn a_member_may_stop_early_and_the_steps_done_are_a_prefix() {
    let (config, packs) = (tiny_model(), packs(1, 4));
    let whole = run(&plan(&Module::ALL, 3, 4), &packs).unwrap();
    let start = State::initial(&config, 5);
    let part =
        run_inner_steps(&config, &start, &plan(&Module::ALL, 3, 4), &packs, &mut |step, _| match step {
            1 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        })
        .unwrap();
    assert!(part.stopped_early && !whole.stopped_early);
    assert_eq!(whole.trace.parting(&part.trace), Some(3));
    assert_eq!(Trace::parse(&part.trace.to_bytes()).unwrap(), part.trace);
    assert_eq!(part.trace.points().collect::<Vec<_>>(), [0, 2]);
}

#[test]
fn a_state_between_two_steps_is_all_that_the_rest_needs() {
    let (config, packs) = (tiny_model(), packs(1, 8));
    let start = State::initial(&config, 5);
    for (trainable, moments) in [
        (vec![Module::Merger], MomentFormat::F32),
        (Module::ALL.to_vec(), MomentFormat::F32),
        (Module::ALL.to_vec(), MomentFormat::EightBit),
    ] {
        let mut whole_plan = plan(&trainable, 4, 8);
        whole_plan.optimizer.moments = moments;
        let whole = run(&whole_plan, &packs).unwrap();
        let layout = Layout::trained(&config, &trainable).unwrap();
        // the first two steps, and what they end with as the bytes that the digest names
        let half = InnerPlan { steps: whole_plan.steps[..2].to_vec(), ..whole_plan.clone() };
        let from = Start { state: &start, moments: None };
        let mut unwatched = |_: usize, _: &StepRecord| ControlFlow::Continue(());
        let cpu = Cpu::default();
        let (end, optimizer) =
            run_inner_steps_on(&cpu, &config, from, &half, &packs, &mut unwatched).unwrap();
        let moments = optimizer.moments(&cpu).unwrap();
        let bytes = Snapshot::new(&layout, 2, &end.end, &moments).unwrap().to_bytes();
        assert_eq!(Some(Digest::of(&bytes)), whole.trace.digest_at(2), "the digest is of those bytes");

        let (state, moments) =
            Snapshot::from_bytes(&bytes, &layout).unwrap().resume(&layout, &start).unwrap();
        let rest = InnerPlan { steps: whole_plan.steps[2..].to_vec(), first_step: 2, ..whole_plan.clone() };
        let from = Start { state: &state, moments: Some(&moments) };
        let (end, _) = run_inner_steps_on(&cpu, &config, from, &rest, &packs, &mut unwatched).unwrap();
        assert_eq!(end.end.digest(), whole.end.digest());
        assert_eq!(end.trace.steps, whole.trace.steps[2..]);
        assert_eq!(
            end.trace.digests,
            whole.trace.digests[1..],
            "states of {:?}",
            points(4, 2).collect::<Vec<_>>()
        );
    }
}

#[test]
fn moments_in_eight_bits_train_nearly_alike_and_never_the_same() {
    let packs = packs(1, 40);
    let plain = plan(&Module::ALL, 50, 40);
    let mut packed = plain.clone();
    packed.optimizer.moments = MomentFormat::EightBit;
    let (plain, packed) = (run(&plain, &packs).unwrap(), run(&packed, &packs).unwrap());
    // no moment has been packed before the second step's update, so that two losses are the same
    assert_eq!(packed.trace.steps[..2], plain.trace.steps[..2]);
    assert_ne!(packed.trace.steps[3..], plain.trace.steps[3..]);
    let last = |outcome: &InnerOutcome| outcome.trace.steps[40..].iter().map(|step| step.loss).sum::<f32>();
    let (with, without) = (last(&packed), last(&plain));
    println!("losses of the last ten steps: {with} with 8 bits, {without} with 32");
    assert!((with - without).abs() < 0.1 * without, "{with} with 8 bits, {without} with 32");
}

#[test]
fn what_is_wrong_is_named() {
    let packs = packs(1, 2);
    let mut diverging = plan(&Module::ALL, 8, 2);
    diverging.optimizer.peak_learning_rate = 10.0;
    diverging.optimizer.warmup_steps = 0;
    let mut start = State::initial(&tiny_model(), 5);
    start.tensors.get_mut("model.norm.weight").unwrap().values.fill(f32::MAX);
    let config = tiny_model();
    let failed = run_inner_steps(&config, &start, &diverging, &packs, &mut |_, _| ControlFlow::Continue(()));
    let Err(InnerError::NotFinite { what: "loss", step: 0, packs: named, .. }) = failed else {
        panic!("an overflowing model gave {failed:?}");
    };
    assert_eq!(named, [0, 1]);

    let lacking = run(&plan(&Module::ALL, 2, 4), &packs);
    assert!(matches!(lacking, Err(InnerError::Batch { step: 1, .. })), "{lacking:?}");
    let mut broken = packs.clone();
    broken[1].tokens[0] = 4000;
    let refused = run(&plan(&Module::ALL, 1, 2), &broken);
    let Err(InnerError::Pack { step: 0, pack: 1, source: PackError::Token { position: 0, got: 4000, .. } }) =
        refused
    else {
        panic!("a foreign token gave {refused:?}");
    };
    assert!(matches!(run(&plan(&[], 1, 2), &packs), Err(InnerError::NothingTrainable)));
    let mut nan = plan(&Module::ALL, 1, 2);
    nan.optimizer.beta2 = f32::NAN;
    assert!(matches!(run(&nan, &packs), Err(InnerError::Settings { field: "beta2", .. })));
    nan.steps = vec![vec![]];
    nan.optimizer.beta2 = 0.9;
    assert!(matches!(run(&nan, &packs), Err(InnerError::EmptyStep { step: 0 })));
}

/// Not a test by itself: what [`one_and_two_threads_give_the_same_bits`] runs in processes of its own.
#[test]
fn child_prints_its_end_state() {
    if std::env::var_os("TALKOOT_TEST_CHILD").is_some() {
        // wide enough that matrix products are worth dividing
        let outcome = run(&plan(&Module::ALL, 3, 6), &packs(9, 6)).unwrap();
        println!("END {} {:?}", outcome.end.digest(), outcome.trace.to_bytes());
    }
}

#[test]
fn one_and_two_threads_give_the_same_bits() {
    let end = |threads: &str| {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_prints_its_end_state", "--nocapture"])
            .env("TALKOOT_TEST_CHILD", "1")
            .env("RAYON_NUM_THREADS", threads)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_once("END ")
            .unwrap_or_else(|| panic!("no end state in {text}"))
            .1
            .lines()
            .next()
            .unwrap()
            .to_owned()
    };
    let one = end("1");
    assert_eq!(one, end("1"), "two runs with one thread");
    assert_eq!(one, end("2"), "one thread against two");
    assert_eq!(one, end("3"), "one thread against three");
}
