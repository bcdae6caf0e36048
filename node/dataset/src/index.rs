//! The index of a packed data set: which shards hold which packs, and how much there is.
//!
//! Its bytes are canonical (magic, then postcard), so the index is a blob like the shards: its name is the data set's
//! name. Packs are numbered through, shard after shard.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use talkoot_protocol::digest::{BlobRef, Digest};

/// The first bytes of every index; the last one is the version.
const MAGIC: &[u8; 8] = b"TKINDEX\x01";
/// Longest index that is read, in bytes: about 1.5 million shards.
pub const MAX_INDEX_BYTES: usize = 64 << 20;
/// Longest sequence that a pack may be, in tokens.
pub const MAX_SEQUENCE_TOKENS: u32 = 1 << 20;

/// A shard and how many packs it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardEntry {
    /// Name and length of the file.
    pub blob: BlobRef,
    /// Packs in it.
    pub packs: u32,
}

/// How much there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Packed sequences.
    pub packs: u64,
    /// Samples in them.
    pub samples: u64,
    /// Tokens, picture tokens included.
    pub tokens: u64,
    /// Tokens that are learnt.
    pub learned_tokens: u64,
    /// Pictures.
    pub images: u64,
}

impl Totals {
    /// Share of the sequences' room that holds tokens, 0 to 1.
    pub fn fill_rate(&self, sequence_tokens: u32) -> f64 {
        let room = self.packs as f64 * f64::from(sequence_tokens);
        if room > 0.0 { self.tokens as f64 / room } else { 0.0 }
    }
}

/// What an index says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackIndex {
    /// The tokenizer that made the ids.
    pub tokenizer: BlobRef,
    /// Rows that an embedding table needs.
    pub vocab_size: u32,
    /// Id of a picture's token.
    pub image_pad: u32,
    /// Most tokens of a pack.
    pub sequence_tokens: u32,
    /// Fewest pixels of a picture.
    pub min_pixels: u32,
    /// Most pixels of a picture.
    pub max_pixels: u32,
    /// How much there is.
    pub totals: Totals,
    /// The shards, in the order of the packs' numbers.
    pub shards: Vec<ShardEntry>,
}

/// Why bytes are not an index, or a pack is not in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// Too many bytes to be looked at.
    #[error("an index of {bytes} bytes is longer than the limit of {MAX_INDEX_BYTES}")]
    TooLong {
        /// How many.
        bytes: usize,
    },
    /// Not an index of this version.
    #[error("not a data set index of version 1; pack the data anew or use the release that packed it")]
    WrongMagic,
    /// The bytes stop short or mean nothing.
    #[error("malformed index: {reason}")]
    Malformed {
        /// What is wrong.
        reason: String,
    },
    /// A pack's number is beyond the last.
    #[error("pack {pack} does not exist, the data set has {packs} packs")]
    NoSuchPack {
        /// The number asked for.
        pack: u64,
        /// How many there are.
        packs: u64,
    },
}

/// The index as it is written; digests as bytes rather than text.
#[derive(Serialize, Deserialize)]
struct Wire {
    tokenizer: ([u8; 32], u64),
    vocab_size: u32,
    image_pad: u32,
    sequence_tokens: u32,
    min_pixels: u32,
    max_pixels: u32,
    totals: Totals,
    shards: Vec<([u8; 32], u64, u32)>,
}

fn malformed(reason: impl ToString) -> IndexError {
    IndexError::Malformed { reason: reason.to_string() }
}

impl PackIndex {
    /// The canonical bytes.
    ///
    /// # Errors
    ///
    /// [`IndexError::Malformed`] when the encoder refuses, which it has no reason to.
    pub fn to_bytes(&self) -> Result<Vec<u8>, IndexError> {
        let blob = |blob: BlobRef| (*blob.digest.as_bytes(), blob.bytes);
        let wire = Wire {
            tokenizer: blob(self.tokenizer),
            vocab_size: self.vocab_size,
            image_pad: self.image_pad,
            sequence_tokens: self.sequence_tokens,
            min_pixels: self.min_pixels,
            max_pixels: self.max_pixels,
            totals: self.totals,
            shards: self
                .shards
                .iter()
                .map(|shard| {
                    let (digest, bytes) = blob(shard.blob);
                    (digest, bytes, shard.packs)
                })
                .collect(),
        };
        postcard::to_extend(&wire, MAGIC.to_vec()).map_err(malformed)
    }

