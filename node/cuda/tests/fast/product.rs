use talkoot_emulator::Order;
use talkoot_trainer::{
    backend::{Backend, Done, LinearShape, Store},
    cpu::Cpu,
};

use crate::testkit::{assert_near, fast, random, rounded};

/// Below, at and above tiles of 128 and depths of 32; odd everywhere; nothing at all.
const SHAPES: [(usize, usize, usize); 8] = [
    (1, 1, 1),
    (3, 17, 5),
    (129, 33, 7),
    (128, 32, 128),
    (130, 65, 129),
    (7, 31, 300),
    (257, 15, 31),
    (5, 0, 6),
];

/// Everything that a linear map does. Where the exact class computes it, operands are rounded beforehand, so that sums
/// differ in their order alone.
pub(crate) fn linear<B: Backend>(backend: &B, shape: LinearShape, round: bool) -> Done<Vec<Vec<f32>>> {
    let LinearShape { rows, inputs, outputs } = shape;
    let operand = |len, seed| {
        let numbers = random(len, seed);
        backend.upload(&if round { rounded(&numbers) } else { numbers })
    };
    let (x, w, dy) = (operand(rows * inputs, 1)?, operand(outputs * inputs, 2)?, operand(rows * outputs, 5)?);
    let (bias, residual) =
        (backend.upload(&random(outputs, 3))?, backend.upload(&random(rows * outputs, 4))?);
    let mut results = Vec::new();
    for (bias, residual) in [(None, None), (Some(&bias), None), (Some(&bias), Some(&residual))] {
        let mut y = backend.scratch(rows * outputs)?;
        backend.linear(shape, &x, &w, bias, residual, &mut y)?;
        results.push(backend.download(&y)?);
    }
    for store in [Store::Replace, Store::Add] {
        let mut dx = backend.upload(&random(rows * inputs, 6))?;
        let mut dw = backend.upload(&random(outputs * inputs, 7))?;
        backend.linear_backward_input(shape, &dy, &w, store, &mut dx)?;
        backend.linear_backward_weight(shape, &x, &dy, store, &mut dw)?;
        results.extend([backend.download(&dx)?, backend.download(&dw)?]);
    }
    Ok(results)
}

#[test]
fn linear_maps_are_those_of_rounded_operands() {
    for (rows, inputs, outputs) in SHAPES {
        let shape = LinearShape { rows, inputs, outputs };
        let expected = linear(&Cpu::default(), shape, true).unwrap();
        let mut first = None;
        for order in Order::ALL {
            let Some(fast) = fast(order) else { return };
            let found = linear(&fast, shape, false).unwrap();
            assert_near(&format!("{shape:?}"), order, &found, &expected, 3e-6, &mut first);
        }
    }
}
