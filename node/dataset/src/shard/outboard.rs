//! The hash tree beside a shard, so that whoever has the file can serve proven slices at once.

use std::io::{self, Read};

use bao_tree::{
    BaoTree, BlockSize,
    io::{outboard::PreOrderOutboard, sync},
};
use talkoot_protocol::digest::Digest;

/// What is added to a shard's name for its hash tree.
pub const OUTBOARD_SUFFIX: &str = ".obao";

/// 2^4 chunks of 1 KiB: the groups of 16 KiB in which blobs are proven.
const GROUP: BlockSize = BlockSize::from_chunk_log(4);

/// Reads exactly `bytes` bytes; returns their digest and their hash tree: the pairs of chaining values of all nodes
/// above groups of 16 KiB in pre-order, without a length in front, as blob stores keep them.
///
/// # Errors
///
/// When `data` cannot be read or is shorter.
pub fn outboard(data: impl Read, bytes: u64) -> io::Result<(Digest, Vec<u8>)> {
    let tree = BaoTree::new(bytes, GROUP);
    let length = usize::try_from(tree.outboard_size()).map_err(io::Error::other)?;
    let mut outboard = PreOrderOutboard { root: blake3::hash(&[]), tree, data: vec![0; length] };
    let root = sync::outboard(data, tree, &mut outboard)?;
    Ok((Digest::from_bytes(*root.as_bytes()), outboard.data))
}
