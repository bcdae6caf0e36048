//! Reading a slice of a blob, or of a part of one, and proving it on the way.

use std::{fs::File, io, path::PathBuf};

use bao_tree::{
    ChunkRanges,
    io::{
        outboard::PreOrderOutboard,
        sync::{Outboard, ReadAt},
    },
};
use talkoot_protocol::digest::BlobRef;

use super::{
    error::StoreError,
    tree,
    walk::{Step, Walk},
};

/// Why a slice ends early.
#[derive(Debug)]
pub(crate) enum SliceError {
    /// The files do not hold what the hash says.
    False,
    /// The files cannot be read.
    Store(StoreError),
}

/// A slice that is read part by part.
#[derive(Debug)]
pub(crate) struct SliceReader {
    path: PathBuf,
    data: File,
    board: PreOrderOutboard<Option<File>>,
    walk: Walk,
}

impl SliceReader {
    /// Begins to read; `outboard` may be missing where the blob is one group.
    pub(super) fn new(
        blob: BlobRef,
        path: PathBuf,
        data: File,
        outboard: Option<File>,
        ranges: &ChunkRanges,
    ) -> Self {
        let board =
            PreOrderOutboard { root: tree::root(&blob.digest), tree: tree::tree(blob.bytes), data: outboard };
        Self { path, data, board, walk: Walk::new(blob, ranges) }
    }

    fn pair(&self, node: bao_tree::TreeNode) -> io::Result<Option<[u8; 64]>> {
        let PreOrderOutboard { root, tree, data } = &self.board;
        let Some(data) = data else { return Ok(None) };
        let board = PreOrderOutboard { root: *root, tree: *tree, data };
        let pair = board.load(node)?;
        Ok(pair.map(|(left, right)| {
            let mut bytes = [0; 64];
            bytes[..32].copy_from_slice(left.as_bytes());
            bytes[32..].copy_from_slice(right.as_bytes());
            bytes
        }))
    }

    /// The next part, of at least `least` bytes where there are so many; empty at the end.
    ///
    /// # Errors
    ///
    /// [`SliceError`]; then the slice cannot be gone on with.
    pub(crate) fn read_part(&mut self, least: usize) -> Result<Vec<u8>, SliceError> {
        let mut part = Vec::with_capacity(least + tree::GROUP_BYTES as usize);
        while let Some(step) = self.walk.step().filter(|_| part.len() < least) {
            let at = part.len();
            let read = match step {
                Step::Pair(node) => {
                    self.pair(node).map(|pair| part.extend_from_slice(&pair.unwrap_or([0; 64])))
                }
                Step::Group { offset, bytes } => {
                    part.resize(at + bytes, 0);
                    self.data.read_exact_at(offset, &mut part[at..])
                }
            };
            match read {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(SliceError::False),
                Err(error) => return Err(SliceError::Store(StoreError::io("reading", &self.path, error))),
            }
            if !self.walk.take(&part[at..]) {
                return Err(SliceError::False);
            }
        }
        Ok(part)
    }
}
