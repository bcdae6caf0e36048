//! What operations take for themselves while they run.

use crate::backend::{Attention, LinearShape};
use crate::cpu;

/// A device's habits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rooms {
    /// The processor with so many threads.
    Cpu { threads: usize },
    /// A GPU: what its operations take is found by its own code, in `talkoot-cuda`.
    Gpu,
}

/// Logits that a GPU holds at a time, in numbers: 256 MiB. With fewer rows at a time reading the head would cost more
/// than the products.
pub const GPU_LOGITS: usize = 1 << 26;

/// Words of four bytes of each moment in a slice that comes from the host and goes back: 16 MiB of each, a millisecond of a
/// bus's time, next to which starting a copy is nothing.
pub const SLICE_WORDS: usize = 4 << 20;

/// Slices on the device at a time: one comes, one is worked on, one goes.
pub const SLOTS: usize = 3;

/// Rows of hidden states whose logits a GPU holds at a time.
pub fn gpu_logit_rows(vocabulary: usize, rows: usize) -> usize {
    const FEWEST: usize = 128;
    (GPU_LOGITS / vocabulary.max(1)).max(FEWEST).min(rows)
}

impl Rooms {
    /// Of the forward, where `results` is the number of outputs and statistics.
    pub(super) fn attention(self, attention: &Attention<'_>, results: usize) -> usize {
        match self {
            // results are made apart and then put down; packed keys and values, and scores of a tile, per thread
            Self::Cpu { threads } => results + threads * cpu_task(attention, 1),
            Self::Gpu => 0,
        }
    }

    /// Of the backward, where `results` is the number of gradients.
    pub(super) fn attention_backward(self, attention: &Attention<'_>, results: usize) -> usize {
        match self {
            Self::Cpu { threads } => results + threads * cpu_task(attention, 2),
            Self::Gpu => 0,
        }
    }

    /// Of the head with its loss.
    pub(super) fn head(self, LinearShape { rows, inputs, outputs }: LinearShape) -> usize {
        match self {
            Self::Cpu { .. } => cpu::head_room(rows, inputs, outputs),
            Self::Gpu => 0,
        }
    }
}

/// Numbers that a thread holds in its longest segment: `tiles` tiles of scores, keys and values packed.
fn cpu_task(attention: &Attention<'_>, tiles: usize) -> usize {
    let keys = attention.segments.iter().map(|segment| segment.keys.len()).max().unwrap_or(0);
    keys * (tiles * cpu::ATTENTION_TILE + (1 + tiles) * attention.width)
}
