use talkoot_trainer::backend::{Backend, HeadGradients, LinearShape, Store, Targets};

use super::{Case, Results, random, some_rows};

/// Below, at and above tiles of 128 and depths of 16; odd ones too.
const SHAPES: [[usize; 3]; 6] =
    [[1, 1, 1], [3, 17, 5], [16, 16, 128], [129, 33, 7], [130, 60, 129], [5, 24, 4097]];

/// Weights that are not trained: a device may hold them in fewer bytes where they are bf16 numbers.
pub(super) fn cases<B: Backend + 'static>() -> Vec<Case<B>> {
    let mut cases = Vec::new();
    for [rows, inputs, outputs] in SHAPES {
        let shape = LinearShape { rows, inputs, outputs };
        let name = format!("{rows} x {inputs} x {outputs}");
        cases.push(Case::new(format!("frozen linear {name}"), move |backend: &B| linear(backend, shape)));
        cases.push(Case::new(format!("frozen head {name}"), move |backend: &B| head(backend, shape)));
    }
    for width in [1, 7, 128, 300] {
        cases.push(Case::new(format!("rows of {width} of a frozen table"), move |backend: &B| {
            rows(backend, width)
        }));
    }
    cases.push(Case::new("frozen numbers of all kinds", kinds));
    cases
}

/// Numbers that bf16 holds.
fn halves(len: usize, seed: u64) -> Vec<f32> {
    random(len, seed).into_iter().map(|x| f32::from_bits(x.to_bits() & 0xffff_0000)).collect()
}

fn linear<B: Backend>(backend: &B, shape: LinearShape) -> Results {
    let LinearShape { rows, inputs, outputs } = shape;
    let numbers = |len, seed| backend.upload(&random(len, seed));
    let w = backend.upload_frozen(&halves(outputs * inputs, 2))?;
    let (x, bias) = (numbers(rows * inputs, 1)?, numbers(outputs, 3)?);
    let (residual, dy) = (numbers(rows * outputs, 4)?, numbers(rows * outputs, 5)?);
    let mut results = Vec::new();
    for (bias, residual) in [(None, None), (Some(&bias), Some(&residual))] {
        let mut y = backend.scratch(rows * outputs)?;
        backend.linear(shape, &x, &w, bias, residual, &mut y)?;
        results.push(backend.download(&y)?);
    }
    for store in [Store::Replace, Store::Add] {
        let mut dx = numbers(rows * inputs, 6)?;
        backend.linear_backward_input(shape, &dy, &w, store, &mut dx)?;
        results.push(backend.download(&dx)?);
    }
    Ok(results)
}

fn head<B: Backend>(backend: &B, shape: LinearShape) -> Results {
    let LinearShape { rows, inputs, outputs } = shape;
    let hidden = backend.upload(&random(rows * inputs, 1))?;
    let weight = backend.upload_frozen(&halves(outputs * inputs, 2))?;
    let (tokens, scales) = (some_rows(rows, outputs, 3), random(rows, 4));
    let targets = Targets { tokens: &tokens, scales: &scales };
    let mut dhidden = backend.scratch(rows * inputs)?;
    let gradients = HeadGradients { hidden: &mut dhidden, weight: None };
    let losses = backend.cross_entropy(shape, &hidden, &weight, targets, Some(gradients))?;
    Ok(vec![losses, backend.download(&dhidden)?])
}

fn rows<B: Backend>(backend: &B, width: usize) -> Results {
    let to_rows: Vec<u32> = (0..40).map(|i| i * 37 % 40).collect();
    let from = backend.upload_frozen(&halves(50 * width, 1))?;
    let mut to = backend.upload(&random(40 * width, 2))?;
    backend.copy_rows(width, &from, &some_rows(40, 50, 3), &mut to, &to_rows)?;
    Ok(vec![backend.download(&to)?])
}

/// What bf16 holds comes back as it went: signed zeros, subnormal numbers, the largest. And what it does not hold.
fn kinds<B: Backend>(backend: &B) -> Results {
    let held = [0.0, -0.0, 1.0, -2.5, f32::from_bits(0x0001_0000), f32::from_bits(0x7f7f_0000)];
    let more = [1.0, 2.0, 1.0 + f32::EPSILON];
    let mut results = Vec::new();
    for numbers in [&held[..], &more, &[], &[f32::from_bits(1)]] {
        let frozen = backend.upload_frozen(numbers)?;
        results.push(backend.download(&frozen)?);
        // as weights of a map of one input and as rows of a table of one column
        let shape = LinearShape { rows: 2, inputs: 1, outputs: numbers.len() };
        let (x, mut y) = (backend.upload(&[1.0, -3.0])?, backend.scratch(2 * numbers.len())?);
        backend.linear(shape, &x, &frozen, None, None, &mut y)?;
        let all: Vec<u32> = (0..numbers.len() as u32).collect();
        let mut copy = backend.scratch(numbers.len())?;
        backend.copy_rows(1, &frozen, &all, &mut copy, &all)?;
        results.extend([backend.download(&y)?, backend.download(&copy)?]);
    }
    Ok(results)
}
