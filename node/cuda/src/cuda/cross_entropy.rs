//! Head and loss in one, in parts of a few rows.

use talkoot_trainer::backend::{Backend, Done, HeadGradients, LinearShape, Store, Targets};

use super::{
    Cuda,
    launch::{line, size},
    product::Product,
};
use crate::{
    buffer::Buffer,
    device::{Argument, Device},
    kernels::CROSS_ENTROPY,
};

/// Terms of a sum over the vocabulary that are summed before they are added to the rest. Part of the exact class.
const PART: usize = 4096;
/// Logits that exist at a time: 128 MiB. How many rows go together decides nothing about the bits.
const LOGITS: usize = 1 << 25;

const NAME: &str = "cross_entropy";

impl<D: Device> Cuda<D> {
    pub(crate) fn head_and_loss(
        &self,
        shape: LinearShape,
        hidden: &Buffer<D>,
        weight: &Buffer<D>,
        targets: Targets<'_>,
        mut gradients: Option<HeadGradients<'_, Buffer<D>>>,
    ) -> Done<Vec<f32>> {
        let LinearShape { rows, inputs, outputs } = shape;
        assert_eq!((targets.tokens.len(), targets.scales.len()), (rows, rows), "a target for every row");
        assert!(
            targets.tokens.iter().all(|&token| (token as usize) < outputs),
            "targets below the vocabulary"
        );
        if rows == 0 {
            return Ok(Vec::new());
        }
        let together = (LOGITS / outputs.max(1)).max(1).min(rows);
        let (logits, losses) = (self.scratch(together * outputs)?, self.scratch(rows)?);
        let (tokens, scales) = (self.indices(NAME, targets.tokens)?, self.upload(targets.scales)?);
        for first in (0..rows).step_by(together) {
            let count = together.min(rows - first);
            let part = hidden.from(first * inputs);
            let sizes = Product { rows: count, depth: inputs, columns: outputs, store: Store::Replace };
            self.product_nt(NAME, sizes, part, weight.all(), None, None, logits.all())?;
            let arguments = [
                logits.all().holding(count * outputs),
                Argument::Memory(tokens.memory(), first * size_of::<u32>()),
                scales.from(first).holding(count),
                losses.from(first).holding(count),
                size(outputs),
                Argument::U32(u32::from(gradients.is_some())),
            ];
            self.run(NAME, CROSS_ENTROPY, line(count, 1, 256), &arguments)?;
            let Some(gradients) = &mut gradients else { continue };
            self.hidden_gradient((count, inputs, outputs), &logits, weight, gradients.hidden, first)?;
            if let Some((store, dweight)) = &mut gradients.weight {
                let store = std::mem::replace(store, Store::Add);
                let sizes = Product { rows: outputs, depth: count, columns: inputs, store };
                self.product_tn(NAME, sizes, logits.all(), part, dweight.all())?;
            }
        }
        self.download(&losses)
    }

    /// `dh = dz W` for rows from `first` on, in parts of the vocabulary, which are added in order.
    fn hidden_gradient(
        &self,
        (rows, inputs, outputs): (usize, usize, usize),
        dz: &Buffer<D>,
        weight: &Buffer<D>,
        dh: &Buffer<D>,
        first: usize,
    ) -> Done {
        let into = dh.from(first * inputs);
        for part in (0..outputs).step_by(PART) {
            let depth = PART.min(outputs - part);
            let sizes = Product { rows, depth, columns: inputs, store: Store::Replace };
            let before = (part > 0).then_some(into);
            self.product_nn(NAME, sizes, dz.from(part), outputs, weight.from(part * inputs), before, into)?;
        }
        Ok(())
    }
}
