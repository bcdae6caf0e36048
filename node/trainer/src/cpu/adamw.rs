//! One step of AdamW, in place.
//!
//! ```text
//! g = factor * gradient      m = beta1 m + (1 - beta1) g      v = beta2 v + (1 - beta2) g g
//! parameter = parameter * keep - step_size * (m / (sqrt(v) / root_correction + epsilon))
//! ```
//!
//! Nothing is fused, products from the left. Source: Loshchilov and Hutter, arXiv 1711.05101; order of operations as in
//! `torch.optim.AdamW`.

use rayon::prelude::*;

use super::{
    isa::{Isa, for_each_isa},
    rows::parallel::numbers_of_task,
};
use crate::backend::AdamWStep;

/// Moves the moments `first` and `second` and the parameter.
pub(super) fn step(
    isa: Isa,
    step: AdamWStep,
    keep: f32,
    gradient: &[f32],
    first: &mut [f32],
    second: &mut [f32],
    parameter: &mut [f32],
) {
    let part = numbers_of_task(parameter.len());
    let moments = first.par_chunks_mut(part).zip(second.par_chunks_mut(part));
    let parts = parameter.par_chunks_mut(part).zip(gradient.par_chunks(part)).zip(moments);
    parts.for_each(|((parameter, gradient), (first, second))| {
        step_part(isa, step, keep, gradient, first, second, parameter);
    });
}

for_each_isa! {
    fn step_part(
        step: AdamWStep,
        keep: f32,
        gradient: &[f32],
        first: &mut [f32],
        second: &mut [f32],
        parameter: &mut [f32],
    ) {
        let AdamWStep { beta1, beta2, epsilon, step_size, root_correction, gradient_factor } = step;
        let (fresh1, fresh2) = (1.0 - beta1, 1.0 - beta2);
        let moments = first.iter_mut().zip(second);
        for ((p, g), (m, v)) in parameter.iter_mut().zip(gradient).zip(moments) {
            let g = gradient_factor * g;
            *m = beta1 * *m + fresh1 * g;
            *v = beta2 * *v + fresh2 * g * g;
            *p = *p * keep - step_size * (*m / (v.sqrt() / root_correction + epsilon));
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Result, Tensor};

    use super::*;
    use crate::cpu::testkit::{random, same_bits_everywhere};

    const STEP: AdamWStep = AdamWStep {
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        step_size: 1e-2,
        root_correction: 0.7,
        gradient_factor: 0.25,
    };

    /// Parameter and both moments after a step.
    fn stepped(isa: Isa, len: usize) -> Vec<Vec<f32>> {
        let gradient = random(len, 1);
        let (mut first, mut parameter) = (random(len, 2), random(len, 3));
        let mut second: Vec<f32> = random(len, 4).iter().map(|x| x * x).collect();
        step(isa, STEP, 0.999, &gradient, &mut first, &mut second, &mut parameter);
        vec![parameter, first, second]
    }

    /// The same step from candle's operations, each of which rounds once.
    fn plain(step: AdamWStep, keep: f32, [g, m, v, p]: [&Tensor; 4]) -> Result<[Tensor; 3]> {
        let times = |x: &Tensor, factor: f32| x * &Tensor::full(factor, x.shape(), x.device())?;
        let g = times(g, step.gradient_factor)?;
        let m = (times(m, step.beta1)? + times(&g, 1.0 - step.beta1)?)?;
        let v = (times(v, step.beta2)? + (times(&g, 1.0 - step.beta2)? * &g)?)?;
        let root = (v.sqrt()? / Tensor::full(step.root_correction, v.shape(), v.device())?)?;
        let ratio = (&m / (&root + Tensor::full(step.epsilon, v.shape(), v.device())?)?)?;
        let p = (times(p, keep)? - times(&ratio, step.step_size)?)?;
        Ok([p, m, v])
    }

    #[test]
    fn it_is_the_plain_form_to_the_bit() {
        for len in [1, 7, 13, 96, 257, 5000] {
            let gradient = random(len, 1);
            let second: Vec<f32> = random(len, 4).iter().map(|x| x * x).collect();
            let tensor = |x: &[f32]| Tensor::from_slice(x, x.len(), &Device::Cpu).unwrap();
            let (g, m, v, p) =
                (tensor(&gradient), tensor(&random(len, 2)), tensor(&second), tensor(&random(len, 3)));
            let expected = plain(STEP, 0.999, [&g, &m, &v, &p]).unwrap();
            for (ours, expected) in stepped(Isa::best(), len).iter().zip(expected) {
                assert_eq!(*ours, expected.to_vec1::<f32>().unwrap(), "{len} numbers");
            }
        }
    }

    #[test]
    fn it_is_the_formula_in_f64_up_to_rounding() {
        let ours = stepped(Isa::best(), 500);
        let [gradient, first, parameter, root] = [1, 2, 3, 4].map(|seed| random(500, seed));
        for i in 0..500 {
            let g = 0.25 * f64::from(gradient[i]);
            let m = 0.9 * f64::from(first[i]) + 0.1 * g;
            let v = 0.95 * f64::from(root[i]).powi(2) + 0.05 * g * g;
            let p = f64::from(parameter[i]) * 0.999 - 1e-2 * (m / (v.sqrt() / 0.7 + 1e-8));
            for (ours, expected) in [(ours[0][i], p), (ours[1][i], m), (ours[2][i], v)] {
                assert!((f64::from(ours) - expected).abs() < 1e-6, "{ours} instead of {expected} at {i}");
            }
        }
    }

    #[test]
    fn a_parameter_that_never_had_a_gradient_only_decays() {
        let (mut first, mut second, mut parameter) = ([0.0], [0.0], [2.0]);
        step(Isa::best(), STEP, 0.5, &[0.0], &mut first, &mut second, &mut parameter);
        assert_eq!((first, second, parameter), ([0.0], [0.0], [1.0]));
    }

    #[test]
    fn bits_are_the_same_everywhere() {
        same_bits_everywhere("adamw", |isa| stepped(isa, 100_003));
    }
}
