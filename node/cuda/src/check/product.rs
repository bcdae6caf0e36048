use talkoot_trainer::backend::{Backend, LinearShape, Store};

use super::{Case, Results, random};

/// Below, at and above tiles of 128 and depths of 16, and nothing at all.
const SHAPES: [[usize; 3]; 9] = [
    [1, 1, 1],
    [3, 17, 5],
    [16, 16, 128],
    [129, 33, 7],
    [130, 60, 129],
    [84, 72, 300],
    [257, 15, 31],
    [5, 0, 6],
    [64, 400, 64],
];

pub(super) fn cases<B: Backend + 'static>() -> Vec<Case<B>> {
    let shapes = SHAPES.map(|[rows, inputs, outputs]| LinearShape { rows, inputs, outputs });
    let linear = shapes.map(|shape| {
        let name = format!("linear {} x {} x {}", shape.rows, shape.inputs, shape.outputs);
        Case::new(name, move |backend: &B| linear(backend, shape))
    });
    let mut cases = Vec::from(linear);
    cases.push(Case::new("a chain that ends in minus zero", minus_zero));
    cases.push(Case::new("numbers that are none", special));
    cases
}

fn linear<B: Backend>(backend: &B, shape: LinearShape) -> Results {
    let LinearShape { rows, inputs, outputs } = shape;
    let numbers = |len, seed| backend.upload(&random(len, seed));
    let (x, w, bias) = (numbers(rows * inputs, 1)?, numbers(outputs * inputs, 2)?, numbers(outputs, 3)?);
    let (residual, dy) = (numbers(rows * outputs, 4)?, numbers(rows * outputs, 5)?);
    let mut results = Vec::new();
    for (bias, residual) in [(None, None), (Some(&bias), None), (Some(&bias), Some(&residual))] {
        let mut y = backend.scratch(rows * outputs)?;
        backend.linear(shape, &x, &w, bias, residual, &mut y)?;
        results.push(backend.download(&y)?);
    }
    for store in [Store::Replace, Store::Add] {
        // what stands there counts, or not
        let (mut dx, mut dw) = (numbers(rows * inputs, 6)?, numbers(outputs * inputs, 7)?);
        backend.linear_backward_input(shape, &dy, &w, store, &mut dx)?;
        backend.linear_backward_weight(shape, &x, &dy, store, &mut dw)?;
        results.extend([backend.download(&dx)?, backend.download(&dw)?]);
    }
    let mut dbias = backend.upload(&vec![0.5; outputs])?;
    backend.linear_backward_bias(&dy, &mut dbias)?;
    results.push(backend.download(&dbias)?);
    Ok(results)
}

/// The product of tiny numbers rounds to minus zero; one more step, of zeros, would turn it into plus zero.
fn minus_zero<B: Backend>(backend: &B) -> Results {
    let (x, w) = (backend.upload(&[-1e-30; 3])?, backend.upload(&[1e-30; 3])?);
    let mut y = backend.scratch(9)?;
    backend.linear(LinearShape { rows: 3, inputs: 1, outputs: 3 }, &x, &w, None, None, &mut y)?;
    Ok(vec![backend.download(&y)?])
}

fn special<B: Backend>(backend: &B) -> Results {
    let mut x = random(20 * 20, 1);
    (x[7], x[33], x[150]) = (f32::NAN, f32::INFINITY, 1e-41);
    let (x, w, mut y) = (backend.upload(&x)?, backend.upload(&random(400, 2))?, backend.scratch(400)?);
    backend.linear(LinearShape { rows: 20, inputs: 20, outputs: 20 }, &x, &w, None, None, &mut y)?;
    Ok(vec![backend.download(&y)?])
}
