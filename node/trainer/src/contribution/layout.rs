//! Which tensors are trained, how long they are, and how they fall into chunks.

use talkoot_protocol::digest::Digest;

use crate::{
    config::ModelConfig,
    modules::{Module, trainable},
};

/// The trainable tensors of a stage in canonical order: names sorted by their bytes.
///
/// Frozen tensors are simply absent, so they cost nothing. The table's digest stands in every blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    tensors: Vec<(String, u64)>,
    digest: Digest,
}

/// Why a list of tensors is no [`Layout`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// Too many tensors.
    #[error("a layout holds at most {} tensors, got {got}", Layout::MAX_TENSORS)]
    TooMany {
        /// Number of tensors given.
        got: usize,
    },
    /// A name is empty or too long.
    #[error("tensor {index}: a name has 1 to {} bytes, got {bytes}", Layout::MAX_NAME_BYTES)]
    Name {
        /// Which tensor.
        index: usize,
        /// Length of its name.
        bytes: usize,
    },
    /// Names are not strictly ascending by bytes.
    #[error("tensor {index}, {name:?}, does not sort after the one before it: sort by name, no name twice")]
    Order {
        /// Which tensor.
        index: usize,
        /// Its name.
        name: String,
    },
    /// A tensor without elements, or more elements than the format allows.
    #[error("tensor {name:?} has {elements} elements: 1 to {} in all are allowed", Layout::MAX_ELEMENTS)]
    Elements {
        /// Its name.
        name: String,
        /// Its number of elements.
        elements: u64,
    },
}

impl Layout {
    /// Most tensors in one layout.
    pub const MAX_TENSORS: usize = 1 << 20;
    /// Longest name in bytes.
    pub const MAX_NAME_BYTES: usize = 512;
    /// Most elements in one layout, over all tensors: 2^40, four terabytes of f32.
    pub const MAX_ELEMENTS: u64 = 1 << 40;

    /// Takes `(name, elements)` pairs that are already in canonical order.
    ///
    /// # Errors
    ///
    /// [`LayoutError`] when names are not strictly ascending, or a bound is passed.
    pub fn new(tensors: Vec<(String, u64)>) -> Result<Self, LayoutError> {
        if tensors.len() > Self::MAX_TENSORS {
            return Err(LayoutError::TooMany { got: tensors.len() });
        }
        let mut total = 0u64;
        for (index, (name, elements)) in tensors.iter().enumerate() {
            if name.is_empty() || name.len() > Self::MAX_NAME_BYTES {
                return Err(LayoutError::Name { index, bytes: name.len() });
            }
            if index > 0 && tensors[index - 1].0.as_bytes() >= name.as_bytes() {
                return Err(LayoutError::Order { index, name: name.clone() });
            }
            total = total.saturating_add(*elements);
            if *elements == 0 || total > Self::MAX_ELEMENTS {
                return Err(LayoutError::Elements { name: name.clone(), elements: *elements });
            }
        }
        let digest = digest_of(&tensors);
        Ok(Self { tensors, digest })
    }

    /// The tensors of `modules`, which is what a stage that trains them trains.
    ///
    /// # Errors
    ///
    /// [`LayoutError`] when the model has more tensors or longer names than the codec allows.
    pub fn trained(config: &ModelConfig, modules: &[Module]) -> Result<Self, LayoutError> {
        let shapes = config.parameter_shapes();
        let mut names = trainable(config, modules);
        names.sort_unstable();
        let length =
            |name: &String| shapes.get(name).map_or(0, |shape| shape.iter().map(|n| *n as u64).product());
        Self::new(names.iter().map(|name| (name.clone(), length(name))).collect())
    }

    /// The tensors, in order: name and number of elements.
    pub fn tensors(&self) -> &[(String, u64)] {
        &self.tensors
    }

    /// Elements over all tensors.
    pub fn elements(&self) -> u64 {
        self.tensors.iter().map(|(_, elements)| elements).sum()
    }

    /// BLAKE3 of the shape table: `"talkoot-layout-v1\n"`, the number of tensors (u32), then for each the
    /// length of its name (u32), the name, its elements (u64); all little-endian.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Where the chunks of `chunk` entries lie.
    pub fn geometry(&self, chunk: u32) -> Geometry {
        let mut first = Vec::with_capacity(self.tensors.len() + 1);
        let mut chunks = 0u64;
        for (_, elements) in &self.tensors {
            first.push(chunks);
            chunks += elements.div_ceil(u64::from(chunk));
        }
        first.push(chunks);
        Geometry { chunk: u64::from(chunk), first, lengths: self.tensors.iter().map(|t| t.1).collect() }
    }
}

