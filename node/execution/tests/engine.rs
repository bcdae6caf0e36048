//! A GPU that fails, and what becomes of the round's work: the same contribution, from the processor.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "helpers of a test are part of the test")]

mod support;

use std::ops::ControlFlow;

use support::{World, assert_same, member, watched, world};
use talkoot_cuda::{Cuda, slab::Slab};
use talkoot_emulator::{Emulator, Fault, Order};
use talkoot_execution::{Engine, Executed, execute_on};
use talkoot_protocol::manifest::InnerState;

/// What a member does in the first round, and which steps were seen.
fn executed(world: &World, engine: &Engine<Emulator>) -> (Executed, Vec<usize>) {
    let round = world.round(0, None);
    let job = world.job(&round, member(1), &[]);
    watched(world, engine, &job)
}

#[test]
fn kernels_and_processor_make_the_same_contribution() {
    let Some(emulator) = Emulator::new(Order::Forward) else { return };
    let world = world(InnerState::Public, None);
    let (expected, _) = executed(&world, &Engine::new(None));
    let engine = Engine::new(Some(Cuda::new(emulator)));
    let (ours, _) = executed(&world, &engine);
    assert_same(&ours, &expected);
    assert!(engine.has_gpu());
}

#[test]
fn a_gpu_that_is_lost_in_mid_round_costs_time_and_nothing_else() {
    let world = world(InnerState::Public, None);
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
    let world = world(InnerState::Public, None);
    let (expected, _) = executed(&world, &Engine::new(None));
    let engine = Engine::new(Some(Cuda::new(emulator)));
    let (ours, _) = executed(&world, &engine);
    assert_same(&ours, &expected);
    assert!(engine.has_gpu());
}

#[test]
fn a_slab_that_is_too_small_is_not_begun_on_and_one_that_suffices_is() {
    let world = world(InnerState::Public, None);
    let (expected, _) = executed(&world, &Engine::new(None));
    for (bytes, begins) in [(100_000, false), (256 << 20, true)] {
        let Some(emulator) = Emulator::new(Order::Forward) else { return };
        let engine = Engine::new(Some(Cuda::new(Slab::reserve(emulator, bytes).unwrap())));
        let launches = || engine.gpu().unwrap().device().device().faults().launches();
        let round = world.round(0, None);
        let job = world.job(&round, member(1), &[]);
        let mut at_first_step = None;
        let mut on_step = |_, _: &_| {
            at_first_step.get_or_insert_with(launches);
            ControlFlow::Continue(())
        };
        let ours = execute_on(&engine, &job, &world.packs, &mut on_step).unwrap();
        assert_same(&ours, &expected);
        assert_eq!(at_first_step.unwrap() > 0, begins, "{bytes} bytes");
        assert!(engine.has_gpu());
    }
}
