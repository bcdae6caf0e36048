//! Weights that are not trained, held as halves: the bits of the same numbers in f32.

use talkoot_cuda::fast::Fast;
use talkoot_emulator::{Emulator, Order, Products};
use talkoot_trainer::backend::{Backend, HeadGradients, LinearShape, Store, Targets};

use crate::testkit::{in_fast, random, rounded};

/// A linear map, the gradient of its input, and the head's loss and gradient, as bits.
fn run(backend: &Fast<Emulator>, shape: LinearShape, frozen: bool) -> Vec<Vec<u32>> {
    let LinearShape { rows, inputs, outputs } = shape;
    let numbers = |len, seed| backend.upload(&random(len, seed)).unwrap();
    let weight = rounded(&random(outputs * inputs, 2));
    let weight = if frozen { backend.upload_frozen(&weight) } else { backend.upload(&weight) }.unwrap();
    let (x, dy) = (numbers(rows * inputs, 1), numbers(rows * outputs, 5));
    let (bias, residual) = (numbers(outputs, 3), numbers(rows * outputs, 4));
    let mut results = Vec::new();
    let mut y = backend.scratch(rows * outputs).unwrap();
    backend.linear(shape, &x, &weight, Some(&bias), Some(&residual), &mut y).unwrap();
    results.push(backend.download(&y).unwrap());
    for store in [Store::Replace, Store::Add] {
        let mut dx = numbers(rows * inputs, 6);
        backend.linear_backward_input(shape, &dy, &weight, store, &mut dx).unwrap();
        results.push(backend.download(&dx).unwrap());
    }
    let tokens: Vec<u32> = (0..rows as u32).map(|row| row * 3 % outputs as u32).collect();
    let targets = Targets { tokens: &tokens, scales: &vec![0.01; rows] };
    let mut dx = backend.scratch(rows * inputs).unwrap();
    let gradients = HeadGradients { hidden: &mut dx, weight: None };
    results.push(backend.cross_entropy(shape, &x, &weight, targets, Some(gradients)).unwrap());
    results.push(backend.download(&dx).unwrap());
    results.iter().map(|numbers| numbers.iter().map(|x| x.to_bits()).collect()).collect()
}

#[test]
fn halves_give_the_bits_of_the_same_weights_in_f32() {
    for library in [Products::Absent, Products::Present] {
        for order in [Order::Forward, Order::Random(7)] {
            // in pairs and not, within a tile and beyond, one number
            for [rows, inputs, outputs] in [[37, 24, 130], [5, 33, 7], [130, 66, 129], [1, 1, 1]] {
                let Some(emulator) = Emulator::new(order) else { return };
                let fast = in_fast(emulator.with_library(library));
                let shape = LinearShape { rows, inputs, outputs };
                let expected = run(&fast, shape, false);
                let before = fast.device().faults().products();
                assert_eq!(run(&fast, shape, true), expected, "{shape:?}, {library:?}, {order:?}");
                let by_library = fast.device().faults().products() - before;
                assert_eq!(by_library, if library == Products::Present { 5 } else { 0 });
            }
        }
    }
}
