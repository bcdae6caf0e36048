//! Tensor cores in a round: emulated kernels of the class `fast`, held to the processor by the measure that a verifier has.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "helpers of a test are part of the test")]

mod support;

use std::ops::ControlFlow;

use support::{World, member, world};
use talkoot_cuda::{Cuda, device::Device, opened::Opened};
use talkoot_emulator::{Emulator, Fault, Order};
use talkoot_execution::{Arithmetic, Claimed, Engine, Executed, Job, Unavailable, check, execute_on};
use talkoot_protocol::{
    event::Finding,
    manifest::{InnerState, ModuleGroup, Tolerance, VerificationClass},
    real::Real,
};
use talkoot_trainer::batch::{Image, NOT_LEARNED, Pack};

/// What the class allows here. Operands have eight significant bits, and AdamW's first steps make every gradient as large as
/// its root mean square, so that the smallest ones' rounding shows in full: a hundredth of them may turn round. A tower's key
/// biases have no gradient but rounding, hence the wide limits of single tensors.
const LIMITS: [f64; 7] = [0.35, 0.07, 1.5, 1.0, 0.02, 0.03, 8.0];

/// Everything is trained, on pictures too.
fn fast_world() -> World {
    let mut world = world(InnerState::Public, None);
    let terms = &mut world.manifest.terms;
    terms.stages[0].trainable = vec![ModuleGroup::Vision, ModuleGroup::Merger, ModuleGroup::Language];
    terms.verification.class = VerificationClass::Fast;
    let [distance, angle, tensor_distance, tensor_angle, loss, gradient_norm, moments] =
        LIMITS.map(Real::new);
    terms.verification.tolerance =
        Some(Tolerance { distance, angle, tensor_distance, tensor_angle, loss, gradient_norm, moments });
    world.manifest.validate().unwrap();
    world.packs = (0..8).map(|at| pack(world.config.image_token_id, at)).collect();
    world
}

/// A picture of 4 x 4 patches, and words behind it.
fn pack(image: u32, seed: u32) -> Pack {
    let mut tokens = vec![image; 4];
    tokens.extend((0..20).map(|i| 1 + (i * i * 7 + i * seed) % 40));
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

fn engine(emulator: Emulator) -> Engine<Opened<Emulator>> {
    Engine::new(Some(Cuda::new(Opened::new(emulator, Some(96 << 20)).unwrap())))
}

fn executed<D: Device>(engine: &Engine<D>, job: &Job<'_>, world: &World) -> Executed {
    execute_on(engine, job, &world.packs, &mut |_, _| ControlFlow::Continue(())).unwrap()
}

#[test]
fn a_round_on_tensor_cores_is_believed_by_a_verifier_on_its_processor() {
    let Some(emulator) = Emulator::new(Order::Forward) else { return };
    let world = fast_world();
    let round = world.round(0, None);
    let job = world.job(&round, member(1), &[]);
    let engine = engine(emulator);
    assert!(
        engine.describe(Arithmetic::TensorCores).ends_with(", tensor-cores, products by our own kernels")
    );
    let ours = executed(&engine, &Job { arithmetic: Arithmetic::TensorCores, ..job }, &world);
    assert!(engine.has_gpu(), "it did not fail");
    assert!(engine.gpu().unwrap().device().device().faults().launches() > 100, "it did the work");

    let replay = executed(&Engine::<Emulator>::new(None), &job, &world);
    assert_ne!(ours.contribution, replay.contribution, "bf16 is to be seen");
    let commit = ours.commit(&job, None, 1);
    let claimed = Claimed {
        trace: &ours.trace.to_bytes(),
        contribution: Some(&ours.contribution),
        feedback_out: Some(&ours.feedback_out),
    };
    let comparison = check(&job, &commit, claimed, &replay).unwrap();
    let deviation = comparison.deviation.unwrap();
    eprintln!("{deviation:?}");
    assert_eq!(comparison.finding, Finding::Pass, "{deviation:?}");
    assert!(deviation.distance > 1000, "a thousandth at least, or it was no bf16: {deviation:?}");
    // and the same again gives the same bytes
    let again = executed(&engine, &Job { arithmetic: Arithmetic::TensorCores, ..job }, &world);
    assert_eq!((again.contribution, again.feedback_out), (ours.contribution, ours.feedback_out));
}

#[test]
fn exact_arithmetic_on_the_same_gpu_gives_the_processors_bytes_encoded_there() {
    let Some(emulator) = Emulator::new(Order::Random(3)) else { return };
    let mut world = fast_world();
    world.manifest.terms.stages[0].trainable = vec![ModuleGroup::Merger];
    let round = world.round(0, None);
    let job = world.job(&round, member(1), &[]);
    let engine = engine(emulator);
    let first = executed(&engine, &job, &world);
    // with a buffer to go on from, too
    let job = Job { feedback_in: Some(&first.feedback_out), ..job };
    let (ours, expected) =
        (executed(&engine, &job, &world), executed(&Engine::<Emulator>::new(None), &job, &world));
    assert_eq!(ours.contribution, expected.contribution);
    assert_eq!(ours.feedback_out, expected.feedback_out);
    assert!(engine.has_gpu());
}

#[test]
fn tensor_cores_that_are_lost_leave_exact_work_behind() {
    let Some(emulator) = Emulator::new(Order::Forward) else { return };
    emulator.faults().add(Fault::LostAt { launch: 40 });
    let world = fast_world();
    let round = world.round(0, None);
    let job = world.job(&round, member(1), &[]);
    let engine = engine(emulator);
    let ours = executed(&engine, &Job { arithmetic: Arithmetic::TensorCores, ..job }, &world);
    let expected = executed(&Engine::<Emulator>::new(None), &job, &world);
    assert_eq!((&ours.contribution, &ours.trace), (&expected.contribution, &expected.trace));
    assert!(!engine.has_gpu());
    assert_eq!(engine.describe(Arithmetic::Exact), "the processor, exact");
}

#[test]
fn an_arithmetic_that_is_not_to_be_had_is_refused_with_what_to_choose_instead() {
    let none = Engine::<Emulator>::new(None);
    assert_eq!(none.offers(Arithmetic::Exact), Ok(()));
    assert_eq!(none.offers(Arithmetic::Library), Ok(()));
    let refused = none.offers(Arithmetic::TensorCores).unwrap_err();
    assert_eq!(refused, Unavailable::NoGpu);
    assert!(refused.to_string().contains("leave out --arithmetic tensor-cores"));
    let Some(emulator) = Emulator::new(Order::Forward) else { return };
    let turing = Engine::new(Some(Cuda::new(emulator.with_capability((7, 5)))));
    let refused = turing.offers(Arithmetic::TensorCores).unwrap_err().to_string();
    assert!(refused.contains("7.5") && refused.contains("8.0"), "{refused}");
    assert_eq!(turing.offers(Arithmetic::Library), Err(Unavailable::NotOnGpu));
}
