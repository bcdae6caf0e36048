//! The manifest of a data set: what is in it, how it was made, and who says so.
//!
//! ```text
//! "TKDATA" 0x00 version | LE32 length | body: index, making (postcard) | [publisher's key 32 | signature 64]
//! ^-------------------- content: its hash names the data -----------^
//! ^-------------------- blob: its hash goes into a run's manifest -------------------------------------^
//! ```
//!
//! Version 1 is for data without periods, version 2 for data with them: so a program that does not know of periods
//! refuses what it would learn in the wrong order, and what has none is named as it always was.
//!
//! The bytes are canonical: no other spelling of the same manifest is accepted. Whoever packs the same data in the same
//! way finds the same content digest, with or without a signature.

mod wire;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use talkoot_protocol::{
    digest::Digest,
    identity::{Keypair, MemberId, Signature},
};

use crate::{
    index::{IndexError, PackIndex},
    pack::FitRules,
};

/// The first bytes of every manifest; the version follows.
const MAGIC: &[u8; 7] = b"TKDATA\x00";
/// Longest manifest that is read, in bytes: about 1.5 million shards.
pub const MAX_MANIFEST_BYTES: usize = 64 << 20;
/// Most bytes of one [section](Making::sections).
pub const MAX_SECTION_BYTES: usize = 16 << 20;
/// What a publisher signs under.
pub const SIGNING_DOMAIN: &str = "talkoot/dataset/v1";

/// What the byte after the magic says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    /// The data have no periods.
    Plain = 1,
    /// The data have periods.
    Periods = 2,
}

impl Version {
    fn of(index: &PackIndex) -> Self {
        if index.periods.is_empty() { Self::Plain } else { Self::Periods }
    }

    /// The version of a manifest, and what comes after it.
    fn split(bytes: &[u8]) -> Result<(Self, &[u8]), ManifestError> {
        match bytes.strip_prefix(MAGIC).and_then(<[u8]>::split_first) {
            Some((1, rest)) => Ok((Self::Plain, rest)),
            Some((2, rest)) => Ok((Self::Periods, rest)),
            _ => Err(ManifestError::WrongMagic),
        }
    }
}

/// Samples of one source under one licence.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SourceCount {
    /// Name of the source.
    pub source: String,
    /// The licence, where it is known.
    pub licence: Option<String>,
    /// Samples that were packed.
    pub samples: u64,
}

/// How a data set was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Making {
    /// What the data set is called.
    pub name: String,
    /// Name and version of the program.
    pub tool: String,
    /// Sets the order of samples and packs.
    pub seed: u64,
    /// What a pack may be.
    pub fit: FitRules,
    /// Most bytes of a shard.
    pub shard_bytes: u64,
    /// Records read: samples and rejects together.
    pub records: u64,
    /// Records left out, by what was wrong.
    pub rejects: BTreeMap<String, u64>,
    /// What was packed, by source and licence, ascending.
    pub sources: Vec<SourceCount>,
    /// What else was done to the samples before they were packed (`filter`, `balance` …): canonical bytes by name, whose
    /// meaning is the business of whoever did it.
    pub sections: BTreeMap<String, Vec<u8>>,
}

/// A data set, as its manifest tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetManifest {
    /// What a reader must know.
    pub index: PackIndex,
    /// How it was made.
    pub making: Making,
    /// Who says so, if anybody: checked when the manifest was read.
    pub publisher: Option<MemberId>,
    /// Digest of the content, the signature left out: what names the data.
    pub content: Digest,
}

/// Why bytes are not a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// Too many bytes to be looked at.
    #[error("a manifest of {bytes} bytes is longer than the limit of {MAX_MANIFEST_BYTES}")]
    TooLong {
        /// How many.
        bytes: usize,
    },
    /// Not a manifest of this version.
    #[error(
        "not a data set manifest of version 1 or 2; pack the data anew or use the release that packed it"
    )]
    WrongMagic,
    /// The bytes stop short or mean nothing.
    #[error("malformed manifest: {reason}")]
    Malformed {
        /// What is wrong.
        reason: String,
    },
    /// The signature is not the publisher's over this content.
    #[error("the signature of {publisher} does not fit the manifest; get it from somewhere else")]
    BadSignature {
        /// Who is said to have signed.
        publisher: MemberId,
    },
    /// The numbers do not fit one another.
    #[error(transparent)]
    Index(#[from] IndexError),
}

fn malformed(reason: impl ToString) -> ManifestError {
    ManifestError::Malformed { reason: reason.to_string() }
}

/// The canonical bytes of a manifest, signed when there is a key.
///
/// # Errors
///
/// [`ManifestError`] when the index contradicts itself or there are too many bytes.
pub fn to_bytes(
    index: &PackIndex,
    making: &Making,
    publisher: Option<&Keypair>,
) -> Result<Vec<u8>, ManifestError> {
    index.check()?;
    let body = wire::encode(index, making)?;
    let length = u32::try_from(body.len()).map_err(malformed)?;
    let mut bytes = [MAGIC.as_slice(), &[Version::of(index) as u8], &length.to_le_bytes(), &body].concat();
    if let Some(key) = publisher {
        let signature = key.sign(SIGNING_DOMAIN, &bytes);
        bytes.extend(key.id().as_bytes());
        bytes.extend(signature.as_bytes());
    }
    if bytes.len() > MAX_MANIFEST_BYTES {
        return Err(ManifestError::TooLong { bytes: bytes.len() });
    }
    Ok(bytes)
}

impl DatasetManifest {
    /// Reads canonical bytes, and checks the signature if there is one.
    ///
    /// # Errors
    ///
    /// [`ManifestError`] saying what is wrong with them.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MAX_MANIFEST_BYTES {
            return Err(ManifestError::TooLong { bytes: bytes.len() });
        }
        let (version, rest) = Version::split(bytes)?;
        let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(|| malformed("it has no length"))?;
        let length = u32::from_le_bytes(*length) as usize;
        let (body, seal) =
            rest.split_at_checked(length).ok_or_else(|| malformed("it is shorter than it says"))?;
        let content = &bytes[..bytes.len() - seal.len()];
        let publisher = publisher(seal, content)?;
        let (index, making) = wire::decode(version, body)?;
        index.check()?;
        Ok(Self { index, making, publisher, content: Digest::of(content) })
    }
}

/// The publisher, whose signature fits.
fn publisher(seal: &[u8], content: &[u8]) -> Result<Option<MemberId>, ManifestError> {
    if seal.is_empty() {
        return Ok(None);
    }
    let parts = seal.split_first_chunk::<32>().map(|(key, rest)| (key, <[u8; 64]>::try_from(rest)));
    let Some((key, Ok(signature))) = parts else {
        return Err(malformed(format!("{} bytes follow where a key and a signature must", seal.len())));
    };
    let publisher = MemberId::from_bytes(*key);
    if publisher.verifies(SIGNING_DOMAIN, content, &Signature::from_bytes(signature)) {
        return Ok(Some(publisher));
    }
    Err(ManifestError::BadSignature { publisher })
}

#[cfg(test)]
pub(crate) mod tests;
