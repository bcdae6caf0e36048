//! Head and loss in one, in parts of a few rows, so that no logits of a whole pack ever exist.
//!
//! ```text
//! l_i = ln sum_j exp(z_ij - m_i) + m_i - z_it      z_i = h_i W^T      m_i = max_j z_ij      t the target
//! dz_ij = scale_i (exp(z_ij - m_i) / sum - [j = t])      dh_i = dz_i W      dW += dz^T h
//! ```
//! Sums over the vocabulary, of exponentials and in `dh`, go in parts of 4,096 which are added in order: a single running
//! sum over 151,936 terms would lose digits. How many rows go together decides nothing about the bits.

use rayon::prelude::*;

use super::{
    Buffer, Cpu,
    gemm::{self, Finish, Matrix, MatrixMut, Start},
    isa::for_each_isa,
    lanes, math, rows,
};
use crate::backend::{HeadGradients, LinearShape, Store, Targets};

/// Terms of a sum over the vocabulary that are summed before they are added to the rest. Part of the exact class.
const PART: usize = 4096;
/// Logits that exist at a time: 32 MiB.
const LOGITS: usize = 1 << 23;
/// Fewest rows that go together: with fewer, reading the head would cost more than the products.
const FEWEST_ROWS: usize = 64;

/// Rows whose logits exist at a time.
fn together(rows: usize, vocabulary: usize) -> usize {
    (LOGITS / vocabulary.max(1)).max(FEWEST_ROWS).min(rows)
}

/// Numbers that the operation takes for itself: logits of some rows, and a part of the hidden rows' gradient.
pub(crate) fn room(rows: usize, inputs: usize, vocabulary: usize) -> usize {
    let together = together(rows, vocabulary);
    together * (vocabulary + if vocabulary > PART { inputs } else { 0 })
}

/// Loss of every row in nats; see the module.
pub(super) fn forward_backward(
    cpu: &Cpu,
    shape: LinearShape,
    hidden: &[f32],
    weight: &[f32],
    targets: Targets<'_>,
    mut gradients: Option<HeadGradients<'_, Buffer>>,
) -> Vec<f32> {
    let LinearShape { rows, inputs, outputs } = shape;
    let together = together(rows, outputs);
    let mut logits = cpu.pool.take(together * outputs);
    let mut losses = vec![0.0f32; rows];
    let (isa, products) = (cpu.isa, cpu.products);
    let head = Matrix::new(weight, outputs, inputs);
    for first in (0..rows).step_by(together.max(1)) {
        let part = first..(first + together).min(rows);
        let logits = &mut logits[..part.len() * outputs];
        let hidden = Matrix::new(hidden, rows, inputs).rows(part.clone());
        let into = MatrixMut::new(logits, part.len(), outputs);
        gemm::multiply(isa, products, hidden, head.transposed(), Start::Zero, Finish::default(), into);
        let rows = logits.par_chunks_exact_mut(outputs).zip(&mut losses[part.clone()]);
        let wanted = targets.tokens[part.clone()].par_iter().zip(&targets.scales[part.clone()]);
        let differentiate = gradients.is_some();
        rows.zip(wanted).for_each(|((logits, loss), (&target, &scale))| {
            *loss = row(isa, logits, target as usize, scale, differentiate);
        });
        if let Some(gradients) = &mut gradients {
            let dz = Matrix::new(logits, part.len(), outputs);
            let dh = &mut gradients.hidden[part.start * inputs..part.end * inputs];
            hidden_gradient(cpu, dz, head, (part.len(), inputs, outputs), dh);
            if let Some((store, dweight)) = &mut gradients.weight {
                let start = std::mem::replace(store, Store::Add).into();
                let into = MatrixMut::new(dweight, outputs, inputs);
                gemm::multiply(isa, products, dz.transposed(), hidden, start, Finish::default(), into);
            }
        }
    }
    losses
}

/// `dh = dz W`, in parts of the vocabulary.
fn hidden_gradient(
    cpu: &Cpu,
    dz: Matrix<'_>,
    head: Matrix<'_>,
    (rows, inputs, outputs): (usize, usize, usize),
    dh: &mut [f32],
) {
    let mut more = cpu.pool.take(if outputs > PART { dh.len() } else { 0 });
    for first in (0..outputs).step_by(PART) {
        let part = first..(first + PART).min(outputs);
        let (dz, head) = (dz.columns(part.clone()), head.rows(part));
        let into: &mut [f32] = if first == 0 { &mut *dh } else { &mut more };
        let into = MatrixMut::new(into, rows, inputs);
        gemm::multiply(cpu.isa, cpu.products, dz, head, Start::Zero, Finish::default(), into);
        if first > 0 {
            rows::add_all(cpu.isa, &more, dh);
        }
    }
}

