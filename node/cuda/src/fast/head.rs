//! Head and loss together, some rows at a time, so that the logits of a whole pack never exist.

use talkoot_trainer::{
    backend::{Backend, Done, HeadGradients, LinearShape, Store, Targets},
    plan::gpu_logit_rows,
};

use super::{Fast, library::Operand};
use crate::{
    buffer::Buffer,
    cuda::launch::{line, size},
    device::{Argument, Device},
    kernels::FAST_CROSS_ENTROPY,
};

const NAME: &str = "head and loss";

impl<D: Device> Fast<D> {
    pub(super) fn head_and_loss_in_bf16(
        &self,
        shape: LinearShape,
        hidden: &Buffer<D>,
        weight: &Buffer<D>,
        targets: Targets<'_>,
        mut gradients: Option<HeadGradients<'_, Buffer<D>>>,
    ) -> Done<Vec<f32>> {
        let LinearShape { rows, inputs, outputs } = shape;
        if rows == 0 {
            return Ok(Vec::new());
        }
        assert!(targets.tokens.len() == rows && targets.scales.len() == rows, "a target for every row");
        assert!(
            targets.tokens.iter().all(|&token| (token as usize) < outputs),
            "targets below the vocabulary"
        );
        let together = gpu_logit_rows(outputs, rows);
        let (logits, losses) = (self.scratch(together * outputs)?, self.scratch(rows)?);
        let (tokens, scales) = (self.indices(NAME, targets.tokens)?, self.upload(targets.scales)?);
        let rounded = self.rounded(weight.all(), outputs * inputs)?;
        let head = Operand { part: weight.all(), rounded: rounded.as_ref() };
        for first in (0..rows).step_by(together) {
            let part = LinearShape { rows: together.min(rows - first), inputs, outputs };
            let here = hidden.from(first * inputs);
            self.logits(part, here, head, &logits)?;
            let arguments = [
                logits.all().holding(part.rows * outputs),
                size(outputs),
                Argument::Memory(tokens.memory(), first * size_of::<u32>()),
                scales.from(first).holding(part.rows),
                Argument::U32(u32::from(gradients.is_some())),
                losses.from(first).holding(part.rows),
            ];
            self.run(NAME, FAST_CROSS_ENTROPY, line(part.rows, 1, 256), &arguments)?;
            let Some(gradients) = &mut gradients else { continue };
            let into = gradients.hidden.from(first * inputs);
            self.input_gradient(part, logits.all(), head, Store::Replace, into)?;
            if let Some((store, dweight)) = &mut gradients.weight {
                let store = std::mem::replace(store, Store::Add);
                self.weight_gradient(part, here, logits.all(), store, dweight)?;
            }
        }
        self.download(&losses)
    }
}