    /// Reads the canonical bytes; no other spelling of the same index is accepted.
    ///
    /// # Errors
    ///
    /// [`IndexError`] saying what is wrong with them.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, IndexError> {
        if bytes.len() > MAX_INDEX_BYTES {
            return Err(IndexError::TooLong { bytes: bytes.len() });
        }
        let body = bytes.strip_prefix(MAGIC).ok_or(IndexError::WrongMagic)?;
        let wire: Wire = postcard::from_bytes(body).map_err(malformed)?;
        let blob = |(digest, bytes): ([u8; 32], u64)| BlobRef { digest: Digest::from_bytes(digest), bytes };
        let index = Self {
            tokenizer: blob(wire.tokenizer),
            vocab_size: wire.vocab_size,
            image_pad: wire.image_pad,
            sequence_tokens: wire.sequence_tokens,
            min_pixels: wire.min_pixels,
            max_pixels: wire.max_pixels,
            totals: wire.totals,
            shards: wire
                .shards
                .into_iter()
                .map(|(digest, bytes, packs)| ShardEntry { blob: blob((digest, bytes)), packs })
                .collect(),
        };
        index.check()?;
        if index.to_bytes()? != bytes {
            return Err(malformed("the bytes are not the canonical ones"));
        }
        Ok(index)
    }

    fn check(&self) -> Result<(), IndexError> {
        if self.sequence_tokens == 0 || self.sequence_tokens > MAX_SEQUENCE_TOKENS {
            return Err(malformed(format!(
                "sequence_tokens is {}, it must be 1 to {MAX_SEQUENCE_TOKENS}",
                self.sequence_tokens
            )));
        }
        if self.image_pad >= self.vocab_size {
            return Err(malformed(format!("image_pad {} is not below {}", self.image_pad, self.vocab_size)));
        }
        if self.shards.iter().any(|shard| shard.packs == 0) {
            return Err(malformed("a shard has no packs"));
        }
        let packs: u64 = self.shards.iter().map(|shard| u64::from(shard.packs)).sum();
        if packs != self.totals.packs {
            return Err(malformed(format!(
                "the shards hold {packs} packs, the totals say {}",
                self.totals.packs
            )));
        }
        Ok(())
    }

    /// Where a pack is: the shard's place in [`Self::shards`] and the pack's place in the shard.
    ///
    /// # Errors
    ///
    /// [`IndexError::NoSuchPack`].
    pub fn locate(&self, pack: u64) -> Result<(usize, u32), IndexError> {
        let mut left = pack;
        for (at, shard) in self.shards.iter().enumerate() {
            if left < u64::from(shard.packs) {
                return Ok((at, left as u32));
            }
            left -= u64::from(shard.packs);
        }
        Err(IndexError::NoSuchPack { pack, packs: self.totals.packs })
    }

    /// The shards that hold these packs, each once, in the order of the index: what a member must fetch.
    ///
    /// # Errors
    ///
    /// [`IndexError::NoSuchPack`].
    pub fn shards_of(&self, packs: impl IntoIterator<Item = u64>) -> Result<Vec<BlobRef>, IndexError> {
        let places = packs
            .into_iter()
            .map(|pack| self.locate(pack).map(|(shard, _)| shard))
            .collect::<Result<BTreeSet<_>, _>>()?;
        Ok(places.into_iter().map(|at| self.shards[at].blob).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn index() -> PackIndex {
        let shard = |n: u8, packs| ShardEntry { blob: BlobRef::of(&[n; 9]), packs };
        PackIndex {
            tokenizer: BlobRef::of(b"tokenizer"),
            vocab_size: 500,
            image_pad: 498,
            sequence_tokens: 256,
            min_pixels: 3136,
            max_pixels: 12_544,
            totals: Totals { packs: 6, samples: 20, tokens: 1500, learned_tokens: 200, images: 20 },
            shards: vec![shard(1, 3), shard(2, 1), shard(3, 2)],
        }
    }

    #[test]
    fn an_index_round_trips_and_finds_packs() {
        let index = index();
        assert_eq!(PackIndex::from_bytes(&index.to_bytes().unwrap()), Ok(index.clone()));
        assert_eq!(index.locate(0), Ok((0, 0)));
        assert_eq!(index.locate(3), Ok((1, 0)));
        assert_eq!(index.locate(5), Ok((2, 1)));
        assert_eq!(index.locate(6), Err(IndexError::NoSuchPack { pack: 6, packs: 6 }));
        let shards = index.shards_of([5, 0, 2, 4]).unwrap();
        assert_eq!(shards, [index.shards[0].blob, index.shards[2].blob]);
    }

    #[test]
    fn an_index_that_contradicts_itself_is_refused() {
        let refused = |change: fn(&mut PackIndex)| {
            let mut index = index();
            change(&mut index);
            PackIndex::from_bytes(&index.to_bytes().unwrap()).unwrap_err().to_string()
        };
        assert!(refused(|i| i.totals.packs = 7).contains("hold 6 packs"));
        assert!(refused(|i| i.sequence_tokens = 0).contains("sequence_tokens is 0"));
        assert!(refused(|i| i.image_pad = 500).contains("image_pad 500"));
        assert!(refused(|i| i.shards[1].packs = 0).contains("no packs"));
        assert_eq!(PackIndex::from_bytes(b"TKINDEX\x02"), Err(IndexError::WrongMagic));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = PackIndex::from_bytes(&bytes);
            let _ = PackIndex::from_bytes(&[MAGIC.as_slice(), &bytes].concat());
        }

        #[test]
        fn what_is_accepted_is_canonical(at in 0usize..200, flip in 1u8..) {
            let mut bytes = index().to_bytes().unwrap();
            let at = at % bytes.len();
            bytes[at] ^= flip;
            if let Ok(read) = PackIndex::from_bytes(&bytes) {
                prop_assert_eq!(read.to_bytes().unwrap(), bytes);
            }
        }
    }
}
