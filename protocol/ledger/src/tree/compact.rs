//! A tree as its right edge: enough to go on appending and to know the root.

use super::{Hash, HashReader, empty_root, node_hash};

/// The roots of the complete subtrees that a tree of `size` leaves falls into, largest first; at most
/// 63 hashes for any log.
///
/// Size 6 = 4 + 2 is two hashes: the node over leaves 0..4 and the one over 4..6.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CompactRange {
    size: u64,
    peaks: Vec<Hash>,
}

impl CompactRange {
    /// The range of the empty tree.
    #[must_use]
    pub const fn new() -> Self {
        Self { size: 0, peaks: Vec::new() }
    }

    /// The range of a stored tree of `size` leaves.
    ///
    /// # Errors
    ///
    /// The reader's.
    pub fn load<R: HashReader>(size: u64, reader: &R) -> Result<Self, R::Error> {
        let mut peaks = Vec::new();
        let mut start = 0_u64;
        for level in (0..64_u8).rev().filter(|level| size >> level & 1 == 1) {
            peaks.push(reader.node(level, start >> level)?);
            start += 1 << level;
        }
        Ok(Self { size, peaks })
    }

    /// Leaves so far.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Adds one leaf, given by its leaf hash.
    pub fn append(&mut self, leaf: Hash) {
        self.push(0, leaf);
    }

    /// Adds a complete subtree of `1 << level` leaves; the size must be a multiple of that.
    pub(crate) fn push(&mut self, level: u8, node: Hash) {
        debug_assert_eq!(self.size & ((1 << level) - 1), 0, "a subtree starts at a multiple of its width");
        let mut node = node;
        let mut bit = level;
        while self.size >> bit & 1 == 1 {
            if let Some(left) = self.peaks.pop() {
                node = node_hash(&left, &node);
            }
            bit += 1;
        }
        self.peaks.push(node);
        self.size += 1 << level;
    }

    /// The root hash of the tree.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        let Some(&last) = peaks.next() else { return empty_root() };
        peaks.fold(last, |right, left| node_hash(left, &right))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{leaf_hash, plain};

    #[test]
    fn roots_equal_the_definition_and_the_other_crate() {
        let leaves: Vec<Hash> = (0..1_030_u32).map(|i| leaf_hash(&i.to_be_bytes())).collect();
        let mut range = CompactRange::new();
        for size in 0..=leaves.len() {
            assert_eq!(range.root(), plain::root(&leaves[..size]), "size {size}");
            if let Some(leaf) = leaves.get(size) {
                range.append(*leaf);
            }
        }
    }

    #[test]
    fn around_65_536_the_roots_equal_the_definition() {
        let leaves: Vec<Hash> = (0..65_537_u32).map(|i| leaf_hash(&i.to_be_bytes())).collect();
        let mut range = CompactRange::new();
        for (i, leaf) in leaves.iter().enumerate() {
            range.append(*leaf);
            if i + 1 >= 65_535 {
                assert_eq!(range.root(), plain::root(&leaves[..=i]), "size {}", i + 1);
            }
        }
    }

    #[test]
    fn a_loaded_range_equals_a_grown_one() {
        let leaves = plain::Leaves((0..70_u32).map(|i| leaf_hash(&i.to_be_bytes())).collect());
        let mut grown = CompactRange::new();
        for size in 0..=70 {
            assert_eq!(CompactRange::load(size, &leaves).unwrap(), grown);
            if let Some(leaf) = leaves.0.get(size as usize) {
                grown.append(*leaf);
            }
        }
    }
}
