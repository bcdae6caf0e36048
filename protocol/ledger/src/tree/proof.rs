//! Inclusion and consistency proofs, made from a [`HashReader`] and checked from nothing.
//!
//! Making them follows PATH and SUBPROOF of RFC 6962, sections 2.1.1 and 2.1.2; checking them follows
//! RFC 9162, sections 2.1.3.2 and 2.1.4.2.

use super::{CompactRange, Hash, HashReader, empty_root, node_hash};

/// No proof in a log of at most 2^63 - 1 entries is longer; a longer one is refused unread.
pub const MAX_PROOF_HASHES: usize = 64;

/// Why a proof doesn't hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// The entry asked about isn't in a tree of this size.
    #[error("index {index} is not in a tree of {size} entries")]
    IndexOutOfRange {
        /// The index asked for.
        index: u64,
        /// The size of the tree.
        size: u64,
    },
    /// The older tree is larger than the newer one.
    #[error("the older tree has {old} entries, more than the newer one's {new}")]
    SizesReversed {
        /// Size of the tree that should be a prefix.
        old: u64,
        /// Size of the tree that should contain it.
        new: u64,
    },
    /// The proof has the wrong number of hashes for these sizes.
    #[error("{got} hashes in the proof, which does not fit these sizes")]
    WrongLength {
        /// Hashes found.
        got: usize,
    },
    /// The hashes lead to another root than the tree's.
    #[error("the proof leads to root {computed}, not to {expected}")]
    RootMismatch {
        /// The root the caller trusts.
        expected: Hash,
        /// The root the proof leads to.
        computed: Hash,
    },
    /// The hashes lead to another root for the older tree: the two trees are different histories.
    #[error("the proof leads to old root {computed}, not to {expected}")]
    OldRootMismatch {
        /// The old root the caller trusts.
        expected: Hash,
        /// The old root the proof leads to.
        computed: Hash,
    },
}

/// The root of the first `size` leaves.
///
/// # Errors
///
/// The reader's.
pub fn root_at<R: HashReader>(size: u64, reader: &R) -> Result<Hash, R::Error> {
    Ok(CompactRange::load(size, reader)?.root())
}

