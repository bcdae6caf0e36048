//! What was not sent, and waits for the next round.

use talkoot_protocol::digest::Digest;

use super::{FLUSH_BELOW, Layout, MAX_SCALE};

const MAGIC: &[u8; 8] = b"TKFEEDv1";

/// A member's error feedback: one f32 per trained element.
///
/// It carries over between rounds, so its root is committed before and after each: see [`Self::root`].
#[derive(Debug, Clone, PartialEq)]
pub struct ErrorFeedback {
    layout: Digest,
    tensors: Vec<Vec<f32>>,
}

/// Why bytes are not the error feedback of a layout.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FeedbackError {
    /// The length is not that of the layout's feedback.
    #[error("the error feedback of this layout has {expected} bytes, got {got}")]
    Length {
        /// Bytes for the layout.
        expected: u64,
        /// Bytes given.
        got: u64,
    },
    /// The first bytes are not those of an error feedback, version 1.
    #[error("not an error feedback of version 1: it starts with {got:02x?}")]
    Magic {
        /// The first eight bytes.
        got: [u8; 8],
    },
    /// It belongs to another layout.
    #[error(
        "the error feedback belongs to layout {got}, expected {expected}: start again from zero, or resynchronise"
    )]
    Layout {
        /// Digest of the layout asked for.
        expected: Digest,
        /// Digest found.
        got: Digest,
    },
    /// A value that encoding never leaves: no number, too large, too small, or a negative zero.
    #[error(
        "tensor {tensor}, element {element}: {value:e} is not a value that encoding leaves in a feedback"
    )]
    Value {
        /// Which tensor.
        tensor: usize,
        /// Which of its elements.
        element: usize,
        /// The value.
        value: f32,
    },
}

impl ErrorFeedback {
    /// Bytes before the values: magic, then the layout's digest.
    pub const HEADER_BYTES: usize = 40;

    /// The feedback of a member that has sent nothing yet.
    pub fn zero(layout: &Layout) -> Self {
        Self {
            layout: layout.digest(),
            tensors: layout.tensors().iter().map(|(_, n)| vec![0.0; *n as usize]).collect(),
        }
    }

    /// Digest of the layout it belongs to.
    pub fn layout(&self) -> Digest {
        self.layout
    }

    /// The values, tensor by tensor in the layout's order.
    pub fn tensors(&self) -> &[Vec<f32>] {
        &self.tensors
    }

    /// Puts other values in the place of all.
    ///
    /// # Panics
    ///
    /// When they have not the same lengths.
    pub fn replace(&mut self, tensors: Vec<Vec<f32>>) {
        assert!(
            tensors.iter().map(Vec::len).eq(self.tensors.iter().map(Vec::len)),
            "values of the same layout"
        );
        self.tensors = tensors;
    }

    pub(super) fn tensors_mut(&mut self) -> &mut [Vec<f32>] {
        &mut self.tensors
    }

    /// Canonical bytes: `"TKFEEDv1"`, the layout's digest, then all values as little-endian f32.
    pub fn to_bytes(&self) -> Vec<u8> {
        let values: usize = self.tensors.iter().map(Vec::len).sum();
        let mut bytes = Vec::with_capacity(Self::HEADER_BYTES + 4 * values);
        bytes.extend_from_slice(&self.header());
        for tensor in &self.tensors {
            bytes.extend(tensor.iter().flat_map(|value| value.to_le_bytes()));
        }
        bytes
    }