fn digest_of(tensors: &[(String, u64)]) -> Digest {
    let mut table = Vec::new();
    table.extend_from_slice(b"talkoot-layout-v1\n");
    table.extend_from_slice(&(tensors.len() as u32).to_le_bytes());
    for (name, elements) in tensors {
        table.extend_from_slice(&(name.len() as u32).to_le_bytes());
        table.extend_from_slice(name.as_bytes());
        table.extend_from_slice(&elements.to_le_bytes());
    }
    Digest::of(&table)
}

/// One chunk of one tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkRef {
    /// Which tensor of the layout.
    pub tensor: usize,
    /// Which chunk of that tensor.
    pub index: u64,
    /// The chunk's first element within the tensor.
    pub start: u64,
    /// Its number of elements; less than the chunk size at a tensor's end.
    pub len: usize,
}

/// A layout cut into chunks: chunk numbers run through the tensors in order, and no chunk crosses a tensor's end.
#[derive(Debug, Clone)]
pub struct Geometry {
    chunk: u64,
    /// `first[t]` is the number of tensor `t`'s first chunk; one more entry holds the total.
    first: Vec<u64>,
    lengths: Vec<u64>,
}

impl Geometry {
    /// Chunks over all tensors.
    pub fn chunks(&self) -> u64 {
        self.first.last().copied().unwrap_or(0)
    }

    /// Segments of [`super::CHUNKS_PER_SEGMENT`] chunks; the last may be shorter.
    pub fn segments(&self) -> u64 {
        self.chunks().div_ceil(super::CHUNKS_PER_SEGMENT as u64)
    }

    /// The numbers of the chunks in segment `segment`.
    pub fn segment(&self, segment: u64) -> std::ops::Range<u64> {
        let per = super::CHUNKS_PER_SEGMENT as u64;
        (segment * per).min(self.chunks())..((segment + 1) * per).min(self.chunks())
    }

    /// The chunk with this number.
    ///
    /// # Panics
    ///
    /// When `number` is not below [`Self::chunks`].
    pub fn chunk(&self, number: u64) -> ChunkRef {
        assert!(number < self.chunks(), "chunk {number} of {}", self.chunks());
        let tensor = self.first.partition_point(|&first| first <= number) - 1;
        let index = number - self.first[tensor];
        let start = index * self.chunk;
        let len = (self.lengths[tensor] - start).min(self.chunk) as usize;
        ChunkRef { tensor, index, start, len }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(list: &[(&str, u64)]) -> Result<Layout, LayoutError> {
        Layout::new(list.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect())
    }

    #[test]
    fn order_names_and_sizes_are_checked() {
        assert!(matches!(layout(&[("b", 1), ("a", 1)]), Err(LayoutError::Order { index: 1, .. })));
        assert!(matches!(layout(&[("a", 1), ("a", 1)]), Err(LayoutError::Order { index: 1, .. })));
        assert!(matches!(layout(&[("", 1)]), Err(LayoutError::Name { index: 0, bytes: 0 })));
        assert!(matches!(layout(&[("a", 0)]), Err(LayoutError::Elements { elements: 0, .. })));
        let half = Layout::MAX_ELEMENTS / 2;
        assert!(layout(&[("a", half), ("b", half)]).is_ok());
        assert!(matches!(layout(&[("a", half), ("b", half + 1)]), Err(LayoutError::Elements { .. })));
        assert!(matches!(layout(&[("a", u64::MAX)]), Err(LayoutError::Elements { .. })));
    }

    #[test]
    fn the_digest_tells_names_and_lengths_apart() {
        let digest = |list: &[(&str, u64)]| layout(list).unwrap().digest();
        let base = digest(&[("a", 10), ("b", 20)]);
        assert_eq!(base, digest(&[("a", 10), ("b", 20)]));
        assert_ne!(base, digest(&[("a", 10), ("b", 21)]));
        assert_ne!(base, digest(&[("a", 10), ("c", 20)]));
        assert_ne!(base, digest(&[("a", 10)]));
    }

    #[test]
    fn chunks_stop_at_a_tensors_end() {
        let geometry = layout(&[("a", 40), ("b", 3), ("c", 32)]).unwrap().geometry(16);
        let list: Vec<_> = (0..geometry.chunks()).map(|i| geometry.chunk(i)).collect();
        let flat: Vec<_> = list.iter().map(|c| (c.tensor, c.index, c.start, c.len)).collect();
        assert_eq!(
            flat,
            [(0, 0, 0, 16), (0, 1, 16, 16), (0, 2, 32, 8), (1, 0, 0, 3), (2, 0, 0, 16), (2, 1, 16, 16)]
        );
        assert_eq!((geometry.segments(), geometry.segment(0)), (1, 0..6));
        assert_eq!(layout(&[]).unwrap().geometry(16).segments(), 0);
    }
}
