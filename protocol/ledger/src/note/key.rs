//! The keys of notes: names, ids, the vkey spelling, signing and checking.

use std::{fmt, str::FromStr};

use data_encoding::{BASE64, HEXLOWER};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};

use super::NoteSignature;
use crate::encoding;

/// The longest key name, in bytes. The format sets no limit; a line must fit a note with room to spare.
const MAX_NAME_BYTES: usize = 1024;

/// What a key signs, by the type byte of its vkey.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyKind {
    /// 0x01: a log signs the note text.
    Log,
    /// 0x04: a witness signs time and note text (cosignature/v1).
    Cosigner,
}

impl KeyKind {
    const fn byte(self) -> u8 {
        match self {
            Self::Log => 1,
            Self::Cosigner => 4,
        }
    }
}

/// Why a text is no verifier key, or a name no key name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The text isn't `name+id+key`.
    #[error("a verifier key reads name+hexid+base64key")]
    Malformed,
    /// The name is empty, too long, or has a space, a plus sign or a control character.
    #[error("key name {name:?} is empty, too long, or has a space, a plus sign or a control character")]
    BadName {
        /// The name.
        name: String,
    },
    /// The key id isn't eight lower-case hexadecimal digits.
    #[error("the key id is not eight lower-case hexadecimal digits")]
    BadId,
    /// The key isn't canonical base64 of 33 bytes.
    #[error("the key is not canonical base64 of a type byte and 32 bytes")]
    BadKey,
    /// The type byte names an algorithm that isn't supported.
    #[error("key type 0x{kind:02x} is not supported: 0x01 and 0x04 are")]
    UnknownKind {
        /// The type byte.
        kind: u8,
    },
    /// The key id belongs to another name or key.
    #[error("the key id is {got:08x}, but name and key give {expected:08x}; was a part of it mistyped?")]
    WrongId {
        /// The id that name and key give.
        expected: u32,
        /// The id written in the text.
        got: u32,
    },
    /// The 32 bytes aren't a point of the curve.
    #[error("the key is not a valid Ed25519 public key")]
    NotAPoint,
}

/// A public key with its name: who may sign what. Written `name+hexid+base64(type ‖ key)`.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    id: u32,
    kind: KeyKind,
    key: VerifyingKey,
}

impl VerifierKey {
    fn new(name: &str, kind: KeyKind, key: VerifyingKey) -> Result<Self, KeyError> {
        if !is_name(name) || name.len() > MAX_NAME_BYTES || name.bytes().any(|byte| byte < 0x20) {
            return Err(KeyError::BadName { name: name.chars().take(80).collect() });
        }
        let mut hasher = Sha256::new();
        hasher.update(name.as_bytes());
        hasher.update([b'\n', kind.byte()]);
        hasher.update(key.as_bytes());
        let digest: [u8; 32] = hasher.finalize().into();
        let id = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
        Ok(Self { name: name.to_owned(), id, kind, key })
    }

    /// The key's name; for a log, its origin.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first four bytes of SHA-256(name ‖ newline ‖ type ‖ key), big-endian.
    #[must_use]
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// What the key signs.
    #[must_use]
    pub const fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The 32 bytes of the public key, whatever its name.
    #[must_use]
    pub fn public_bytes(&self) -> [u8; 32] {
        self.key.to_bytes()
    }

    /// Checks a signature over `text`; the inner option is the time of a cosignature.
    pub(super) fn check(&self, text: &str, blob: &[u8]) -> Option<Option<u64>> {
        match self.kind {
            KeyKind::Log => {
                let signature = Signature::from_bytes(blob.try_into().ok()?);
                self.key.verify_strict(text.as_bytes(), &signature).ok()?;
                Some(None)
            }
            KeyKind::Cosigner => {
                let (time, signature) = blob.split_first_chunk::<8>()?;
                let signature = Signature::from_bytes(signature.try_into().ok()?);
                let unix_seconds = u64::from_be_bytes(*time);
                if unix_seconds > encoding::MAX_SIZE {
                    return None;
                }
                self.key.verify_strict(cosigned(text, unix_seconds).as_bytes(), &signature).ok()?;
                Some(Some(unix_seconds))
            }
        }
    }
}

