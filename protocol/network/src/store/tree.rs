//! The geometry of verified slices: BLAKE3 trees over 16 KiB groups, hash pairs in pre-order.
//!
//! Groups of 16 KiB: the outboard is 0.39 % of the blob, and a lie is found within one group.

use std::io::{self, Read};

use bao_tree::{
    BaoTree, BlockSize, ChunkNum, ChunkRanges,
    io::{outboard::PreOrderOutboard, round_up_to_chunks_groups, sync},
};
use talkoot_protocol::digest::Digest;

/// 2^4 chunks of 1 KiB.
pub(crate) const GROUP: BlockSize = BlockSize::from_chunk_log(4);
/// One group in bytes; a blob up to this length has an empty outboard.
pub(crate) const GROUP_BYTES: u64 = 16 * 1024;

/// The tree over `size` bytes.
pub(crate) fn tree(size: u64) -> BaoTree {
    BaoTree::new(size, GROUP)
}

/// The digest as bao-tree wants it.
pub(crate) fn root(digest: &Digest) -> blake3::Hash {
    blake3::Hash::from_bytes(*digest.as_bytes())
}

/// Reads exactly `size` bytes and returns their digest and outboard (64 bytes per inner node, `size / 256` in all).
pub(crate) fn build(data: impl Read, size: u64) -> io::Result<(Digest, Vec<u8>)> {
    let tree = tree(size);
    let length = usize::try_from(tree.outboard_size()).map_err(io::Error::other)?;
    let mut outboard = PreOrderOutboard { root: blake3::hash(&[]), tree, data: vec![0; length] };
    let root = sync::outboard(data, tree, &mut outboard)?;
    Ok((Digest::from_bytes(*root.as_bytes()), outboard.data))
}

/// `start..end` in bytes, widened to whole groups.
pub(crate) fn groups(start: u64, end: u64) -> ChunkRanges {
    round_up_to_chunks_groups(ChunkRanges::from(ChunkNum::full_chunks(start)..ChunkNum::chunks(end)), GROUP)
}

/// The last group of a blob: its slice proves how long the blob is.
pub(crate) fn last_group(size: u64) -> ChunkRanges {
    groups(size.saturating_sub(1), size)
}

/// The ranges as pairs of byte offsets, cut to `size`.
pub(crate) fn byte_ranges(ranges: &ChunkRanges, size: u64) -> Vec<(u64, u64)> {
    ranges
        .boundaries()
        .chunks(2)
        .map(|pair| (pair[0].to_bytes(), pair.get(1).map_or(size, |end| end.to_bytes()).min(size)))
        .filter(|(start, end)| start < end)
        .collect()
}
