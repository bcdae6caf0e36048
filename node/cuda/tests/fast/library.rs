//! Products by a library, which a model of cuBLASLt's documented meaning stands for: it knows column-major matrices and
//! nothing of ours.

use talkoot_cuda::fast::Fast;
use talkoot_emulator::{Emulator, Fault, Order, Products};
use talkoot_trainer::{
    backend::{Backend, HeadGradients, LinearShape, Store, Targets},
    cpu::Cpu,
};

use crate::{
    product::linear,
    testkit::{error, in_fast, random},
};

fn with(library: Products) -> Option<Fast<Emulator>> {
    Some(in_fast(Emulator::new(Order::Forward)?.with_library(library)))
}

/// Sizes between 1 and 40, other ones each time.
fn shape(seed: u64) -> LinearShape {
    let sizes: Vec<usize> = random(3, seed).into_iter().map(|x| 1 + ((x + 2.0) * 9.75) as usize).collect();
    LinearShape { rows: sizes[0], inputs: sizes[1], outputs: sizes[2] }
}

fn bits(lists: &[Vec<f32>]) -> Vec<u32> {
    lists.iter().flatten().map(|x| x.to_bits()).collect()
}

#[test]
fn layouts_are_asked_for_as_the_library_means_them() {
    let Some(fast) = with(Products::Present) else { return };
    for seed in 1..60 {
        let shape = shape(seed);
        let expected = linear(&Cpu::default(), shape, true).unwrap();
        let before = fast.device().faults().products();
        let found = linear(&fast, shape, false).unwrap();
        assert_eq!(fast.device().faults().products() - before, 7, "all of them by the library");
        for (result, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let off = error(found, expected);
            assert!(off <= 3e-6, "{shape:?}: result {result} is {off} off");
        }
    }
}

#[test]
fn head_and_loss_go_through_the_library_in_parts() {
    let Some(fast) = with(Products::Present) else { return };
    let Some(own) = with(Products::Absent) else { return };
    let shape = LinearShape { rows: 37, inputs: 24, outputs: 130 };
    let run = |backend: &Fast<Emulator>| {
        let hidden = backend.upload(&random(37 * 24, 1)).unwrap();
        let weight = backend.upload(&random(130 * 24, 2)).unwrap();
        let (mut dhidden, mut dweight) =
            (backend.scratch(37 * 24).unwrap(), backend.zeros(130 * 24).unwrap());
        let tokens: Vec<u32> = (0..37).map(|i| i * 3 % 130).collect();
        let scales = [0.01; 37];
        let gradients = HeadGradients { hidden: &mut dhidden, weight: Some((Store::Add, &mut dweight)) };
        let targets = Targets { tokens: &tokens, scales: &scales };
        let losses = backend.cross_entropy(shape, &hidden, &weight, targets, Some(gradients)).unwrap();
        [losses, backend.download(&dhidden).unwrap(), backend.download(&dweight).unwrap()]
    };
    for (found, expected) in run(&fast).iter().zip(&run(&own)) {
        let off = error(found, expected);
        // a logit that is rounded the other way in its last place may tip its gradient's rounding to bf16
        assert!(off <= 1e-2, "{off}");
    }
    assert!(fast.device().faults().products() > 0);
}

#[test]
fn a_library_that_fails_or_has_no_way_leaves_the_work_to_our_kernels_and_is_given_up_where_it_failed() {
    let Some(own) = with(Products::Absent) else { return };
    let shape = LinearShape { rows: 9, inputs: 20, outputs: 33 };
    let expected = linear(&own, shape, false).unwrap();
    for (library, kept) in [(Products::Declines, true), (Products::Fails, false)] {
        let Some(fast) = with(library) else { return };
        assert!(fast.class().has_library());
        let found = linear(&fast, shape, false).unwrap();
        assert_eq!(bits(&found), bits(&expected), "{library:?}");
        assert_eq!((fast.class().has_library(), fast.device().faults().products()), (kept, 0));
    }
}

#[test]
fn where_there_is_no_room_for_operands_in_bf16_our_kernels_multiply() {
    let Some(own) = with(Products::Absent) else { return };
    let shape = LinearShape { rows: 64, inputs: 64, outputs: 64 };
    let run = |backend: &Fast<Emulator>| {
        let (x, w) = (backend.upload(&random(4096, 1)).unwrap(), backend.upload(&random(4096, 2)).unwrap());
        let mut y = backend.scratch(4096).unwrap();
        backend.linear(shape, &x, &w, None, None, &mut y).unwrap();
        backend.download(&y).unwrap()
    };
    let Some(fast) = with(Products::Present) else { return };
    // three matrices fit, and half a one beside them
    fast.device().faults().add(Fault::Room { bytes: 3 * 4 * 4096 + 2 * 4096 });
    assert_eq!(bits(&[run(&fast)]), bits(&[run(&own)]));
    assert_eq!(fast.device().faults().products(), 0);
    assert!(fast.class().has_library(), "there may be room next time");
}
