//! The walk through a slice: hash pairs and groups in pre-order, each checked against the hash that is known by then.
//!
//! Both ends walk alike, so a server reads, and a reader keeps, one group at a time: neither holds a piece in memory, and
//! false bytes are found with the group that they are in.

use bao_tree::{
    ChunkNum, ChunkRanges, TreeNode,
    iter::{BaoChunk, ResponseIter},
};
use blake3::{
    Hash,
    hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root},
};
use talkoot_protocol::digest::BlobRef;

use super::tree;

/// Length of a hash pair.
pub(crate) const PAIR_BYTES: usize = 64;

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The hashes of both children of a node.
    Pair(TreeNode),
    /// A group, or what there is of the last one.
    Group {
        /// Where it begins in the blob.
        offset: u64,
        /// Its length in bytes.
        bytes: usize,
    },
}

impl Step {
    /// Length of what comes next.
    pub(crate) const fn bytes(&self) -> usize {
        match self {
            Self::Pair(_) => PAIR_BYTES,
            Self::Group { bytes, .. } => *bytes,
        }
    }

    /// From which byte of the blob on nothing holds when this step is false.
    pub(crate) fn offset(&self) -> u64 {
        match self {
            Self::Pair(node) => node.chunk_range().start.to_bytes(),
            Self::Group { offset, .. } => *offset,
        }
    }
}

/// A walk under way.
pub(crate) struct Walk {
    items: ResponseIter,
    next: Option<BaoChunk>,
    /// Hashes of what is still to come, the next one last.
    known: Vec<Hash>,
}

impl std::fmt::Debug for Walk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Walk").field("next", &self.next).finish_non_exhaustive()
    }
}

impl Walk {
    /// Begins the slice of `ranges`, which MUST be whole groups of the blob.
    pub(crate) fn new(blob: BlobRef, ranges: &ChunkRanges) -> Self {
        let end = ChunkNum::chunks(blob.bytes);
        // the tree wants a range that reaches the end to be open
        let open = if end.0 > 0 && ranges.contains(&ChunkNum(end.0 - 1)) {
            ranges | &ChunkRanges::from(end..)
        } else {
            ranges.clone()
        };
        let mut items = ResponseIter::new(tree::tree(blob.bytes), open);
        let next = items.next();
        Self { items, next, known: vec![tree::root(&blob.digest)] }
    }

    /// What comes next; nothing at the end.
    pub(crate) fn step(&self) -> Option<Step> {
        Some(match self.next? {
            BaoChunk::Parent { node, .. } => Step::Pair(node),
            BaoChunk::Leaf { start_chunk, size, .. } => {
                Step::Group { offset: start_chunk.to_bytes(), bytes: size }
            }
        })
    }

    /// Takes the bytes of the present step, and goes on if they are what the hash says.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> bool {
        let (Some(item), Some(expected)) = (self.next, self.known.pop()) else { return false };
        let right = match item {
            BaoChunk::Parent { is_root, left, right, .. } => {
                let Some((l, r)) = halves(bytes) else { return false };
                let right_hash = Hash::from_bytes(r);
                if right {
                    self.known.push(right_hash);
                }
                if left {
                    self.known.push(Hash::from_bytes(l));
                }
                expected
                    == if is_root {
                        merge_subtrees_root(&l, &r, Mode::Hash)
                    } else {
                        Hash::from_bytes(merge_subtrees_non_root(&l, &r, Mode::Hash))
                    }
            }
            BaoChunk::Leaf { size, is_root, start_chunk, .. } => {
                bytes.len() == size
                    && expected
                        == if is_root {
                            blake3::hash(bytes)
                        } else {
                            let mut hasher = blake3::Hasher::new();
                            hasher.set_input_offset(start_chunk.to_bytes()).update(bytes);
                            Hash::from_bytes(hasher.finalize_non_root())
                        }
            }
        };
        if right {
            self.next = self.items.next();
        } else {
            // nothing that comes after a lie can be right
            self.known.clear();
        }
        right
    }
}

fn halves(pair: &[u8]) -> Option<([u8; 32], [u8; 32])> {
    let (left, right) = pair.split_first_chunk::<32>()?;
    Some((*left, right.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use bao_tree::io::{outboard::PreOrderOutboard, sync};
    use proptest::prelude::*;
    use talkoot_protocol::digest::Digest;

    use super::*;

    fn encoded(data: &[u8], ranges: &ChunkRanges) -> (Digest, Vec<u8>) {
        let size = data.len() as u64;
        let (digest, outboard) = tree::build(data, size).unwrap();
        let board =
            PreOrderOutboard { root: tree::root(&digest), tree: tree::tree(size), data: &outboard[..] };
        let mut encoded = Vec::new();
        sync::encode_ranges_validated(data, &board, ranges, &mut encoded).unwrap();
        (digest, encoded)
    }

    /// Walks over bytes; the offset of the first false step, if any, and the groups.
    fn walk(blob: BlobRef, ranges: &ChunkRanges, mut bytes: &[u8]) -> (Option<u64>, Vec<u8>) {
        let mut walk = Walk::new(blob, ranges);
        let mut data = Vec::new();
        while let Some(step) = walk.step() {
            let Some((taken, rest)) = bytes.split_at_checked(step.bytes()) else {
                return (Some(step.offset()), data);
            };
            if !walk.take(taken) {
                return (Some(step.offset()), data);
            }
            if matches!(step, Step::Group { .. }) {
                data.extend_from_slice(taken);
            }
            bytes = rest;
        }
        assert!(bytes.is_empty(), "the walk ends with the slice");
        (None, data)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_walk_is_the_one_of_bao(size in 1_u64..700_000, a in any::<u64>(), b in any::<u64>(), flip in any::<prop::sample::Index>()) {
            let data: Vec<u8> = (0..size).map(|i| ((i * i) >> 5) as u8).collect();
            let (start, end) = (a % size, b % size + 1);
            let (start, end) = if start < end { (start, end) } else { (end - 1, start + 1) };
            let ranges = tree::groups(start, end) | tree::last_group(size);
            let (digest, mut slice) = encoded(&data, &ranges);
            let blob = BlobRef { digest, bytes: size };
            let expected: Vec<u8> = tree::byte_ranges(&ranges, size)
                .iter()
                .flat_map(|(start, end)| data[*start as usize..*end as usize].to_vec())
                .collect();
            prop_assert_eq!(walk(blob, &ranges, &slice), (None, expected.clone()));
            // a flipped bit is found, and what was taken before it is right
            let at = flip.index(slice.len());
            slice[at] ^= 1;
            let (lie, kept) = walk(blob, &ranges, &slice);
            prop_assert!(lie.is_some());
            prop_assert!(expected.starts_with(&kept));
            let upto = kept.len() + 64 * 40 + 16 * 1024;
            prop_assert!(at < upto, "the lie at {} was found after {}", at, upto);
        }
    }
}
