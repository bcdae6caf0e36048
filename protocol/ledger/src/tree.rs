//! The Merkle tree of RFC 6962 with SHA-256: hashes, the compact range, proofs.
//!
//! ```text
//!            root                      a node (level, index) covers the leaves
//!           /    \                     index << level .. (index + 1) << level
//!      (1, 0)     \
//!      /    \      \
//!   (0,0)  (0,1)  (0,2)
//! ```

use std::fmt;

use data_encoding::{BASE64, HEXLOWER};
use sha2::{Digest as _, Sha256};

mod compact;
mod proof;

pub use compact::CompactRange;
pub use proof::{
    MAX_PROOF_HASHES, ProofError, prove_consistency, prove_inclusion, root_at, verify_consistency,
    verify_inclusion,
};

/// A node of the tree: 32 bytes of SHA-256. Printed as base64, as checkpoints print it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// Bytes in a hash.
    pub const LEN: usize = 32;
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(&self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({})", HEXLOWER.encode(&self.0))
    }
}

/// The root of the tree without leaves: SHA-256 of nothing.
#[must_use]
pub fn empty_root() -> Hash {
    Hash(Sha256::digest([]).into())
}

/// The hash of a leaf: SHA-256(0x00 ‖ entry).
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update([0]);
    hasher.update(entry);
    Hash(hasher.finalize().into())
}

/// The hash of an inner node: SHA-256(0x01 ‖ left ‖ right).
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut message = [0; 65];
    message[0] = 1;
    message[1..33].copy_from_slice(&left.0);
    message[33..].copy_from_slice(&right.0);
    Hash(Sha256::digest(message).into())
}

/// Where proofs take their hashes from: tiles on a disk, a cache, a peer.
pub trait HashReader {
    /// What can go wrong while reading.
    type Error;

    /// The node at `level` over the leaves `index << level .. (index + 1) << level`. Only nodes that
    /// lie wholly within the tree being asked about are ever requested.
    ///
    /// # Errors
    ///
    /// Whatever keeps the reader from answering.
    fn node(&self, level: u8, index: u64) -> Result<Hash, Self::Error>;
}

/// The root of a complete subtree, given its hashes at the bottom, whose number is a power of two.
pub(crate) fn fold(hashes: &[Hash]) -> Hash {
    debug_assert!(hashes.len().is_power_of_two(), "a complete subtree has a power of two of leaves");
    let mut row = hashes.to_vec();
    while row.len() > 1 {
        row = row.chunks_exact(2).map(|pair| node_hash(&pair[0], &pair[1])).collect();
    }
    row.first().copied().unwrap_or_else(empty_root)
}

/// Test support: the tree by its definition, slowly and obviously.
#[cfg(test)]
pub(crate) mod plain {
    use super::{Hash, HashReader, empty_root, node_hash};

    /// MTH of RFC 6962, section 2.1, as written there.
    pub(crate) fn root(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => empty_root(),
            [one] => *one,
            _ => {
                let split = leaves.len().next_power_of_two() / 2;
                node_hash(&root(&leaves[..split]), &root(&leaves[split..]))
            }
        }
    }

    /// Leaves in memory, read by definition.
    pub(crate) struct Leaves(pub(crate) Vec<Hash>);

    impl HashReader for Leaves {
        type Error = std::convert::Infallible;
        fn node(&self, level: u8, index: u64) -> Result<Hash, Self::Error> {
            let from = usize::try_from(index << level).unwrap();
            Ok(root(&self.0[from..from + (1 << level)]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_rfc_6962() {
        // SHA-256 of nothing, of a single zero byte
        assert_eq!(
            format!("{:?}", empty_root()),
            "Hash(e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855)"
        );
        assert_eq!(
            format!("{:?}", leaf_hash(b"")),
            "Hash(6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d)"
        );
    }

    #[test]
    fn a_leaf_is_never_a_node() {
        let (left, right) = (leaf_hash(b"l"), leaf_hash(b"r"));
        let joined = [left.0, right.0].concat();
        assert_ne!(leaf_hash(&joined), node_hash(&left, &right));
    }
}
