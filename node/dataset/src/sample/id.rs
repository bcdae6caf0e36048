//! Names of samples, and the draws that go by them.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Origin, PictureRef};
use crate::chat::{Message, Role};

/// Half a BLAKE3 hash over source, place and content of a sample: the same for the same data wherever it lies.
///
/// Written as 32 lower-case hexadecimal digits. 128 bits tell 85 million samples apart with a chance of collision below
/// 2^-75. The pictures' bytes are not in it, only their lengths: naming a sample must not take reading its pictures.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SampleId([u8; 16]);

/// A text is not a [`SampleId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a sample id is 32 lower-case hexadecimal digits, got {got:?}")]
pub struct ParseSampleIdError {
    /// The text as it came, cut to 80 characters.
    got: String,
}

impl SampleId {
    /// Digits of an id in text.
    pub const DIGITS: usize = 32;

    /// The name of a sample: `derive_key("talkoot sample v1")` over every field as its length (8 bytes, little endian)
    /// and its bytes.
    pub fn of(origin: &Origin, messages: &[Message], pictures: &[PictureRef]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("talkoot sample v1");
        let mut field = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        field(origin.source.as_bytes());
        field(origin.file.as_bytes());
        field(&origin.record.to_le_bytes());
        for message in messages {
            field(match message.role {
                Role::System => b"system",
                Role::User => b"user",
                Role::Assistant => b"assistant",
            });
            field(message.text.as_bytes());
        }
        for picture in pictures {
            field(&picture.bytes.to_le_bytes());
        }
        Self::half(&hasher)
    }

    fn half(hasher: &blake3::Hasher) -> Self {
        let mut id = [0; 16];
        hasher.finalize_xof().fill(&mut id);
        Self(id)
    }

    /// Takes 16 bytes that are already an id.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes of the id.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// A number that this sample draws for `purpose` under `seed`, all values alike.
    ///
    /// It depends on nothing else, so any split of the work over hosts, in any order, draws the same.
    pub fn draw(&self, purpose: &str, seed: u64) -> u64 {
        let mut hasher = blake3::Hasher::new_derive_key("talkoot sample draw v1");
        hasher.update(&seed.to_le_bytes());
        hasher.update(&self.0);
        hasher.update(purpose.as_bytes());
        let mut number = [0; 8];
        hasher.finalize_xof().fill(&mut number);
        u64::from_le_bytes(number)
    }

    /// Which of `parts` this sample belongs to when the work is split; the parts are about equal.
    pub fn part(&self, parts: u32) -> u32 {
        let [a, b, c, d, ..] = self.0;
        ((u64::from(u32::from_be_bytes([a, b, c, d])) * u64::from(parts)) >> 32) as u32
    }
}

impl fmt::Display for SampleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for SampleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SampleId({self})")
    }
}

impl FromStr for SampleId {
    type Err = ParseSampleIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        data_encoding::HEXLOWER
            .decode(text.as_bytes())
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or_else(|| ParseSampleIdError { got: text.chars().take(80).collect() })
    }
}

impl Serialize for SampleId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SampleId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
