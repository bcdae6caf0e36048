//! What training consumes: packs of samples with their pictures, and where they come from.

use crate::config::ModelConfig;

mod check;

pub use check::PackError;

/// Label of a position that is not learned.
pub const NOT_LEARNED: i64 = -100;

/// One packed sequence: whole samples in a row, none of which sees another.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pack {
    /// Token ids of all samples, in order.
    pub tokens: Vec<u32>,
    /// For every token its own id where it is learned, [`NOT_LEARNED`] where not (unshifted: the model shifts).
    pub labels: Vec<i64>,
    /// Tokens of each sample; their sum is the length of `tokens`.
    pub sample_lengths: Vec<u32>,
    /// Pictures of all samples, in order of their image tokens.
    pub images: Vec<Image>,
}

/// A decoded picture that already has its final size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Columns of pixels; a multiple of patch size times merge size (28).
    pub width: u32,
    /// Rows of pixels; a multiple of the same.
    pub height: u32,
    /// Red, green, blue, row by row: `3 * width * height` bytes.
    pub rgb: Vec<u8>,
}

impl Image {
    /// Rows that this picture takes in the sequence: one per 2x2 patches.
    pub fn tokens(&self, config: &ModelConfig) -> usize {
        let pixels = config.vision.token_pixels();
        (self.width as usize / pixels) * (self.height as usize / pixels)
    }
}

impl Pack {
    /// Positions that count in the loss: labelled ones that have a predecessor in their sample.
    pub fn learned_tokens(&self) -> u64 {
        let mut start = 0;
        let mut learned = 0;
        for &length in &self.sample_lengths {
            let end = (start + length as usize).min(self.labels.len());
            let labels = self.labels.get(start + 1..end).unwrap_or_default();
            learned += labels.iter().filter(|&&label| label != NOT_LEARNED).count() as u64;
            start = end;
        }
        learned
    }

    /// Checks the pack against a model before anything is built from it.
    ///
    /// # Errors
    ///
    /// [`PackError`] with the place of the first thing that is not right.
    pub fn check(&self, config: &ModelConfig) -> Result<(), PackError> {
        check::check(self, config)
    }
}

/// Why a source has no pack to give.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// There is no pack with this index.
    #[error("there is no pack {index}: the source has {packs}")]
    OutOfRange {
        /// The index that was asked for.
        index: u64,
        /// How many there are.
        packs: u64,
    },
    /// The pack should be there and cannot be read.
    #[error("pack {index} cannot be read: {reason}")]
    Unreadable {
        /// The index that was asked for.
        index: u64,
        /// What went wrong, from whoever reads.
        reason: String,
    },
}

/// Gives packs by index; the same index always gives the same pack. Packs are asked for by a thread that prepares them while
/// others compute.
pub trait BatchSource: Sync {
    /// The pack with this index.
    ///
    /// # Errors
    ///
    /// [`BatchError`] when there is none or it cannot be read.
    fn pack(&self, index: u64) -> Result<Pack, BatchError>;

    /// Says which packs will be asked for, in order, so that a source can make them ready. It changes times, never a
    /// pack; an earlier plan is forgotten.
    fn plan(&self, _packs: &[u64]) {}
}

/// Packs that are in memory: index `i` is the element `i`.
impl BatchSource for [Pack] {
    fn pack(&self, index: u64) -> Result<Pack, BatchError> {
        let found = usize::try_from(index).ok().and_then(|at| self.get(at));
        found.cloned().ok_or(BatchError::OutOfRange { index, packs: self.len() as u64 })
    }
}

/// Packs that are in memory: index `i` is the element `i`.
impl BatchSource for Vec<Pack> {
    fn pack(&self, index: u64) -> Result<Pack, BatchError> {
        self.as_slice().pack(index)
    }
}