    /// BLAKE3 of [`Self::to_bytes`], without making them: the root that goes into a commit. A BLAKE3 hash is
    /// a tree, so any 16 KiB of those bytes can be proven against it.
    pub fn root(&self) -> Digest {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.header());
        let mut buffer = Vec::with_capacity(1 << 16);
        for part in self.tensors.iter().flat_map(|tensor| tensor.chunks(1 << 14)) {
            buffer.clear();
            buffer.extend(part.iter().flat_map(|value| value.to_le_bytes()));
            hasher.update(&buffer);
        }
        Digest::from_bytes(*hasher.finalize().as_bytes())
    }

    /// Reads what [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    ///
    /// [`FeedbackError`] when the bytes are not the canonical feedback of `layout`; the length is compared
    /// before anything is allocated.
    pub fn from_bytes(bytes: &[u8], layout: &Layout) -> Result<Self, FeedbackError> {
        let expected = Self::HEADER_BYTES as u64 + 4 * layout.elements();
        if bytes.len() as u64 != expected {
            return Err(FeedbackError::Length { expected, got: bytes.len() as u64 });
        }
        let (header, mut values) = bytes.split_at(Self::HEADER_BYTES);
        let (magic, digest) = header.split_at(8);
        if magic != MAGIC {
            let mut got = [0; 8];
            got.copy_from_slice(magic);
            return Err(FeedbackError::Magic { got });
        }
        let mut got = [0; 32];
        got.copy_from_slice(digest);
        let got = Digest::from_bytes(got);
        if got != layout.digest() {
            return Err(FeedbackError::Layout { expected: layout.digest(), got });
        }
        let mut tensors = Vec::with_capacity(layout.tensors().len());
        for (_, elements) in layout.tensors() {
            let (own, rest) = values.split_at(4 * *elements as usize);
            tensors.push(read_values(own, tensors.len())?);
            values = rest;
        }
        Ok(Self { layout: got, tensors })
    }

    fn header(&self) -> [u8; Self::HEADER_BYTES] {
        let mut header = [0; Self::HEADER_BYTES];
        header[..8].copy_from_slice(MAGIC);
        header[8..].copy_from_slice(self.layout.as_bytes());
        header
    }
}

fn read_values(bytes: &[u8], tensor: usize) -> Result<Vec<f32>, FeedbackError> {
    let (words, _) = bytes.as_chunks::<4>();
    let mut values = Vec::with_capacity(words.len());
    for (element, word) in words.iter().enumerate() {
        let value = f32::from_le_bytes(*word);
        // written so that a NaN is refused too
        let usable = value.abs() >= FLUSH_BELOW && value.abs() <= MAX_SCALE;
        if !usable && value.to_bits() != 0 {
            return Err(FeedbackError::Value { tensor, element, value });
        }
        values.push(value);
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> Layout {
        Layout::new(vec![("a".to_owned(), 3), ("b".to_owned(), 20_000)]).unwrap()
    }

    fn filled() -> ErrorFeedback {
        let mut feedback = ErrorFeedback::zero(&layout());
        feedback.tensors_mut()[0][2] = -1.5;
        feedback.tensors_mut()[1][19_999] = 2e-12;
        feedback
    }

    #[test]
    fn bytes_come_back_and_their_hash_is_the_root() {
        let feedback = filled();
        let bytes = feedback.to_bytes();
        assert_eq!(ErrorFeedback::from_bytes(&bytes, &layout()), Ok(feedback.clone()));
        assert_eq!(Digest::of(&bytes), feedback.root());
        assert_ne!(feedback.root(), ErrorFeedback::zero(&layout()).root());
    }

    #[test]
    fn what_encoding_never_leaves_is_refused() {
        let bytes = filled().to_bytes();
        for value in [f32::NAN, f32::INFINITY, -0.0, 1e-40, 1e30] {
            let mut bad = bytes.clone();
            bad[40..44].copy_from_slice(&value.to_le_bytes());
            let error = ErrorFeedback::from_bytes(&bad, &layout()).unwrap_err();
            assert!(matches!(error, FeedbackError::Value { tensor: 0, element: 0, .. }), "{error}");
        }
    }

    #[test]
    fn other_layouts_lengths_and_magics_are_refused() {
        let bytes = filled().to_bytes();
        let short = ErrorFeedback::from_bytes(&bytes[..bytes.len() - 1], &layout());
        assert!(matches!(short, Err(FeedbackError::Length { .. })));
        let other = Layout::new(vec![("a".to_owned(), 4), ("b".to_owned(), 19_999)]).unwrap();
        assert!(matches!(ErrorFeedback::from_bytes(&bytes, &other), Err(FeedbackError::Layout { .. })));
        let mut bad = bytes;
        bad[0] = b'X';
        assert!(matches!(ErrorFeedback::from_bytes(&bad, &layout()), Err(FeedbackError::Magic { .. })));
    }
}
