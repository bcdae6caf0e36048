use talkoot_trainer::backend::{Backend, HeadGradients, LinearShape, Store, Targets};

use super::{Case, Results, random, some_rows};

/// One part of the vocabulary, a whole one, and two and a half; more than sixteen parts.
const SHAPES: [[usize; 3]; 5] = [[1, 3, 5], [7, 20, 300], [5, 24, 4096], [9, 12, 10_001], [2, 4, 70_003]];

pub(super) fn cases<B: Backend + 'static>() -> Vec<Case<B>> {
    let of_shape = |[rows, inputs, outputs]: [usize; 3]| {
        let shape = LinearShape { rows, inputs, outputs };
        let name = format!("cross-entropy, {rows} rows of {inputs}, {outputs} tokens");
        Case::new(name, move |backend: &B| head_and_loss(backend, shape))
    };
    SHAPES.into_iter().map(of_shape).collect()
}

fn head_and_loss<B: Backend>(backend: &B, shape: LinearShape) -> Results {
    let LinearShape { rows, inputs, outputs } = shape;
    let hidden = backend.upload(&random(rows * inputs, 1))?;
    let weight = backend.upload(&random(outputs * inputs, 2))?;
    let (tokens, scales) = (some_rows(rows, outputs, 3), random(rows, 4));
    let targets = Targets { tokens: &tokens, scales: &scales };
    let mut results = vec![backend.cross_entropy(shape, &hidden, &weight, targets, None)?];
    let mut dhidden = backend.scratch(rows * inputs)?;
    let frozen = HeadGradients { hidden: &mut dhidden, weight: None };
    results.push(backend.cross_entropy(shape, &hidden, &weight, targets, Some(frozen))?);
    results.push(backend.download(&dhidden)?);
    let mut dweight = backend.scratch(outputs * inputs)?;
    for store in [Store::Replace, Store::Add] {
        let both = HeadGradients { hidden: &mut dhidden, weight: Some((store, &mut dweight)) };
        backend.cross_entropy(shape, &hidden, &weight, targets, Some(both))?;
        results.extend([backend.download(&dhidden)?, backend.download(&dweight)?]);
    }
    Ok(results)
}