/// What a cosignature/v1 signs.
fn cosigned(text: &str, unix_seconds: u64) -> String {
    format!("cosignature/v1\ntime {unix_seconds}\n{text}")
}

impl FromStr for VerifierKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        // base64 has plus signs of its own, so only the first two separate
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(KeyError::Malformed);
        };
        let id = HEXLOWER.decode(id.as_bytes()).map_err(|_| KeyError::BadId)?;
        let got = u32::from_be_bytes(id.try_into().map_err(|_| KeyError::BadId)?);
        let key = encoding::base64(key).ok_or(KeyError::BadKey)?;
        let (&kind, key) = key.split_first().ok_or(KeyError::BadKey)?;
        let kind = match kind {
            1 => KeyKind::Log,
            4 => KeyKind::Cosigner,
            kind => return Err(KeyError::UnknownKind { kind }),
        };
        let key: &[u8; 32] = key.try_into().map_err(|_| KeyError::BadKey)?;
        let key = VerifyingKey::from_bytes(key).map_err(|_| KeyError::NotAPoint)?;
        let verifier = Self::new(name, kind, key)?;
        if verifier.id != got {
            return Err(KeyError::WrongId { expected: verifier.id, got });
        }
        Ok(verifier)
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&[self.kind.byte()][..], self.key.as_bytes()].concat();
        write!(f, "{}+{:08x}+{}", self.name, self.id, BASE64.encode(&bytes))
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifierKey({self})")
    }
}

/// A private key with its name. Its debug form shows the public half only.
#[derive(Clone)]
pub struct SignerKey {
    key: SigningKey,
    verifier: VerifierKey,
}

impl SignerKey {
    /// A log's key. The name is the log's origin.
    ///
    /// # Errors
    ///
    /// [`KeyError::BadName`].
    pub fn log(name: &str, seed: &[u8; 32]) -> Result<Self, KeyError> {
        Self::new(name, KeyKind::Log, seed)
    }

    /// A witness's key. It must not be the seed of any other role: a cosignature doesn't commit to the
    /// cosigner's name, so one key is one cosigner.
    ///
    /// # Errors
    ///
    /// [`KeyError::BadName`].
    pub fn cosigner(name: &str, seed: &[u8; 32]) -> Result<Self, KeyError> {
        Self::new(name, KeyKind::Cosigner, seed)
    }

    fn new(name: &str, kind: KeyKind, seed: &[u8; 32]) -> Result<Self, KeyError> {
        let key = SigningKey::from_bytes(seed);
        let verifier = VerifierKey::new(name, kind, key.verifying_key())?;
        Ok(Self { key, verifier })
    }

    /// The public half.
    #[must_use]
    pub fn verifier(&self) -> VerifierKey {
        self.verifier.clone()
    }

    /// Signs a note text. A log's signature carries no time and ignores `unix_seconds`.
    #[must_use]
    pub fn sign(&self, text: &str, unix_seconds: u64) -> NoteSignature {
        let blob = match self.verifier.kind {
            KeyKind::Log => self.key.sign(text.as_bytes()).to_bytes().to_vec(),
            KeyKind::Cosigner => {
                let signature = self.key.sign(cosigned(text, unix_seconds).as_bytes());
                [&unix_seconds.to_be_bytes()[..], &signature.to_bytes()].concat()
            }
        };
        NoteSignature { name: self.verifier.name.clone(), key_id: self.verifier.id, blob }
    }
}

impl fmt::Debug for SignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignerKey({})", self.verifier)
    }
}

/// Whether a text may name a key in a signature line.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c == '+')
}