/// The hashes that show that leaf `index` is in the tree of `size` leaves, from the leaf's sibling
/// upwards. An index outside the tree has no proof: the answer is then empty, and doesn't verify.
///
/// # Errors
///
/// The reader's.
pub fn prove_inclusion<R: HashReader>(index: u64, size: u64, reader: &R) -> Result<Vec<Hash>, R::Error> {
    let mut proof = Vec::new();
    if index >= size {
        return Ok(proof);
    }
    // walk down from the root, then turn the path round
    let (mut from, mut to) = (0, size);
    while to - from > 1 {
        let split = from + split(to - from);
        if index < split {
            proof.push(subtree(split, to, reader)?);
            to = split;
        } else {
            proof.push(subtree(from, split, reader)?);
            from = split;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// The hashes that show that the tree of `old` leaves is a prefix of the tree of `new` leaves. For
/// `old == 0`, `old == new` and `old > new` the answer is empty.
///
/// # Errors
///
/// The reader's.
pub fn prove_consistency<R: HashReader>(old: u64, new: u64, reader: &R) -> Result<Vec<Hash>, R::Error> {
    let mut proof = Vec::new();
    if old == 0 || old >= new {
        return Ok(proof);
    }
    let (mut from, mut to) = (0, new);
    // the node that ends at `old` is known to the asker only while it starts at 0
    while to != old {
        let split = from + split(to - from);
        if old <= split {
            proof.push(subtree(split, to, reader)?);
            to = split;
        } else {
            proof.push(subtree(from, split, reader)?);
            from = split;
        }
    }
    if from != 0 {
        proof.push(subtree(from, to, reader)?);
    }
    proof.reverse();
    Ok(proof)
}

/// Checks that `leaf` is entry `index` of the tree with `size` leaves and root `root`.
///
/// # Errors
///
/// [`ProofError`], saying what doesn't fit.
pub fn verify_inclusion(
    proof: &[Hash],
    index: u64,
    leaf: Hash,
    size: u64,
    root: Hash,
) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::IndexOutOfRange { index, size });
    }
    let wrong_length = ProofError::WrongLength { got: proof.len() };
    let (mut node, mut last) = (index, size - 1);
    let mut computed = leaf;
    for sibling in proof {
        if last == 0 {
            return Err(wrong_length);
        }
        if node & 1 == 1 || node == last {
            computed = node_hash(sibling, &computed);
            // the right edge skips the levels at which it has no sibling
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            computed = node_hash(&computed, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(wrong_length);
    }
    expect_root(root, computed)
}

/// Checks that the tree (`old`, `old_root`) is a prefix of the tree (`new`, `new_root`).
///
/// # Errors
///
/// [`ProofError`]; [`ProofError::OldRootMismatch`] means two histories, when the hashes of the proof
/// belong to the new tree.
pub fn verify_consistency(
    proof: &[Hash],
    old: u64,
    old_root: Hash,
    new: u64,
    new_root: Hash,
) -> Result<(), ProofError> {
    let wrong_length = ProofError::WrongLength { got: proof.len() };
    if old > new {
        return Err(ProofError::SizesReversed { old, new });
    }
    if old == 0 || old == new {
        if !proof.is_empty() {
            return Err(wrong_length);
        }
        let must_be = if old == 0 { empty_root() } else { new_root };
        if old_root != must_be {
            return Err(ProofError::OldRootMismatch { expected: old_root, computed: must_be });
        }
        return Ok(());
    }
    let (mut node, mut last) = (old - 1, new - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let mut hashes = proof.iter();
    // an old tree that is one complete subtree is its own first hash
    let first = if node == 0 { old_root } else { *hashes.next().ok_or_else(|| wrong_length.clone())? };
    let (mut old_computed, mut new_computed) = (first, first);
    for sibling in hashes {
        if last == 0 {
            return Err(wrong_length);
        }
        if node & 1 == 1 || node == last {
            old_computed = node_hash(sibling, &old_computed);
            new_computed = node_hash(sibling, &new_computed);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            new_computed = node_hash(&new_computed, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(wrong_length);
    }
    // the new root first: only when the hashes are the new tree's does the old root accuse anybody
    expect_root(new_root, new_computed)?;
    if old_computed != old_root {
        return Err(ProofError::OldRootMismatch { expected: old_root, computed: old_computed });
    }
    Ok(())
}

fn expect_root(expected: Hash, computed: Hash) -> Result<(), ProofError> {
    if expected == computed { Ok(()) } else { Err(ProofError::RootMismatch { expected, computed }) }
}

/// The largest power of two below `width`, which is at least 2.
fn split(width: u64) -> u64 {
    1 << (u64::BITS - 1 - (width - 1).leading_zeros())
}

/// The root over leaves `from..to`, where `from` is a multiple of a power of two not below the width.
fn subtree<R: HashReader>(from: u64, to: u64, reader: &R) -> Result<Hash, R::Error> {
    let width = to - from;
    let mut nodes = Vec::new();
    let mut start = from;
    for level in (0..64_u8).rev().filter(|level| width >> level & 1 == 1) {
        nodes.push(reader.node(level, start >> level)?);
        start += 1 << level;
    }
    Ok(nodes.into_iter().rev().reduce(|right, left| node_hash(&left, &right)).unwrap_or_else(empty_root))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tree::{leaf_hash, plain};

    fn leaves(size: u64) -> plain::Leaves {
        plain::Leaves((0..size).map(|i| leaf_hash(&i.to_be_bytes())).collect())
    }

    fn root(leaves: &plain::Leaves, size: u64) -> Hash {
        plain::root(&leaves.0[..usize::try_from(size).unwrap()])
    }

    #[test]
    fn every_inclusion_up_to_70_is_proved() {
        let tree = leaves(70);
        for size in 1..=70 {
            for index in 0..size {
                let proof = prove_inclusion(index, size, &tree).unwrap();
                let leaf = tree.0[index as usize];
                verify_inclusion(&proof, index, leaf, size, root(&tree, size)).unwrap();
            }
        }
    }

    #[test]
    fn every_consistency_up_to_70_is_proved() {
        let tree = leaves(70);
        for new in 0..=70 {
            for old in 0..=new {
                let proof = prove_consistency(old, new, &tree).unwrap();
                verify_consistency(&proof, old, root(&tree, old), new, root(&tree, new)).unwrap();
            }
        }
    }

    #[test]
    fn sizes_and_indices_are_checked_first() {
        let tree = leaves(4);
        let top = root(&tree, 4);
        assert_eq!(
            verify_inclusion(&[], 4, top, 4, top),
            Err(ProofError::IndexOutOfRange { index: 4, size: 4 })
        );
        assert_eq!(
            verify_consistency(&[], 5, top, 4, top),
            Err(ProofError::SizesReversed { old: 5, new: 4 })
        );
        assert_eq!(
            verify_inclusion(&[top; 64], 0, top, u64::MAX, top),
            Err(ProofError::RootMismatch {
                expected: top,
                computed: (0..64).fold(top, |node, _| node_hash(&node, &top))
            })
        );
    }

    #[test]
    fn a_fork_is_named_by_its_old_root() {
        let tree = leaves(9);
        let proof = prove_consistency(5, 9, &tree).unwrap();
        let forged = leaf_hash(b"another history");
        let verdict = verify_consistency(&proof, 5, forged, 9, root(&tree, 9));
        assert_eq!(verdict, Err(ProofError::OldRootMismatch { expected: forged, computed: root(&tree, 5) }));
    }

    proptest! {
        #[test]
        fn a_changed_proof_is_refused(size in 1_u64..300, pick in any::<u64>(), flip in any::<usize>()) {
            let tree = leaves(size);
            let index = pick % size;
            let top = root(&tree, size);
            let leaf = tree.0[index as usize];
            let proof = prove_inclusion(index, size, &tree).unwrap();
            prop_assert!(verify_inclusion(&proof, index, leaf, size, top).is_ok());
            let mut longer = proof.clone();
            longer.push(top);
            prop_assert_eq!(
                verify_inclusion(&longer, index, leaf, size, top),
                Err(ProofError::WrongLength { got: longer.len() })
            );
            if let Some(at) = proof.len().checked_sub(1).map(|last| flip % (last + 1)) {
                let mut bent = proof.clone();
                bent[at].0[flip % 32] ^= 1;
                let refused = verify_inclusion(&bent, index, leaf, size, top);
                let by_reason = matches!(refused, Err(ProofError::RootMismatch { .. }));
                prop_assert!(by_reason, "{:?}", refused);
                prop_assert_eq!(
                    verify_inclusion(&proof[1..], index, leaf, size, top),
                    Err(ProofError::WrongLength { got: proof.len() - 1 })
                );
            }
        }

        #[test]
        fn any_hashes_never_panic(
            hashes in proptest::collection::vec(any::<[u8; 32]>(), 0..70),
            a in any::<u64>(), b in any::<u64>(),
        ) {
            let proof: Vec<Hash> = hashes.into_iter().map(Hash).collect();
            let zero = Hash([0; 32]);
            let _ = verify_inclusion(&proof, a, zero, b, zero);
            let _ = verify_consistency(&proof, a, zero, b, zero);
        }
    }
}
