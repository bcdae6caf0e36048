//! Content addresses: the BLAKE3 hash that names a blob, and the reference that also bounds its size.

use std::{fmt, str::FromStr};

use minicbor::{Decode, Decoder, Encode, Encoder};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A BLAKE3 hash of 32 bytes: the name of a blob, a run, a state, a tokenizer.
///
/// Written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// Why a text is not a [`Digest`] or a [`BlobRef`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseDigestError {
    /// The text has not the 64 hexadecimal digits of a digest.
    #[error("a digest is 64 lower-case hexadecimal digits, got {got:?}")]
    NotADigest {
        /// The text as it came, cut to 80 characters.
        got: String,
    },
    /// The text is not `<digest>:<bytes>`.
    #[error("a blob reference is written <64 hex digits>:<length in bytes>, got {got:?}")]
    NotAReference {
        /// The text as it came, cut to 80 characters.
        got: String,
    },
}

fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

impl Digest {
    /// Hash of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// Takes 32 bytes that are already a hash.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes of the hash.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first eight hexadecimal digits, for people.
    pub fn short(&self) -> String {
        self.to_string()[..8].to_owned()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({})", self.short())
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        data_encoding::HEXLOWER
            .decode(text.as_bytes())
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or_else(|| ParseDigestError::NotADigest { got: cut(text) })
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl<C> Encode<C> for Digest {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&self.0)?;
        Ok(())
    }
}

impl<'b, C> Decode<'b, C> for Digest {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        crate::canonical::decode_array(d, "a digest has 32 bytes").map(Self)
    }
}

/// A blob by name and length, so that a reader can bound what it allocates before the first byte comes.
///
/// Written `<digest>:<bytes>` in text, an array of both in CBOR.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct BlobRef {
    /// BLAKE3 hash of the content.
    #[n(0)]
    pub digest: Digest,
    /// Length of the content in bytes.
    #[n(1)]
    pub bytes: u64,
}

impl BlobRef {
    /// The reference to `content`.
    pub fn of(content: &[u8]) -> Self {
        Self { digest: Digest::of(content), bytes: content.len() as u64 }
    }
}

impl fmt::Display for BlobRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.digest, self.bytes)
    }
}

impl fmt::Debug for BlobRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobRef({}, {} bytes)", self.digest.short(), self.bytes)
    }
}

impl FromStr for BlobRef {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseDigestError::NotAReference { got: cut(text) };
        let (digest, bytes) = text.split_once(':').ok_or_else(wrong)?;
        if bytes.is_empty()
            || !bytes.bytes().all(|b| b.is_ascii_digit())
            || (bytes.len() > 1 && bytes.starts_with('0'))
        {
            return Err(wrong());
        }
        Ok(Self { digest: digest.parse()?, bytes: bytes.parse().map_err(|_| wrong())? })
    }
}

impl Serialize for BlobRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BlobRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms_round_trip() {
        let blob = BlobRef::of(b"neighbours");
        assert_eq!(blob.to_string().parse::<BlobRef>(), Ok(blob));
        assert_eq!(blob.digest.to_string().parse::<Digest>(), Ok(blob.digest));
    }

    #[test]
    fn only_one_spelling_is_accepted() {
        let blob = BlobRef::of(b"neighbours").to_string();
        assert!(blob.to_uppercase().parse::<BlobRef>().is_err());
        assert!(format!("{}:010", &blob[..64]).parse::<BlobRef>().is_err());
        assert!(format!("{}:+1", &blob[..64]).parse::<BlobRef>().is_err());
        assert!(blob[1..].parse::<BlobRef>().is_err());
    }
}
