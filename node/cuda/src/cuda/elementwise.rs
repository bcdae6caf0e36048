//! Every number by itself: additions, activations, AdamW. And the sum of squares.

use std::ops::Range;

use talkoot_trainer::{
    backend::{AdamWStep, Backend, Done},
    moments::eight_bit::{BLOCK, BLOCK_WORDS, packed_words},
};

use super::{
    Cuda,
    launch::{count, during, line},
};
use crate::{
    buffer::{Buffer, Place},
    class::Class,
    device::{Argument, Device},
    kernels::{
        ADAMW, ADAMW_EIGHT_BIT, ADD, GELU, GELU_BACKWARD, Kernel, SUMS_OF_SQUARES, SWIGLU, SWIGLU_BACKWARD,
    },
};

/// How moments are held and moved.
#[derive(Debug, Clone, Copy)]
struct Form {
    kernel: Kernel,
    /// Numbers that a block of threads moves.
    numbers_each: usize,
    /// Numbers that are held together, and the words that whole ones of them take.
    block: usize,
    block_words: usize,
}

/// Numbers whose squares are summed in one go. Part of the exact class.
const PART: usize = 65_536;

impl<D: Device, C: Class> Cuda<D, C> {
    /// A kernel that takes buffers of one length, and that length.
    fn each<const N: usize>(
        &self,
        operation: &'static str,
        kernel: Kernel,
        len: usize,
        buffers: [&Buffer<D>; N],
    ) -> Done {
        let mut arguments: Vec<_> = buffers.iter().map(|buffer| buffer.all().holding(len)).collect();
        arguments.push(count(len));
        self.run(operation, kernel, line(len, 256, 256), &arguments)
    }

    pub(super) fn add_all(&self, x: &Buffer<D>, y: &mut Buffer<D>) -> Done {
        self.each("add", ADD, y.len, [x, y])
    }

    pub(super) fn activate(&self, x: &Buffer<D>, y: &mut Buffer<D>) -> Done {
        self.each("gelu", GELU, x.len, [x, y])
    }

    pub(super) fn activate_backward(&self, x: &Buffer<D>, dy: &mut Buffer<D>) -> Done {
        self.each("gelu_backward", GELU_BACKWARD, x.len, [x, dy])
    }

    pub(super) fn gate(&self, gate: &Buffer<D>, up: &Buffer<D>, y: &mut Buffer<D>) -> Done {
        self.each("swiglu", SWIGLU, y.len, [gate, up, y])
    }

    pub(super) fn gate_backward(&self, gate: &mut Buffer<D>, up: &mut Buffer<D>, dy: &Buffer<D>) -> Done {
        self.each("swiglu_backward", SWIGLU_BACKWARD, dy.len, [gate, up, dy])
    }

    pub(super) fn optimise(
        &self,
        step: AdamWStep,
        keep: f32,
        gradient: &Buffer<D>,
        moments: [&mut Buffer<D>; 2],
        parameter: &mut Buffer<D>,
    ) -> Done {
        let AdamWStep { beta1, beta2, epsilon, step_size, root_correction, gradient_factor } = step;
        let numbers = [beta1, beta2, epsilon, step_size, root_correction, gradient_factor, keep];
        let form = Form { kernel: ADAMW, numbers_each: 256, block: 1, block_words: 1 };
        self.move_by(form, &numbers, gradient, moments, parameter)
    }

    /// The same with moments in eight bits.
    pub(super) fn optimise_eight_bit(
        &self,
        (step, keep, most): (AdamWStep, f32, f32),
        gradient: &Buffer<D>,
        moments: [&mut Buffer<D>; 2],
        parameter: &mut Buffer<D>,
    ) -> Done {
        let AdamWStep { beta1, beta2, epsilon, step_size, root_correction, gradient_factor } = step;
        let numbers = [beta1, beta2, epsilon, step_size, root_correction, gradient_factor, keep, most];
        // a block of threads goes through eight blocks of moments
        let form =
            Form { kernel: ADAMW_EIGHT_BIT, numbers_each: 8 * BLOCK, block: BLOCK, block_words: BLOCK_WORDS };
        self.move_by(form, &numbers, gradient, moments, parameter)
    }

    /// Moves a parameter, where its moments are on the device at once, and where they rest on the host in slices.
    fn move_by(
        &self,
        form: Form,
        numbers: &[f32],
        gradient: &Buffer<D>,
        [first, second]: [&mut Buffer<D>; 2],
        parameter: &Buffer<D>,
    ) -> Done {
        const NAME: &str = "adamw";
        let len = parameter.len;
        let words = len / form.block * form.block_words
            + if len.is_multiple_of(form.block) { 0 } else { packed_words(len % form.block) };
        assert_eq!([first.len, second.len], [words; 2], "moments of {len} numbers");
        let launch = |range: Range<usize>, moments: [Argument<'_, D::Memory>; 2]| {
            let [first, second] = moments;
            let mut arguments = vec![
                gradient.from(range.start).holding(range.len()),
                first,
                second,
                parameter.from(range.start).holding(range.len()),
                count(range.len()),
            ];
            arguments.extend(numbers.iter().copied().map(Argument::F32));
            self.run(NAME, form.kernel, line(range.len(), form.numbers_each, 256), &arguments)
        };
        match (&self.offload, &mut first.place, &mut second.place) {
            (Some(offload), Place::Host(first), Place::Host(second)) => {
                let each = offload.words() / form.block_words * form.block_words;
                offload.step(self.device(), NAME, [first, second], words, each, |slice, start, count| {
                    let numbers = |words: usize| words / form.block_words * form.block;
                    launch(numbers(start)..len.min(numbers(start + count + form.block_words - 1)), slice)
                })
            }
            _ => launch(0..len, [first.all().holding(words), second.all().holding(words)]),
        }
    }

    pub(super) fn squares(&self, x: &Buffer<D>) -> Done<f64> {
        const NAME: &str = "sum_of_squares";
        let parts = x.len.div_ceil(PART);
        if parts == 0 {
            return Ok(0.0);
        }
        // an f64 has the room of two f32
        let sums = self.scratch(2 * parts)?;
        let arguments = [x.all().holding(x.len), count(x.len), sums.all().holding(2 * parts)];
        self.run(NAME, SUMS_OF_SQUARES, line(parts, 16, 256), &arguments)?;
        let mut numbers = vec![0.0f64; parts];
        let bytes = bytemuck::cast_slice_mut(&mut numbers);
        self.device().download(sums.memory(), 0, bytes).map_err(during(NAME))?;
        Ok(numbers.iter().fold(0.0, |total, part| total + part))
    }
}
