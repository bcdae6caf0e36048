//! A GPU that fails, and what becomes of the round's work: the same contribution, from the processor.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "helpers of a test are part of the test")]

use std::{collections::BTreeMap, ops::ControlFlow};

use talkoot_cuda::Cuda;
use talkoot_emulator::{Emulator, Fault, Order};
use talkoot_execution::{Arithmetic, Engine, Executed, Job, execute_on};
use talkoot_protocol::{
    assignment::Work,
    digest::BlobRef,
    event::{RoundOpen, Seat},
    identity::{Keypair, MemberId},
    manifest::{Bindings, DatasetBinding, InnerState, Manifest, Terms},
    run::Round,
};
use talkoot_trainer::{batch::Pack, config::ModelConfig, presets::demo_model, state::State};

/// Inner steps of a round.
const STEPS: u32 = 3;

/// A run of its own, and what its members train on.
struct World {
    manifest: Manifest,
    config: ModelConfig,
    start: State,
    packs: Vec<Pack>,
}

fn world() -> World {
    let mut terms =
        Terms::from_toml(include_str!("../../../protocol/core/src/manifest/example.toml")).unwrap();
    terms.contribution.inner_state = InnerState::Public;
    terms.contribution.k = 512;
    terms.stages[0].trainable = vec![talkoot_protocol::manifest::ModuleGroup::Language];
    let config = demo_model(64);
    let packs = (0..8).map(|at| Pack {
        tokens: vec![5 + at, 6, 7, 8 + at],
        labels: vec![-100, 6, 7, 8 + i64::from(at)],
        sample_lengths: vec![4],
        images: vec![],
    });
    let start = State::initial(&config, 1);
    let bindings = Bindings {
        operator: Keypair::from_seed([9; 32]).id(),
        log_key: "example.org/run+00000000+AA==".to_owned(),
        config: BlobRef::of(b"config"),
        tokenizer: BlobRef::of(b"tokenizer"),
        initial_state: BlobRef::of(b"state"),
        datasets: vec![DatasetBinding { index: BlobRef::of(b"index"), packs: 8, periods: None }],
    };
    let manifest = Manifest { terms, bindings };
    manifest.validate().unwrap();
    World { manifest, config, start, packs: packs.collect() }
}

fn member(number: u8) -> MemberId {
    Keypair::from_seed([number; 32]).id()
}

impl World {
    fn round(&self) -> Round {
        let mut members: Vec<MemberId> = (1..=3).map(member).collect();
        members.sort(); // as seats stand
        let seats: Vec<Seat> = members.into_iter().map(|member| Seat { member, steps: STEPS }).collect();
        let work = seats.iter().zip(0u64..).map(|(seat, at)| Work {
            member: seat.member,
            steps: (0..u64::from(STEPS)).map(|step| vec![(at + step) % 8, (at + step + 3) % 8]).collect(),
            positions: Vec::new(),
        });
        Round {
            work: work.collect(),
            open: RoundOpen { round: 0, stage: 0, start_state: BlobRef::of(b"state"), seats: seats.clone() },
            open_ms: 0,
            first_step: 0,
            precedent: None,
            confirmations: 1,
            has_canaries: false,
            commits: BTreeMap::new(),
            late: BTreeMap::new(),
            seal: None,
            draws: BTreeMap::new(),
            verdicts: Vec::new(),
            opened: BTreeMap::new(),
            close: None,
            outcomes: BTreeMap::new(),
        }
    }

    /// What a member of a round is to do.
    fn job<'a>(&'a self, round: &'a Round) -> Job<'a> {
        Job {
            manifest: &self.manifest,
            config: &self.config,
            round,
            work: round.work_of(&member(1)).unwrap(),
            steps: STEPS,
            start: &self.start,
            feedback_in: None,
            precedent: &[],
            arithmetic: Arithmetic::Exact,
        }
    }
}

/// What a member does in the first round, and which steps were seen.
fn executed(world: &World, engine: &Engine<Emulator>) -> (Executed, Vec<usize>) {
    let round = world.round();
    let job = world.job(&round);
    let mut seen = Vec::new();
    let mut on_step = |step, _: &_| {
        seen.push(step);
        ControlFlow::Continue(())
    };
    let executed = execute_on(engine, &job, &world.packs, &mut on_step).unwrap();
    (executed, seen)
}

fn assert_same(ours: &Executed, expected: &Executed) {
    assert_eq!(ours.contribution, expected.contribution);
    assert_eq!(ours.trace, expected.trace);
    assert_eq!(ours.feedback_out, expected.feedback_out);
}

#[test]
fn kernels_and_processor_make_the_same_contribution() {
    let Some(emulator) = Emulator::new(Order::Forward) else { return };
    let world = world();
    let (expected, _) = executed(&world, &Engine::new(None));
    let engine = Engine::new(Some(Cuda::new(emulator)));
    let (ours, _) = executed(&world, &engine);
    assert_same(&ours, &expected);
    assert!(engine.has_gpu());
}

#[test]
fn a_gpu_that_is_lost_in_mid_round_costs_time_and_nothing_else() {
    let world = world();
    let (expected, all) = executed(&world, &Engine::new(None));
    let launches = {
        let Some(emulator) = Emulator::new(Order::Forward) else { return };
        let cuda = Cuda::new(emulator);
        let engine = Engine::new(Some(cuda));
        executed(&world, &engine);
        engine.gpu().unwrap().device().faults().launches()
    };
    let Some(emulator) = Emulator::new(Order::Forward) else { return };
    emulator.faults().add(Fault::LostAt { launch: launches / 2 });
    let engine = Engine::new(Some(Cuda::new(emulator)));
    let (ours, seen) = executed(&world, &engine);
    assert_same(&ours, &expected);
    assert!(seen.len() > all.len() && seen.ends_with(&all), "some steps twice: {seen:?}");
    assert!(!engine.has_gpu(), "it is not asked again");
    let (again, seen) = executed(&world, &engine);
    assert_same(&again, &expected);
    assert_eq!(seen, all);
}

#[test]
fn a_gpu_without_room_is_asked_again_next_time() {
    let Some(emulator) = Emulator::new(Order::Forward) else { return };
    emulator.faults().add(Fault::Room { bytes: 100_000 });
    let world = world();
    let (expected, _) = executed(&world, &Engine::new(None));
    let engine = Engine::new(Some(Cuda::new(emulator)));
    let (ours, _) = executed(&world, &engine);
    assert_same(&ours, &expected);
    assert!(engine.has_gpu());
}
