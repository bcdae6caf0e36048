//! Length, largest element, sum and first numbers of tensors that are not stored whole.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{
    Report,
    report::Measured,
    subject::{Shown, Values},
};

/// `cases/summary.json`.
#[derive(Debug, Deserialize)]
pub(crate) struct Summary {
    pub(crate) cases: BTreeMap<String, CaseStatistics>,
}

/// What it says of a case.
#[derive(Debug, Deserialize)]
pub(crate) struct CaseStatistics {
    loss: f64,
    unmasked_tokens: usize,
    grad_global_l2: f64,
    /// Parameters that the loss does not depend on.
    params_without_grad: Vec<String>,
    grads: BTreeMap<String, Statistics>,
}

/// What is known of a tensor.
#[derive(Debug, Deserialize)]
pub(crate) struct Statistics {
    shape: Vec<usize>,
    l2: f64,
    max_abs: f64,
    sum: f64,
    first4: Vec<f32>,
}

fn l2(values: &[f32]) -> f64 {
    values.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt()
}

/// Compares statistics, each relative to what it is made of: `relative` is the limit of a tensor's relative difference.
pub(crate) fn compare(
    file: &str,
    kind: &str,
    name: &str,
    expected: &Statistics,
    got: &[f32],
    relative: f64,
    report: &mut Report,
) {
    let length = expected.shape.iter().product::<usize>();
    report.equal(file, &format!("{kind}: lengths"), name, got.len() == length);
    let sum: f64 = got.iter().map(|&x| f64::from(x)).sum();
    let largest = got.iter().fold(0.0, |most: f64, x| most.max(f64::from(x.abs())));
    // a difference d of the tensor moves the sum by at most sqrt(n) |d|
    let measured = [
        ("l2", (l2(got) - expected.l2).abs(), expected.l2),
        ("largest", (largest - expected.max_abs).abs(), expected.l2),
        ("sum", (sum - expected.sum).abs(), expected.l2 * (length as f64).sqrt()),
    ];
    for (what, difference, scale) in measured {
        let measured = Measured {
            max_abs: difference,
            max_abs_limit: relative * scale.max(1e-6),
            relative: 0.0,
            relative_limit: None,
        };
        report.add(file, &format!("{kind}: statistics"), &format!("{name} ({what})"), measured);
    }
    let first = &got[..got.len().min(expected.first4.len())];
    let limit = relative * expected.max_abs.max(1e-3);
    report.tensors((file, &format!("{kind}: first numbers"), name), first, &expected.first4, limit, None);
}

pub(crate) fn compare_case(file: &str, expected: &CaseStatistics, shown: &Shown, report: &mut Report) {
    const RELATIVE: f64 = 2e-5;
    let count = shown.losses.len();
    let mean = shown.losses.iter().map(|&x| f64::from(x)).sum::<f64>() / count.max(1) as f64;
    report.equal(file, "learned tokens", "count", count == expected.unmasked_tokens);
    report.number(file, "loss of the summary", "loss", mean, expected.loss, 5e-6);
    let global = shown.gradients.values().map(|g| l2(g).powi(2)).sum::<f64>().sqrt();
    let limit = RELATIVE * expected.grad_global_l2;
    report.number(file, "norm of all gradients", "norm", global, expected.grad_global_l2, limit);
    let none = Vec::new();
    for (name, statistics) in &expected.grads {
        let got = shown.gradients.get(name).unwrap_or(&none);
        compare(file, "gradients", name, statistics, got, RELATIVE, report);
    }
    for name in &expected.params_without_grad {
        let zero = shown.gradients.get(name).is_some_and(|gradient| gradient.iter().all(|&g| g == 0.0));
        report.equal(file, "gradients that are zero", name, zero);
    }
    unlisted(file, expected, &shown.gradients, report);
}

/// Every gradient of ours is listed one way or the other.
fn unlisted(file: &str, expected: &CaseStatistics, gradients: &Values, report: &mut Report) {
    for name in gradients.keys() {
        let listed = expected.grads.contains_key(name) || expected.params_without_grad.contains(name);
        report.equal(file, "parameters are those of the reference", name, listed);
    }
}