for_each_isa! {
    /// Loss of a row of logits; they become their own gradient where that is wanted.
    fn row(logits: &mut [f32], target: usize, scale: f32, differentiate: bool) -> f32 {
        let largest = lanes::largest(logits);
        let wanted = logits[target] - largest;
        let mut sum = 0.0f32;
        for part in logits.chunks_mut(PART) {
            for z in part.iter_mut() {
                *z = math::exp(*z - largest);
            }
            sum += lanes::sum(part, |lane: f32, e| lane + e);
        }
        if differentiate {
            let share = scale / sum;
            logits.iter_mut().for_each(|e| *e *= share);
            logits[target] -= scale;
        }
        math::ln(sum) - wanted
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{D, Tensor, Var};

    use super::*;
    use crate::{
        backend::Backend,
        cpu::{Isa, testkit},
    };

    /// By candle: losses, and gradients of hidden rows and head.
    fn plain(hidden: &[f32], weight: &[f32], shape: LinearShape, targets: Targets<'_>) -> [Vec<f32>; 3] {
        let device = candle_core::Device::Cpu;
        let var = |values: &[f32], shape: (usize, usize)| {
            Var::from_tensor(&Tensor::from_slice(values, shape, &device).unwrap()).unwrap()
        };
        let (h, w) = (var(hidden, (shape.rows, shape.inputs)), var(weight, (shape.outputs, shape.inputs)));
        let logits = h.matmul(&w.t().unwrap()).unwrap();
        let largest = logits.max_keepdim(D::Minus1).unwrap().detach();
        let shifted = logits.broadcast_sub(&largest).unwrap();
        let normaliser = shifted.exp().unwrap().sum(D::Minus1).unwrap().log().unwrap();
        let ids = Tensor::from_slice(targets.tokens, (shape.rows, 1), &device).unwrap();
        let losses = (normaliser - shifted.gather(&ids, 1).unwrap().squeeze(1).unwrap()).unwrap();
        let scales = Tensor::from_slice(targets.scales, shape.rows, &device).unwrap();
        let gradients = (&losses * scales).unwrap().sum_all().unwrap().backward().unwrap();
        let numbers = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        [
            numbers(&losses),
            numbers(gradients.get(h.as_tensor()).unwrap()),
            numbers(gradients.get(w.as_tensor()).unwrap()),
        ]
    }

    #[test]
    fn loss_and_gradients_are_those_of_whole_logits_however_rows_are_cut() {
        for (rows, inputs, outputs) in [(1, 1, 1), (3, 5, 7), (70, 9, 5000), (130, 4, 140_000)] {
            let shape = LinearShape { rows, inputs, outputs };
            let (hidden, weight) = (testkit::random(rows * inputs, 1), testkit::random(outputs * inputs, 2));
            let tokens: Vec<u32> = (0..rows).map(|i| (i * 7919 % outputs) as u32).collect();
            let scales: Vec<f32> = (0..rows).map(|i| 0.1 + (i % 3) as f32).collect();
            let targets = Targets { tokens: &tokens, scales: &scales };
            let cpu = Cpu::default();
            let (h, w) = (cpu.upload(&hidden).unwrap(), cpu.upload(&weight).unwrap());
            let (mut dh, mut dw) = (cpu.zeros(hidden.len()).unwrap(), cpu.zeros(weight.len()).unwrap());
            let gradients = HeadGradients { hidden: &mut dh, weight: Some((Store::Add, &mut dw)) };
            let losses = cpu.cross_entropy(shape, &h, &w, targets, Some(gradients)).unwrap();
            assert_eq!(losses, cpu.cross_entropy(shape, &h, &w, targets, None).unwrap());
            let [e_losses, e_dh, e_dw] = plain(&hidden, &weight, shape, targets);
            testkit::close("losses", &losses, &e_losses, 2e-5);
            testkit::close("gradient of hidden rows", &dh, &e_dh, 2e-5);
            testkit::close("gradient of the head", &dw, &e_dw, 2e-5);
        }
    }

    #[test]
    fn a_broken_logit_makes_a_broken_loss() {
        for broken in [f32::NAN, f32::INFINITY] {
            let mut logits = vec![0.0, broken, 1.0];
            assert!(!row(Isa::best(), &mut logits, 2, 1.0, true).is_finite(), "{broken}");
        }
    }
}
