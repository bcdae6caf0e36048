//! The file format of a shard: a tar that `WebDataset` tools read, with one spelling for each content.
//!
//! ```text
//! 000000041.json       {"pack":41,"samples":[{"source":…,"record":…,"licence":…,"tokens":[…],"learned":[[5,9]],…},…]}
//! 000000041.img0.jpg   the encoded pictures as they came, in the order of their tokens
//! 000000041.img1.png
//! 000000042.json       packs are numbered through the whole data set
//! …
//! ```
//!
//! Headers are plain ustar: mode 644, owner 0, time 0, nothing else set. A reader takes these and no others, so every
//! byte of a shard follows from what is in it, and nothing can hide between the packs. There is no checksum inside
//! because the file's name is its BLAKE3 hash.
//!
//! [`walk`] finds the packs of a shard by their headers alone, [`PackParts::parse`] reads a pack without decoding its
//! pictures, [`PackParts::decode`] decodes them.

mod body;
pub mod member;
mod outboard;
mod walk;
mod write;

pub use self::{
    body::{PackParts, PackRules, PackedSample, StoredPicture, fragment},
    member::PictureFormat,
    outboard::{OUTBOARD_SUFFIX, outboard},
    walk::walk,
    write::{PackBytes, ShardWriter, WrittenShard, pack_bytes_at_most, sample_bytes},
};

/// Longest pack, in bytes of its members.
pub const MAX_PACK_BYTES: u64 = 1 << 30;
/// Most packs of a shard.
pub const MAX_PACKS: u32 = 1 << 20;

/// What is wrong with a shard or one of its packs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShardFault {
    /// The file stops before what it says it holds, or goes on after it.
    #[error("{what}: {needed} bytes are needed, there are {got}")]
    WrongLength {
        /// Which part.
        what: &'static str,
        /// What it takes.
        needed: u64,
        /// What there is.
        got: u64,
    },
    /// A tar header is damaged, or not spelt as this format spells it.
    #[error("the header of the member at byte {offset} is not one of a shard: {reason}")]
    Header {
        /// Where it stands in the shard or the pack.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// Another member stands where one must.
    #[error("member {got:?} stands where {expected:?} must")]
    WrongMember {
        /// What must stand there.
        expected: String,
        /// What does.
        got: String,
    },
    /// A pack's JSON is not of this format.
    #[error("the JSON of the pack: {reason}")]
    Json {
        /// The parser's words.
        reason: String,
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
    /// The stretches of learnt tokens are out of order, empty, or reach a sample's first token or beyond its last.
    #[error(
        "learnt tokens {start}+{length} of sample {sample} are not a stretch after the one before, from 1 on, within {tokens}"
    )]
    Learned {
        /// Number of the sample in the pack.
        sample: usize,
        /// Where the stretch begins in the sample.
        start: u32,
        /// How many tokens it has.
        length: u32,
        /// Tokens of the sample.
        tokens: usize,
    },
    /// A picture's bytes are not the picture that the JSON describes.
    #[error("picture {picture} is damaged: {reason}")]
    Picture {
        /// Number of the picture in the pack.
        picture: usize,
        /// What is wrong.
        reason: String,
    },
}

fn at_most(what: &'static str, got: u64, limit: u64) -> Result<(), ShardFault> {
    if got > limit { Err(ShardFault::OutOfBounds { what, got, limit }) } else { Ok(()) }
}

#[cfg(test)]
pub(crate) mod tests;
