//! Proofs out of a log's files. What is returned has been checked: a source that lies gets an error.

use super::{ReadError, TileSource, Tiles};
use crate::{
    checkpoint::Checkpoint,
    tile::TILE_WIDTH,
    tree::{
        self, CompactRange, Hash, ProofError, leaf_hash, prove_consistency, prove_inclusion,
        verify_consistency, verify_inclusion,
    },
};

/// One entry, checked to be in the tree of `checkpoint`, which the caller trusts.
///
/// # Errors
///
/// [`ReadError`], saying which file is wrong and why.
pub fn entry<S: TileSource + ?Sized>(
    source: &S,
    checkpoint: &Checkpoint,
    index: u64,
) -> Result<Vec<u8>, ReadError> {
    Ok(prove(source, checkpoint, index)?.0)
}

/// The hashes that show entry `index` to be in the tree of `checkpoint`, which the caller trusts.
///
/// # Errors
///
/// [`ReadError`], saying which file is wrong and why.
pub fn inclusion_proof<S: TileSource + ?Sized>(
    source: &S,
    checkpoint: &Checkpoint,
    index: u64,
) -> Result<Vec<Hash>, ReadError> {
    Ok(prove(source, checkpoint, index)?.1)
}

fn prove<S: TileSource + ?Sized>(
    source: &S,
    checkpoint: &Checkpoint,
    index: u64,
) -> Result<(Vec<u8>, Vec<Hash>), ReadError> {
    let size = checkpoint.size;
    if index >= size {
        return Err(ReadError::OutOfRange { index, size });
    }
    let tiles = Tiles::new(source, size);
    let width = u64::from(TILE_WIDTH);
    let (path, mut entries) = tiles.bundle(index / width)?;
    let entry = entries.swap_remove((index % width) as usize);
    let proof = prove_inclusion(index, size, &tiles)?;
    match verify_inclusion(&proof, index, leaf_hash(&entry), size, checkpoint.root) {
        Ok(()) => Ok((entry, proof)),
        // either the entry is another one, or a tile on the way up is
        Err(_) => {
            let leaf = tree::HashReader::node(&tiles, 0, index)?;
            match verify_inclusion(&proof, index, leaf, size, checkpoint.root) {
                Ok(()) => Err(ReadError::EntryMismatch { path: path.to_string(), index }),
                Err(error) => Err(root_mismatch(checkpoint, &error)),
            }
        }
    }
}

/// The hashes that show the tree of `old` entries to be a prefix of that of `checkpoint`, which the
/// caller trusts.
///
/// # Errors
///
/// [`ReadError`], saying which file is wrong and why.
pub fn consistency_proof<S: TileSource + ?Sized>(
    source: &S,
    checkpoint: &Checkpoint,
    old: u64,
) -> Result<Vec<Hash>, ReadError> {
    let old_root = root_at(source, checkpoint, old)?;
    let proof = prove_consistency(old, checkpoint.size, &Tiles::new(source, checkpoint.size))?;
    verify_consistency(&proof, old, old_root, checkpoint.size, checkpoint.root)
        .map_err(|error| root_mismatch(checkpoint, &error))?;
    Ok(proof)
}

/// The root of the first `size` entries, led to the root of `checkpoint`, which the caller trusts.
///
/// # Errors
///
/// [`ReadError`]; [`ReadError::RootMismatch`] when the tiles don't belong to the checkpoint.
pub fn root_at<S: TileSource + ?Sized>(
    source: &S,
    checkpoint: &Checkpoint,
    size: u64,
) -> Result<Hash, ReadError> {
    if size > checkpoint.size {
        return Err(ReadError::OutOfRange { index: size, size: checkpoint.size });
    }
    let tiles = Tiles::new(source, checkpoint.size);
    let root = CompactRange::load(size, &tiles)?.root();
    let proof = prove_consistency(size, checkpoint.size, &tiles)?;
    verify_consistency(&proof, size, root, checkpoint.size, checkpoint.root)
        .map_err(|error| root_mismatch(checkpoint, &error))?;
    Ok(root)
}

fn root_mismatch(checkpoint: &Checkpoint, error: &ProofError) -> ReadError {
    let computed = match error {
        ProofError::RootMismatch { computed, .. } | ProofError::OldRootMismatch { computed, .. } => *computed,
        // lengths follow from the sizes, so a proof made here always leads to some root
        _ => checkpoint.root,
    };
    ReadError::RootMismatch { size: checkpoint.size, signed: checkpoint.root, computed }
}
