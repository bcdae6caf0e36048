//! Several GPUs as one member: the processor's contribution, whatever their number and that of a step's packs; and what
//! becomes of a round when one of them fails.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "helpers of a test are part of the test")]

mod support;

use support::{World, assert_same, member, watched, world};
use talkoot_cuda::{Cuda, choice::Room, device::Device};
use talkoot_emulator::{Emulator, Fault, Order};
use talkoot_execution::{Arithmetic, Engine, Executed, Job, Unavailable};
use talkoot_protocol::{assignment::Work, manifest::InnerState};
use talkoot_trainer::plan::OnHost;

/// Steps of one, two, three and five packs.
fn work(world: &World) -> Work {
    let round = world.round(0, None);
    let of_two = round.work_of(&member(1)).unwrap();
    Work { steps: vec![vec![0, 1], vec![2], vec![3, 4, 5], vec![7, 6, 1, 0, 2]], ..of_two.clone() }
}

/// What a member does in the first round, and which steps were seen.
fn executed<D: Device>(world: &World, engine: &Engine<D>, arithmetic: Arithmetic) -> (Executed, Vec<usize>) {
    let (round, work) = (world.round(0, None), work(world));
    let job = Job { work: &work, steps: 4, arithmetic, ..world.job(&round, member(1), &[]) };
    watched(world, engine, &job)
}

fn on_the_processor(world: &World) -> Executed {
    executed(world, &Engine::<Emulator>::new(None), Arithmetic::Exact).0
}

fn emulators(count: usize) -> Option<Vec<Emulator>> {
    (0..count).map(|i| Emulator::new(Order::ALL[i % 3])).collect()
}

fn engine(devices: Vec<Emulator>) -> Engine<Emulator> {
    Engine::of_several(devices.into_iter().map(Cuda::new).collect())
}

fn launches(engine: &Engine<Emulator>) -> Vec<u64> {
    engine.gpus().map(|gpu| gpu.device().faults().launches()).collect()
}

#[test]
fn two_and_three_gpus_make_the_processors_contribution() {
    let world = world(InnerState::Public, None);
    let expected = on_the_processor(&world);
    for count in [2, 3] {
        let Some(devices) = emulators(count) else { return };
        let engine = engine(devices);
        assert_eq!(engine.describe(Arithmetic::Exact), format!("{count} x kernels on the processor, exact"));
        let (ours, seen) = executed(&world, &engine, Arithmetic::Exact);
        assert_same(&ours, &expected);
        assert_eq!(seen, [0, 1, 2, 3], "nothing failed");
        assert!(launches(&engine).into_iter().all(|launches| launches > 100), "all of them worked");
    }
}

#[test]
fn slabs_and_moments_on_the_host_are_each_gpus_own() {
    let world = world(InnerState::Public, None);
    let expected = on_the_processor(&world);
    let Some(devices) = emulators(2) else { return };
    let room = Room { slab: Some(160 << 20), on_host: OnHost { moments: true, ..OnHost::NOTHING } };
    let engine = Engine::of_several(devices.into_iter().map(|gpu| room.on(gpu).unwrap()).collect());
    let (ours, seen) = executed(&world, &engine, Arithmetic::Exact);
    assert_same(&ours, &expected);
    assert_eq!(seen, [0, 1, 2, 3], "nothing failed");
}

#[test]
fn a_gpu_that_is_lost_in_mid_step_leaves_its_work_to_the_others() {
    let world = world(InnerState::Public, None);
    let expected = on_the_processor(&world);
    let Some(devices) = emulators(3) else { return };
    let all_well = engine(devices);
    executed(&world, &all_well, Arithmetic::Exact);
    for (failing, launches) in launches(&all_well).into_iter().enumerate() {
        let devices = emulators(3).unwrap();
        devices[failing].faults().add(Fault::LostAt { launch: launches / 2 });
        let engine = engine(devices);
        let (ours, seen) = executed(&world, &engine, Arithmetic::Exact);
        assert_same(&ours, &expected);
        assert!(seen.len() > 4 && seen.ends_with(&[0, 1, 2, 3]), "some steps twice: {seen:?}");
        assert_eq!(engine.describe(Arithmetic::Exact), "2 x kernels on the processor, exact");
        let before = self::launches(&engine);
        let (again, seen) = executed(&world, &engine, Arithmetic::Exact);
        assert_same(&again, &expected);
        assert_eq!(seen, [0, 1, 2, 3]);
        for (gpu, (after, before)) in self::launches(&engine).into_iter().zip(before).enumerate() {
            assert_eq!(after > before, gpu != failing, "it is not asked again, the others are");
        }
    }
}

#[test]
fn gpus_that_are_all_lost_leave_their_work_to_the_processor() {
    let world = world(InnerState::Public, None);
    let expected = on_the_processor(&world);
    let Some(devices) = emulators(2) else { return };
    devices[0].faults().add(Fault::LostAt { launch: 150 });
    devices[1].faults().add(Fault::LostAt { launch: 400 });
    let engine = engine(devices);
    let (ours, seen) = executed(&world, &engine, Arithmetic::Exact);
    assert_same(&ours, &expected);
    assert!(seen.ends_with(&[0, 1, 2, 3]));
    assert!(!engine.has_gpu());
    assert_eq!(engine.describe(Arithmetic::Exact), "the processor, exact");
}

#[test]
fn a_gpu_without_room_is_left_out_and_asked_again_next_time() {
    let world = world(InnerState::Public, None);
    let expected = on_the_processor(&world);
    for full in [0, 1] {
        let Some(devices) = emulators(2) else { return };
        devices[full].faults().add(Fault::Room { bytes: 100_000 });
        let engine = engine(devices);
        let (ours, seen) = executed(&world, &engine, Arithmetic::Exact);
        assert_same(&ours, &expected);
        assert!(seen.ends_with(&[0, 1, 2, 3]));
        let worked = launches(&engine)[1 - full];
        assert!(worked > 500, "the other did the work: {worked}");
        assert_eq!(engine.describe(Arithmetic::Exact), "2 x kernels on the processor, exact");
    }
}

#[test]
fn tensor_cores_of_several_gpus_give_one_gpus_bytes() {
    let mut world = world(InnerState::Public, None);
    world.manifest.terms.verification.class = talkoot_protocol::manifest::VerificationClass::Fast;
    let Some(one) = emulators(1) else { return };
    let (expected, _) = executed(&world, &engine(one), Arithmetic::TensorCores);
    assert_ne!(expected.contribution, on_the_processor(&world).contribution, "bf16 is to be seen");
    let engine = engine(emulators(2).unwrap());
    assert!(
        engine.describe(Arithmetic::TensorCores).starts_with("2 x kernels on the processor, tensor-cores")
    );
    let (ours, _) = executed(&world, &engine, Arithmetic::TensorCores);
    assert_same(&ours, &expected);
}

#[test]
fn tensor_cores_have_to_be_there_on_all_of_them() {
    let Some(mut devices) = emulators(2) else { return };
    let old = devices.remove(1).with_capability((7, 5));
    devices.push(old);
    let engine = engine(devices);
    assert_eq!(engine.offers(Arithmetic::Exact), Ok(()));
    let refused = engine.offers(Arithmetic::TensorCores).unwrap_err();
    assert!(matches!(refused, Unavailable::TooOld(_)) && refused.to_string().contains("7.5"), "{refused}");
}
