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
    offload::Visitor,
};

/// Bytes of a word: an f32, or a scale, or four codes.
const WORD: usize = 4;

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

/// An operand of the optimiser.
enum Operand<'a, D: Device> {
    /// On the device.
    Here(&'a D::Memory),
    /// A visitor, by its number.
    Visits(usize),
}

impl<D: Device> Clone for Operand<'_, D> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<D: Device> Copy for Operand<'_, D> {}

impl<'a, D: Device> Operand<'a, D> {
    /// Its argument for a slice that begins at a word, where visitors are in these places of a slot.
    fn argument<'s>(self, places: &[usize], slot: &'s D::Memory, word: usize) -> Argument<'s, D::Memory>
    where
        'a: 's,
    {
        match self {
            Self::Here(memory) => Argument::Memory(memory, word * WORD),
            Self::Visits(place) => Argument::Memory(slot, places[place]),
        }
    }

    /// Its argument where everything is on the device.
    fn whole(self) -> Argument<'a, D::Memory> {
        match self {
            Self::Here(memory) => Argument::Memory(memory, 0),
            Self::Visits(_) => unreachable!("nothing rests where nothing is offloaded"),
        }
    }
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

    /// Moves a parameter: at once where its gradient and moments are on the device, and where some rest on the host in slices.
    fn move_by(
        &self,
        form: Form,
        numbers: &[f32],
        gradient: &Buffer<D>,
        [first, second]: [&mut Buffer<D>; 2],
        parameter: &Buffer<D>,
    ) -> Done {
        const NAME: &str = "adamw";
        let Form { kernel, numbers_each, block, block_words } = form;
        let len = parameter.len;
        let words =
            len / block * block_words + if len.is_multiple_of(block) { 0 } else { packed_words(len % block) };
        assert_eq!([first.len, second.len], [words; 2], "moments of {len} numbers");
        assert_eq!(gradient.len, len, "a gradient of {len} numbers");
        let mut visitors = Vec::new();
        let mut visit = |visitor| {
            visitors.push(visitor);
            Operand::Visits(visitors.len() - 1)
        };
        let gradient: Operand<'_, D> = match &gradient.place {
            Place::Away(away) => visit(Visitor::gradient(away, block * WORD, len * WORD)),
            _ => Operand::Here(gradient.memory()),
        };
        let [first, second]: [Operand<'_, D>; 2] = [first, second].map(|moment| match &mut moment.place {
            Place::Host(moment) => visit(Visitor::moment(moment, block_words * WORD, words * WORD)),
            Place::Device(lent) => Operand::Here(lent.memory()),
            Place::Half(_) | Place::Away(_) => {
                unreachable!("moments are on the device, or rest all the time")
            }
        });
        let launch = |range: Range<usize>, operands: [Argument<'_, D::Memory>; 3]| {
            let [gradient, first, second] = operands;
            let parameter = parameter.from(range.start).holding(range.len());
            let mut arguments = vec![gradient, first, second, parameter, count(range.len())];
            arguments.extend(numbers.iter().copied().map(Argument::F32));
            self.run(NAME, kernel, line(range.len(), numbers_each, 256), &arguments)
        };
        match &self.offload {
            Some(offload) if !visitors.is_empty() => {
                let move_slice = |places: &[usize], slot: &D::Memory, start: usize, blocks: usize| {
                    let operands = [
                        gradient.argument(places, slot, start * block),
                        first.argument(places, slot, start * block_words),
                        second.argument(places, slot, start * block_words),
                    ];
                    launch(start * block..len.min((start + blocks) * block), operands)
                };
                offload.step(self.device(), NAME, visitors, len.div_ceil(block), move_slice)
            }
            _ => launch(0..len, [gradient, first, second].map(Operand::whole)),
        }
    }

    pub(super) fn squares(&self, x: &Buffer<D>) -> Done<f64> {
        const NAME: &str = "sum_of_squares";
        // a step's backward is over: nothing more leaves
        if let Some(rest) = &self.rest {
            rest.settle().map_err(during(NAME))?;
        }
        let numbers = if let Place::Away(away) = &x.place {
            // they were summed when they went
            away.squares().map_err(during(NAME))?
        } else {
            let sums = self.parts_of_squares(NAME, x)?;
            let mut numbers = vec![0.0f64; sums.len / 2];
            if !numbers.is_empty() {
                let bytes = bytemuck::cast_slice_mut(&mut numbers);
                self.device().download(sums.memory(), 0, bytes).map_err(during(NAME))?;
            }
            numbers
        };
        Ok(numbers.iter().fold(0.0, |total, part| total + part))
    }

    /// Sums of squares of every part, as f64, each in the room of two f32.
    pub(crate) fn parts_of_squares(&self, operation: &'static str, x: &Buffer<D>) -> Done<Buffer<D>> {
        let parts = x.len.div_ceil(PART);
        let sums = self.scratch(2 * parts)?;
        if parts > 0 {
            let arguments = [x.all().holding(x.len), count(x.len), sums.all().holding(2 * parts)];
            self.run(operation, SUMS_OF_SQUARES, line(parts, 16, 256), &arguments)?;
        }
        Ok(sums)
    }
}
