use talkoot_emulator::Order;
use talkoot_trainer::{
    backend::{Backend, Done, HeadGradients, LinearShape, Store, Targets},
    cpu::Cpu,
};

use crate::testkit::{assert_near, fast, random, rounded};

fn head<B: Backend>(backend: &B, shape: LinearShape) -> Done<Vec<Vec<f32>>> {
    let LinearShape { rows, inputs, outputs } = shape;
    let hidden = backend.upload(&rounded(&random(rows * inputs, 1)))?;
    let weight = backend.upload(&rounded(&random(outputs * inputs, 2)))?;
    let tokens: Vec<u32> = (0..rows).map(|i| (i * 7919 % outputs) as u32).collect();
    let scales = random(rows, 3);
    let targets = || Targets { tokens: &tokens, scales: &scales };
    let mut results = vec![backend.cross_entropy(shape, &hidden, &weight, targets(), None)?];
    let mut dh = backend.scratch(rows * inputs)?;
    let mut dw = backend.upload(&random(outputs * inputs, 4))?;
    for store in [Store::Replace, Store::Add] {
        let gradients = HeadGradients { hidden: &mut dh, weight: Some((store, &mut dw)) };
        results.push(backend.cross_entropy(shape, &hidden, &weight, targets(), Some(gradients))?);
        results.extend([backend.download(&dh)?, backend.download(&dw)?]);
    }
    let alone = HeadGradients { hidden: &mut dh, weight: None };
    backend.cross_entropy(shape, &hidden, &weight, targets(), Some(alone))?;
    results.push(backend.download(&dh)?);
    Ok(results)
}

#[test]
fn loss_and_gradients_of_the_head_are_near_the_exact_ones() {
    for (rows, inputs, outputs) in [(1, 3, 5), (7, 20, 300), (150, 24, 1000)] {
        let shape = LinearShape { rows, inputs, outputs };
        let expected = head(&Cpu::default(), shape).unwrap();
        let mut first = None;
        for order in Order::ALL {
            let Some(fast) = fast(order) else { return };
            // gradients of logits are rounded to bf16
            assert_near(
                &format!("{shape:?}"),
                order,
                &head(&fast, shape).unwrap(),
                &expected,
                0.004,
                &mut first,
            );
        }
    }
}

#[test]
fn a_broken_logit_makes_a_broken_loss() {
    let Some(fast) = fast(Order::Forward) else { return };
    let shape = LinearShape { rows: 2, inputs: 2, outputs: 600 };
    let mut hidden = random(4, 1);
    hidden[2] = f32::NAN;
    let (hidden, weight) = (fast.upload(&hidden).unwrap(), fast.upload(&random(1200, 2)).unwrap());
    let targets = Targets { tokens: &[1, 2], scales: &[1.0, 1.0] };
    let losses = fast.cross_entropy(shape, &hidden, &weight, targets, None).unwrap();
    assert!(losses[0].is_finite() && !losses[1].is_finite(), "{losses:?}");
}
