//! Every operation of the exact class, on emulated kernels in several orders of their threads, has the bits of the
//! processor's; and so has a whole training.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use talkoot_cuda::{
    Cuda,
    check::check,
    choice::{Room, proven},
};
use talkoot_emulator::{Emulator, Fault, Order};
use talkoot_trainer::{
    backend::{Backend, BackendError},
    measure::{Bits, GRADIENTS, WEIGHTS, bits},
    model::Keep,
    plan::OnHost,
};

/// Everything that can.
const ALL: OnHost = OnHost { moments: true, gradients: true, values: true };

/// Asserts that no case of a group differs, in any order of threads.
fn no_difference(group: &str) {
    for order in Order::ALL {
        let Some(emulator) = Emulator::new(order) else { return };
        let outcome = check(&Cuda::new(emulator), group);
        assert!(outcome.differences.is_empty(), "{order:?}: {:#?}", outcome.differences);
    }
}

#[test]
fn linear_maps_and_their_gradients() {
    no_difference("product");
}

#[test]
fn norms_and_their_gradients() {
    no_difference("norms");
}

#[test]
fn rotations_and_gradients_of_angles() {
    no_difference("rotary");
}

#[test]
fn attention_and_its_gradients() {
    no_difference("attention");
}

#[test]
fn activations_optimiser_and_squares() {
    no_difference("elementwise");
}

#[test]
fn rows_of_tables() {
    no_difference("rows");
}

#[test]
fn head_and_loss() {
    no_difference("loss");
}

#[test]
fn weights_that_are_not_trained() {
    no_difference("frozen");
}

fn trained(emulator: Emulator) -> Result<Bits, talkoot_trainer::model::ModelError> {
    bits(&Cuda::new(emulator), "emulated", Keep::Inputs)
}

/// The acceptance test of the exact class where there is no GPU: a whole training on the kernels, thread by thread, has
/// the two hashes that every machine must have.
#[test]
fn three_steps_have_the_hashes_of_the_exact_class() {
    let Some(emulator) = Emulator::new(Order::Random(11)) else { return };
    let found = trained(emulator).unwrap();
    assert_eq!((found.gradients.as_str(), found.weights.as_str()), (GRADIENTS, WEIGHTS));
}

#[test]
fn a_gpu_that_is_lost_in_mid_step_is_an_error_that_names_the_operation() {
    let Some(emulator) = Emulator::new(Order::Forward) else { return };
    emulator.faults().add(Fault::LostAt { launch: 40 });
    let error = trained(emulator).unwrap_err().to_string();
    assert!(error.contains("CUDA_ERROR_LAUNCH_FAILED") && error.contains("failed in"), "{error}");
}

#[test]
fn no_room_is_an_error_that_says_how_much_was_wanted() {
    let Some(emulator) = Emulator::new(Order::Forward) else { return };
    emulator.faults().add(Fault::Room { bytes: 10_000 });
    let cuda = Cuda::new(emulator);
    let kept = cuda.scratch(2000).unwrap();
    let error = cuda.scratch(1000).unwrap_err();
    assert!(matches!(error, BackendError::OutOfMemory { bytes: 4000 }), "{error}");
    drop(kept);
    cuda.scratch(1000).unwrap();
}

#[test]
fn a_device_trains_only_after_it_has_shown_the_hashes() {
    let Some(emulator) = Emulator::new(Order::Backward) else { return };
    emulator.faults().add(Fault::LostAt { launch: 3 });
    let said = proven(Cuda::new(emulator)).unwrap_err().to_string();
    assert!(said.contains("failed when it was tried") && said.contains("CUDA_ERROR"), "{said}");
    // what training takes of the emulated memory is far below it, and everything that can rest on the host does
    for on_host in [OnHost { moments: true, ..OnHost::NOTHING }, ALL] {
        let Some(emulator) = Emulator::new(Order::Backward) else { return };
        let room = Room { slab: Some(1 << 30), on_host };
        proven(room.on(emulator).unwrap()).unwrap();
    }
}
