//! The file format of a shard: some packs, one after another, with a table of where each begins.
//!
//! ```text
//! head   64 bytes  magic "TKSHARD" + version, packs, sequence_tokens, vocab_size, image_pad, zeros, tokenizer digest
//! table  4 x packs length of each pack in bytes
//! packs            counts (3 x u32), tokens (u32 each), learnt bits, sample lengths (u32 each),
//!                  pictures: width u16, height u16, length u32 each; then their PNG files
//! ```
//!
//! All numbers are little-endian. Every byte is accounted for: what a table says must add up to the file's length
//! exactly. There is no checksum inside because the file's name is its hash. Labels are not stored: a token is
//! learnt or it isn't, and its label is itself.

mod body;

use talkoot_protocol::digest::Digest;

pub use self::body::{Packed, Picture, decode_pack, encode_pack};
use crate::index::MAX_SEQUENCE_TOKENS;

/// The first bytes of every shard; the last one is the version.
const MAGIC: &[u8; 8] = b"TKSHARD\x01";
/// Bytes of the head.
pub const HEAD_BYTES: usize = 64;
/// Most packs of a shard: a table of 16 MiB.
pub const MAX_PACKS: u32 = 4 << 20;

/// What packs of one shard have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackRules {
    /// The tokenizer that made the ids.
    pub tokenizer: Digest,
    /// Most tokens of a pack.
    pub sequence_tokens: u32,
    /// All ids are below.
    pub vocab_size: u32,
    /// Id of a picture's token.
    pub image_pad: u32,
}

/// What is wrong with a shard or one of its packs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShardFault {
    /// Not a shard of this version.
    #[error("not a shard of version 1")]
    WrongMagic,
    /// The file stops before what it says it holds, or goes on after it.
    #[error("{what} need {needed} bytes, there are {got}")]
    WrongLength {
        /// Which part.
        what: &'static str,
        /// What it takes.
        needed: u64,
        /// What there is.
        got: u64,
    },
    /// A number is outside its bounds.
    #[error("{what} is {got}, the limit is {limit}")]
    OutOfBounds {
        /// Which number.
        what: &'static str,
        /// Its value.
        got: u64,
        /// The most (or what exactly) it may be.
        limit: u64,
    },
    /// Bits or bytes that must be zero are not.
    #[error("{what} must be zero")]
    NotZero {
        /// Which.
        what: &'static str,
    },
    /// The first token of a sample is learnt; it would be predicted from another sample's last.
    #[error("the first token of sample {sample} is learnt")]
    LearnedStart {
        /// Number of the sample in the pack.
        sample: usize,
    },
    /// A picture's bytes are not the picture that its entry describes.
    #[error("picture {picture} is damaged: {reason}")]
    Picture {
        /// Number of the picture in the pack.
        picture: usize,
        /// What is wrong.
        reason: String,
    },
}

/// Reads little-endian numbers and refuses to go past the end.
pub(crate) struct Bytes<'a> {
    left: &'a [u8],
}

impl<'a> Bytes<'a> {
    pub(crate) fn new(left: &'a [u8]) -> Self {
        Self { left }
    }

    pub(crate) fn take(&mut self, what: &'static str, needed: usize) -> Result<&'a [u8], ShardFault> {
        let Some((taken, left)) = self.left.split_at_checked(needed) else {
            return Err(ShardFault::WrongLength { what, needed: needed as u64, got: self.left.len() as u64 });
        };
        self.left = left;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], ShardFault> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(what, N)?);
        Ok(out)
    }

    pub(crate) fn u16(&mut self, what: &'static str) -> Result<u16, ShardFault> {
        self.array(what).map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, ShardFault> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(crate) fn u32s(&mut self, what: &'static str, count: usize) -> Result<Vec<u32>, ShardFault> {
        let bytes = self.take(what, count.saturating_mul(4))?;
        Ok(bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    }

    pub(crate) fn left(&self) -> usize {
        self.left.len()
    }
}

pub(crate) fn at_most(what: &'static str, got: u64, limit: u64) -> Result<(), ShardFault> {
    if got > limit { Err(ShardFault::OutOfBounds { what, got, limit }) } else { Ok(()) }
}

/// Bytes of a shard of packs of these lengths.
pub fn shard_bytes(pack_lengths: &[u32]) -> u64 {
    let packs: u64 = pack_lengths.iter().map(|&length| u64::from(length)).sum();
    HEAD_BYTES as u64 + pack_lengths.len() as u64 * 4 + packs
}

/// The bytes of a shard with these packs (as [`encode_pack`] made them).
pub fn encode_shard(rules: &PackRules, packs: &[Vec<u8>]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    for number in [packs.len() as u32, rules.sequence_tokens, rules.vocab_size, rules.image_pad, 0, 0] {
        out.extend(number.to_le_bytes());
    }
    out.extend(rules.tokenizer.as_bytes());
    packs.iter().for_each(|pack| out.extend((pack.len() as u32).to_le_bytes()));
    packs.iter().for_each(|pack| out.extend(pack));
    out
}

/// The head of a shard: the rules of its packs and how many there are.
///
/// # Errors
///
/// [`ShardFault`] when the bytes are not a head or a number is out of bounds.
pub fn decode_head(head: &[u8]) -> Result<(PackRules, u32), ShardFault> {
    let mut bytes = Bytes::new(head);
    if bytes.take("head", 8)? != MAGIC {
        return Err(ShardFault::WrongMagic);
    }
    let [packs, sequence_tokens, vocab_size, image_pad] =
        [bytes.u32("head")?, bytes.u32("head")?, bytes.u32("head")?, bytes.u32("head")?];
    if bytes.take("head", 8)?.iter().any(|&byte| byte != 0) {
        return Err(ShardFault::NotZero { what: "spare bytes of the head" });
    }
    let tokenizer = Digest::from_bytes(bytes.array("head")?);
    at_most("packs", packs.into(), MAX_PACKS.into())?;
    at_most("sequence_tokens", sequence_tokens.into(), MAX_SEQUENCE_TOKENS.into())?;
    at_most("image_pad", image_pad.into(), u64::from(vocab_size).saturating_sub(1))?;
    Ok((PackRules { tokenizer, sequence_tokens, vocab_size, image_pad }, packs))
}

/// Where each pack begins, and where the last ends, in bytes from the start of the file.
///
/// # Errors
///
/// [`ShardFault`] when the table is not of `packs` entries or does not add up to `file_bytes`.
pub fn decode_table(table: &[u8], packs: u32, file_bytes: u64) -> Result<Vec<u64>, ShardFault> {
    let lengths = Bytes::new(table).u32s("table", packs as usize)?;
    let mut at = HEAD_BYTES as u64 + u64::from(packs) * 4;
    let mut starts = vec![at];
    for length in lengths {
        at += u64::from(length);
        starts.push(at);
    }
    if at != file_bytes {
        return Err(ShardFault::WrongLength { what: "head, table and packs", needed: at, got: file_bytes });
    }
    Ok(starts)
}

#[cfg(test)]
mod tests;
