//! Who speaks: ed25519 keys, member ids, and signatures that say what they are about.

use std::{fmt, str::FromStr};

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use minicbor::{Decode, Decoder, Encode, Encoder};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A member's ed25519 public key; it is the member's name everywhere.
///
/// Written as 64 lower-case hexadecimal digits. Members are ordered by these bytes wherever an order
/// matters (the sealed set, the aggregation).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId([u8; 32]);

/// The text is not a member id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a member id is 64 lower-case hexadecimal digits, got {got:?}")]
pub struct ParseMemberIdError {
    got: String,
}

impl MemberId {
    /// Takes the 32 bytes of a public key; whether they are one is seen when a signature is checked.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes of the public key.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first eight hexadecimal digits, for people.
    pub fn short(&self) -> String {
        self.to_string()[..8].to_owned()
    }

    /// Whether `signature` is this member's over `message` under `domain`.
    ///
    /// The check is the strict one: it refuses small-order keys and malleable signatures.
    pub fn verifies(&self, domain: &str, message: &[u8], signature: &Signature) -> bool {
        VerifyingKey::from_bytes(&self.0).is_ok_and(|key| {
            let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
            key.verify_strict(&in_domain(domain, message), &signature).is_ok()
        })
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemberId({})", self.short())
    }
}

impl FromStr for MemberId {
    type Err = ParseMemberIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        data_encoding::HEXLOWER
            .decode(text.as_bytes())
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or_else(|| ParseMemberIdError { got: text.chars().take(80).collect() })
    }
}

impl Serialize for MemberId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MemberId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl<C> Encode<C> for MemberId {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&self.0)?;
        Ok(())
    }
}

impl<'b, C> Decode<'b, C> for MemberId {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        crate::canonical::decode_array(d, "a member id has 32 bytes").map(Self)
    }
}

/// An ed25519 signature of 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature([u8; 64]);

impl Signature {
    /// Takes the 64 bytes of a signature.
    pub const fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// The 64 bytes of the signature.
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({}..)", data_encoding::HEXLOWER.encode(&self.0[..4]))
    }
}

impl<C> Encode<C> for Signature {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&self.0)?;
        Ok(())
    }
}

impl<'b, C> Decode<'b, C> for Signature {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        crate::canonical::decode_array(d, "a signature has 64 bytes").map(Self)
    }
}

/// A member's secret key. Never printed, never encoded.
#[derive(Clone)]
pub struct Keypair(SigningKey);

impl Keypair {
    /// The key that follows from 32 secret bytes.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&seed))
    }

    /// The 32 secret bytes, for the key file and for libraries that want the same identity.
    pub fn seed(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The public half.
    pub fn id(&self) -> MemberId {
        MemberId(self.0.verifying_key().to_bytes())
    }

    /// Signs `message` under `domain`, so that a signature for one purpose is worth nothing for another.
    pub fn sign(&self, domain: &str, message: &[u8]) -> Signature {
        Signature(self.0.sign(&in_domain(domain, message)).to_bytes())
    }
}

impl fmt::Debug for Keypair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keypair({})", self.id().short())
    }
}

/// What is really signed: the domain, a newline, the message. No domain holds a newline.
fn in_domain(domain: &str, message: &[u8]) -> Vec<u8> {
    debug_assert!(!domain.contains('\n'), "a signing domain is one line");
    [domain.as_bytes(), b"\n", message].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_in_its_own_domain_alone() {
        let key = Keypair::from_seed([7; 32]);
        let signature = key.sign("talkoot/test/v1", b"yes");
        assert!(key.id().verifies("talkoot/test/v1", b"yes", &signature));
        assert!(!key.id().verifies("talkoot/other/v1", b"yes", &signature));
        assert!(!key.id().verifies("talkoot/test/v1", b"no", &signature));
        assert!(!Keypair::from_seed([8; 32]).id().verifies("talkoot/test/v1", b"yes", &signature));
    }
}
