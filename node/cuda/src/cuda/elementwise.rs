//! Every number by itself: additions, activations, AdamW. And the sum of squares.

use talkoot_trainer::backend::{AdamWStep, Backend, Done};

use super::{
    Cuda,
    launch::{count, during, line},
};
use crate::{
    buffer::Buffer,
    class::Class,
    device::{Argument, Device},
    kernels::{ADAMW, ADD, GELU, GELU_BACKWARD, Kernel, SUMS_OF_SQUARES, SWIGLU, SWIGLU_BACKWARD},
};

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
        first: &mut Buffer<D>,
        second: &mut Buffer<D>,
        parameter: &mut Buffer<D>,
    ) -> Done {
        let AdamWStep { beta1, beta2, epsilon, step_size, root_correction, gradient_factor } = step;
        let len = parameter.len;
        let numbers = [beta1, beta2, epsilon, step_size, root_correction, gradient_factor, keep];
        let mut arguments = vec![
            gradient.all().holding(len),
            first.all().holding(len),
            second.all().holding(len),
            parameter.all().holding(len),
            count(len),
        ];
        arguments.extend(numbers.map(Argument::F32));
        self.run("adamw", ADAMW, line(len, 256, 256), &arguments)
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
