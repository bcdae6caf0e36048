//! Receipts (`tlog-proof` at c2sp.org): one file that shows, off-line, that an entry is in a log.
//!
//! ```text
//! c2sp.org/tlog-proof@v1
//! extra <base64>            only where there is any; nobody has signed it
//! index 4711
//! <hash>                    from the leaf's sibling upwards
//! <hash>
//!
//! <the checkpoint, whole>
//! ```

use std::fmt;

use data_encoding::BASE64;

use crate::{
    checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint},
    encoding,
    note::{MAX_NOTE_BYTES, VerifierKey},
    policy::{Policy, Witnessed},
    reader::{self, ReadError, TileSource},
    tree::{Hash, MAX_PROOF_HASHES, ProofError, leaf_hash, verify_inclusion},
};

/// The first line.
const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// The longest extra data, in bytes before base64.
pub const MAX_EXTRA_BYTES: usize = 64 * 1024;

/// The longest receipt: header, extra, index, hashes, checkpoint.
const MAX_RECEIPT_BYTES: usize = 64 + MAX_EXTRA_BYTES * 4 / 3 + 64 * MAX_PROOF_HASHES + MAX_NOTE_BYTES;

/// Why bytes aren't a receipt, or why it doesn't show what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiptError {
    /// The receipt is longer than any can be.
    #[error("{got} bytes, more than a receipt can have")]
    TooLong {
        /// Bytes found.
        got: usize,
    },
    /// The receipt isn't UTF-8.
    #[error("not UTF-8")]
    NotUtf8,
    /// The first line is another one.
    #[error("the first line is not {HEADER}")]
    BadHeader,
    /// The extra data isn't canonical base64, or too long.
    #[error("the extra line is not canonical base64 of at most {MAX_EXTRA_BYTES} bytes")]
    BadExtra,
    /// The index line is missing or isn't a plain decimal.
    #[error("the index line is missing, or not a plain decimal")]
    BadIndex,
    /// A proof line isn't 32 bytes in canonical base64.
    #[error("proof line {line} is not 32 bytes in canonical base64")]
    BadHash {
        /// Counted from 1.
        line: usize,
    },
    /// More hashes than any proof has.
    #[error("more than {MAX_PROOF_HASHES} hashes")]
    TooManyHashes,
    /// There is no blank line before the checkpoint.
    #[error("no blank line before the checkpoint")]
    NoCheckpoint,
    /// The checkpoint is malformed, badly signed, not cosigned enough, or another log's.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The entry isn't at this index of the signed tree.
    #[error("the entry is not at index {index} of the signed tree: {source}")]
    NotIncluded {
        /// The index in the receipt.
        index: u64,
        /// What doesn't fit.
        source: ProofError,
    },
}

/// An index, a proof and a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The entry's index in the log.
    pub index: u64,
    /// The hashes from the leaf's sibling to the root's child.
    pub proof: Vec<Hash>,
    /// The checkpoint's note, whole.
    pub note: String,
    /// Whatever else the maker added. Nobody has signed it.
    pub extra: Option<Vec<u8>>,
}

impl Receipt {
    /// The receipt of one entry, from a log's files.
    ///
    /// # Errors
    ///
    /// [`ReadError`], saying which file is wrong and why.
    pub fn make<S: TileSource + ?Sized>(
        source: &S,
        vkey: &VerifierKey,
        index: u64,
    ) -> Result<Self, ReadError> {
        Self::make_at(source, &reader::current(source, vkey)?, index)
    }

    /// The receipt of one entry under a checkpoint of the log that the caller trusts.
    ///
    /// # Errors
    ///
    /// [`ReadError`], saying which file is wrong and why.
    pub fn make_at<S: TileSource + ?Sized>(
        source: &S,
        signed: &SignedCheckpoint,
        index: u64,
    ) -> Result<Self, ReadError> {
        let proof = reader::inclusion_proof(source, &signed.checkpoint, index)?;
        Ok(Self { index, proof, note: signed.note.clone(), extra: None })
    }

    /// Reads a receipt. Pure, and safe on any bytes; the checkpoint in it isn't looked into yet.
    ///
    /// # Errors
    ///
    /// [`ReceiptError`], saying what is malformed.
    pub fn parse(bytes: &[u8]) -> Result<Self, ReceiptError> {
        if bytes.len() > MAX_RECEIPT_BYTES {
            return Err(ReceiptError::TooLong { got: bytes.len() });
        }
        let text = std::str::from_utf8(bytes).map_err(|_| ReceiptError::NotUtf8)?;
        let rest = text.strip_prefix(HEADER).and_then(|rest| rest.strip_prefix('\n'));
        let rest = rest.ok_or(ReceiptError::BadHeader)?;
        let (head, note) = rest.split_once("\n\n").ok_or(ReceiptError::NoCheckpoint)?;
        let mut lines = head.split('\n');
        let mut line = lines.next().unwrap_or_default();
        let mut extra = None;
        if let Some(data) = line.strip_prefix("extra ") {
            let data = encoding::base64(data).filter(|data| data.len() <= MAX_EXTRA_BYTES);
            extra = Some(data.ok_or(ReceiptError::BadExtra)?);
            line = lines.next().unwrap_or_default();
        }
        let index = line.strip_prefix("index ").and_then(encoding::decimal).ok_or(ReceiptError::BadIndex)?;
        let mut proof = Vec::new();
        for (at, line) in lines.enumerate() {
            if at == MAX_PROOF_HASHES {
                return Err(ReceiptError::TooManyHashes);
            }
            proof.push(encoding::hash(line).ok_or(ReceiptError::BadHash { line: at + 1 })?);
        }
        Ok(Self { index, proof, note: note.to_owned(), extra })
    }

    /// Checks that `entry` is in the log of `vkey`, as a quorum of `policy` has seen it.
    ///
    /// # Errors
    ///
    /// [`ReceiptError::Checkpoint`] or [`ReceiptError::NotIncluded`].
    pub fn verify(
        &self,
        entry: &[u8],
        vkey: &VerifierKey,
        policy: &Policy,
    ) -> Result<Witnessed, ReceiptError> {
        self.expect_included(entry, policy.verify(self.note.as_bytes(), vkey)?)
    }

    /// As [`Self::verify`], with any of the logs that the policy lists.
    ///
    /// # Errors
    ///
    /// As [`Self::verify`].
    pub fn verify_listed(&self, entry: &[u8], policy: &Policy) -> Result<Witnessed, ReceiptError> {
        self.expect_included(entry, policy.verify_listed(self.note.as_bytes())?)
    }

    fn expect_included(&self, entry: &[u8], witnessed: Witnessed) -> Result<Witnessed, ReceiptError> {
        let Checkpoint { size, root, .. } = witnessed.signed.checkpoint;
        verify_inclusion(&self.proof, self.index, leaf_hash(entry), size, root)
            .map_err(|source| ReceiptError::NotIncluded { index: self.index, source })?;
        Ok(witnessed)
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", BASE64.encode(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        self.proof.iter().try_for_each(|hash| writeln!(f, "{hash}"))?;
        write!(f, "\n{}", self.note)
    }
}

#[cfg(test)]
mod tests;
