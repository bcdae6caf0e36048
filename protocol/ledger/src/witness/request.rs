//! The body of an `add-checkpoint` request.

use std::fmt;

use crate::{encoding, note::MAX_NOTE_BYTES, tree::Hash};

/// The most proof lines of a request.
pub const MAX_REQUEST_HASHES: usize = 63;

/// The longest request: old size, proof, blank line, note.
pub const MAX_REQUEST_BYTES: usize = 32 + MAX_REQUEST_HASHES * 45 + MAX_NOTE_BYTES;

/// Why bytes aren't a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The request is longer than any can be.
    #[error("the request has more than {MAX_REQUEST_BYTES} bytes")]
    TooLong,
    /// The request isn't UTF-8.
    #[error("the request is not UTF-8")]
    NotUtf8,
    /// The first line isn't `old` and a size.
    #[error("the first line is not `old` and a plain decimal")]
    BadOldSize,
    /// A proof line isn't a hash.
    #[error("proof line {line} is not 32 bytes in canonical base64")]
    BadHash {
        /// Counted from 1.
        line: usize,
    },
    /// Too many proof lines.
    #[error("more than {MAX_REQUEST_HASHES} proof lines")]
    TooManyHashes,
    /// There is no blank line before the checkpoint.
    #[error("no blank line before the checkpoint")]
    NoCheckpoint,
}

/// A log's request for a cosignature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// The size of the checkpoint that the witness cosigned last, as the asker believes; 0 for none.
    pub old: u64,
    /// The consistency proof from there, at most [`MAX_REQUEST_HASHES`].
    pub proof: Vec<Hash>,
    /// The note of the new checkpoint.
    pub note: String,
}

impl AddCheckpoint {
    /// Reads a request. Pure, and safe on any bytes; the checkpoint in it isn't looked into yet.
    ///
    /// # Errors
    ///
    /// [`RequestError`], saying what is malformed.
    pub fn parse(bytes: &[u8]) -> Result<Self, RequestError> {
        if bytes.len() > MAX_REQUEST_BYTES {
            return Err(RequestError::TooLong);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| RequestError::NotUtf8)?;
        let (head, note) = text.split_once("\n\n").ok_or(RequestError::NoCheckpoint)?;
        let mut lines = head.split('\n');
        let old = lines.next().and_then(|line| line.strip_prefix("old ")).and_then(encoding::decimal);
        let old = old.ok_or(RequestError::BadOldSize)?;
        let mut proof = Vec::new();
        for (at, line) in lines.enumerate() {
            if at == MAX_REQUEST_HASHES {
                return Err(RequestError::TooManyHashes);
            }
            proof.push(encoding::hash(line).ok_or(RequestError::BadHash { line: at + 1 })?);
        }
        Ok(Self { old, proof, note: note.to_owned() })
    }
}

impl fmt::Display for AddCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old)?;
        self.proof.iter().try_for_each(|hash| writeln!(f, "{hash}"))?;
        write!(f, "\n{}", self.note)
    }
}
