//! Products by a library, where the device has one: operands are rounded to bf16 beforehand, by the same rule as in our own
//! kernels, so that sums differ in their order alone. Weights that are held as bf16 are operands as they are.

#![allow(unsafe_code, reason = "a product is only as safe as its operands, which are checked here")]

use talkoot_trainer::backend::{BackendError, Done};

use super::Fast;
use crate::{
    buffer::Lent,
    cuda::launch::{Part, count, line},
    device::{Argument, Device},
    kernels::ROUND_TO_BF16,
    multiply::{Description, Operands},
};

/// Bytes of a number in bf16.
const BYTES: usize = 2;

/// An operand of a product: numbers, and the same in bf16 where somebody has made them already.
#[derive(Debug)]
pub(super) struct Operand<'a, D: Device> {
    pub(super) part: Part<'a, D>,
    pub(super) rounded: Option<&'a Lent<D>>,
}

impl<D: Device> Clone for Operand<'_, D> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<D: Device> Copy for Operand<'_, D> {}

impl<'a, D: Device> From<Part<'a, D>> for Operand<'a, D> {
    fn from(part: Part<'a, D>) -> Self {
        Self { part, rounded: None }
    }
}

/// Where an operand stands in bf16: as it is, or made beforehand, or made now.
fn in_bf16<'a, D: Device>(
    (operand, len): (Operand<'a, D>, usize),
    own: &'a Option<Lent<D>>,
) -> Option<(&'a D::Memory, usize)> {
    let made = operand.rounded.or(own.as_ref());
    operand.part.halves(len).or_else(|| made.map(|lent| (lent.memory(), 0)))
}

/// What a result is made with.
pub(super) struct Into<'a, D: Device> {
    pub(super) bias: Option<Part<'a, D>>,
    /// What is added: what stands in the result's place, or another matrix.
    pub(super) added: Option<Part<'a, D>>,
    pub(super) result: Part<'a, D>,
}

impl<D: Device> Fast<D> {
    /// The first `len` numbers in bf16. None where no library wants them, they are bf16 as they are, or there is no room.
    pub(super) fn rounded(&self, part: Part<'_, D>, len: usize) -> Done<Option<Lent<D>>> {
        const NAME: &str = "rounding for a product";
        if !self.class().has_library() || part.halves(len).is_some() {
            return Ok(None);
        }
        // The kernel writes two at a time.
        let lent = match self.scratch_bytes(NAME, len.next_multiple_of(2) * BYTES) {
            // our own kernels need no such copy, so that a model which fits without the library fits with it
            Err(BackendError::OutOfMemory { .. }) => return Ok(None),
            lent => lent?,
        };
        let arguments = [part.holding(len), count(len), Argument::Memory(lent.memory(), 0)];
        self.run(NAME, ROUND_TO_BF16, line(len.div_ceil(2), 256, 256), &arguments)?;
        Ok(Some(lent))
    }

    /// Does a product by the library; `false` where it has none or no way, or fails, or there is no room. `first` and
    /// `second` are our operands with their lengths.
    pub(super) fn by_library(
        &self,
        product: &Description,
        [first, second]: [(Operand<'_, D>, usize); 2],
        into: &Into<'_, D>,
    ) -> Done<bool> {
        if !self.class().has_library() || [product.m, product.n, product.k].contains(&0) {
            return Ok(false);
        }
        let made = |(operand, len): (Operand<'_, D>, usize)| match operand.rounded {
            Some(_) => Ok(None),
            None => self.rounded(operand.part, len),
        };
        let (own_first, own_second) = (made(first)?, made(second)?);
        let (Some(first), Some(second)) = (in_bf16(first, &own_first), in_bf16(second, &own_second)) else {
            return Ok(false);
        };
        let results = (product.m * product.n) as usize;
        let at = |part: Part<'_, D>, len| {
            let Part { buffer, start } = part;
            assert!(start + len <= buffer.len, "{len} numbers from {start} on, of {}", buffer.len);
            start * size_of::<f32>()
        };
        let operands = Operands {
            a: second,
            b: first,
            bias: into.bias.map(|bias| (bias.buffer.memory(), at(bias, product.m as usize))),
            c: into.added.map(|added| (added.buffer.memory(), at(added, results))),
            d: (into.result.buffer.memory(), at(into.result, results)),
        };
        // SAFETY: the copies hold all of their operands, which the rounding has checked; the others are checked above.
        match unsafe { self.device().multiply(product, &operands) } {
            Ok(done) => Ok(done),
            Err(error) => {
                self.class().give_up(&error);
                Ok(false)
            }
        }
    }
}
