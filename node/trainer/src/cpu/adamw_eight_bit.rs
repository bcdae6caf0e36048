//! One step of AdamW, in place, whose moments are packed in eight bits.
//!
//! A block is made numbers, moved as [`super::adamw`] moves them, and packed again; the parameter is moved by what the
//! moments are before they are packed.

use rayon::prelude::*;

use super::{
    isa::{Isa, for_each_isa},
    rows::parallel::numbers_of_task,
};
use crate::{
    backend::AdamWStep,
    moments::eight_bit::{BLOCK, BLOCK_WORDS, Side, packed_words},
};

/// The numbers of a step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub(super) step: AdamWStep,
    pub(super) keep: f32,
    pub(super) most: f32,
}

/// Moves the packed moments `first` and `second` and the parameter.
pub(super) fn step(
    isa: Isa,
    step: Step,
    gradient: &[f32],
    first: &mut [f32],
    second: &mut [f32],
    parameter: &mut [f32],
) {
    // whole blocks, or all
    let part = numbers_of_task(parameter.len());
    let words = packed_words(part);
    let moments = first.par_chunks_mut(words).zip(second.par_chunks_mut(words));
    let parts = parameter.par_chunks_mut(part).zip(gradient.par_chunks(part)).zip(moments);
    parts.for_each(|((parameter, gradient), (first, second))| {
        step_part(isa, step, gradient, first, second, parameter);
    });
}

for_each_isa! {
    fn step_part(
        step: Step,
        gradient: &[f32],
        first: &mut [f32],
        second: &mut [f32],
        parameter: &mut [f32],
    ) {
        let Step { step, keep, most } = step;
        let AdamWStep { beta1, beta2, epsilon, step_size, root_correction, gradient_factor } = step;
        let (fresh1, fresh2) = (1.0 - beta1, 1.0 - beta2);
        let moments = first.chunks_mut(BLOCK_WORDS).zip(second.chunks_mut(BLOCK_WORDS));
        let blocks = parameter.chunks_mut(BLOCK).zip(gradient.chunks(BLOCK)).zip(moments);
        for ((parameter, gradient), (first, second)) in blocks {
            let (mut m, mut v) = ([0.0; BLOCK], [0.0; BLOCK]);
            let (m, v) = (&mut m[..parameter.len()], &mut v[..parameter.len()]);
            Side::First.unpack_block(first, m);
            Side::Second.unpack_block(second, v);
            for ((p, g), (m, v)) in parameter.iter_mut().zip(gradient).zip(m.iter_mut().zip(v.iter_mut())) {
                let g = gradient_factor * g;
                *m = beta1 * *m + fresh1 * g;
                *v = beta2 * *v + fresh2 * g * g;
                let ratio = *m / (v.sqrt() / root_correction + epsilon);
                // written so that NaN stays NaN
                let ratio = if ratio < -most { -most } else { ratio };
                let ratio = if ratio > most { most } else { ratio };
                *p = *p * keep - step_size * ratio;
            }
            Side::First.pack_block(m, first);
            Side::Second.pack_block(v, second);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{
        adamw,
        testkit::{random, same_bits_everywhere},
    };

    const STEP: Step = Step {
        step: AdamWStep {
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            step_size: 1e-2,
            root_correction: 0.7,
            gradient_factor: 0.25,
        },
        keep: 0.999,
        most: 1.5,
    };

    /// Gradient, moments and parameter to begin with.
    fn start(len: usize) -> [Vec<f32>; 4] {
        let second: Vec<f32> = random(len, 4).iter().map(|x| x * x).collect();
        [random(len, 1), random(len, 2), second, random(len, 3)]
    }

    /// Parameter and both packed moments after two steps.
    fn stepped(isa: Isa, len: usize) -> Vec<Vec<f32>> {
        let [gradient, first, second, mut parameter] = start(len);
        let (mut first, mut second) = (Side::First.pack(&first), Side::Second.pack(&second));
        for _ in 0..2 {
            step(isa, STEP, &gradient, &mut first, &mut second, &mut parameter);
        }
        // a word of codes is any bits, also those of a NaN, which all count as equal
        let halves = |words: Vec<f32>| -> Vec<f32> {
            words
                .iter()
                .flat_map(|word| [word.to_bits() >> 16, word.to_bits() & 0xffff])
                .map(|x| x as f32)
                .collect()
        };
        vec![parameter, halves(first), halves(second)]
    }

    #[test]
    fn it_is_a_step_on_numbers_between_unpacking_and_packing() {
        for len in [1, 3, 4, 255, 256, 257, 5000] {
            let [gradient, first, second, mut parameter] = start(len);
            let (mut m, mut v) = (Side::First.round(&first), Side::Second.round(&second));
            let mut expected = parameter.clone();
            adamw::step(Isa::best(), STEP.step, STEP.keep, &gradient, &mut m, &mut v, &mut expected);
            let (mut first, mut second) = (Side::First.pack(&first), Side::Second.pack(&second));
            let unbounded = Step { most: f32::INFINITY, ..STEP };
            step(Isa::best(), unbounded, &gradient, &mut first, &mut second, &mut parameter);
            assert_eq!(parameter, expected, "{len} numbers");
            assert_eq!(Side::First.unpack(&first, len), Side::First.round(&m));
            assert_eq!(Side::Second.unpack(&second, len), Side::Second.round(&v));
        }
    }

    #[test]
    fn a_step_is_held_to_its_bound_on_both_sides() {
        // a first moment that the second one, rounded, does not explain
        for sign in [1.0f32, -1.0] {
            let (mut first, mut second) = (Side::First.pack(&[sign; 3]), Side::Second.pack(&[1e-6; 3]));
            let mut parameter = [0.0; 3];
            let step_size = STEP.step.step_size;
            step(Isa::best(), STEP, &[0.0; 3], &mut first, &mut second, &mut parameter);
            assert_eq!(parameter, [-sign * step_size * STEP.most; 3]);
        }
    }

    #[test]
    fn bits_are_the_same_everywhere() {
        same_bits_everywhere("adamw with moments in eight bits", |isa| stepped(isa, 100_003));
    }
}
