//! Checkpoints (`tlog-checkpoint` at c2sp.org): what a log signs about itself.

use std::fmt;

use crate::{
    encoding,
    note::{Note, NoteError, SignerKey, VerifierKey},
    policy::Policy,
    tree::Hash,
};

/// The size and the root of a log, under its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name: an address without scheme and without trailing slash.
    pub origin: String,
    /// Entries in the tree, at most 2^63 - 1.
    pub size: u64,
    /// The root hash over them.
    pub root: Hash,
}

/// Why a text is no checkpoint, or not one to trust.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The note around it is malformed or badly signed.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The text doesn't end in a newline.
    #[error("the checkpoint does not end in a newline")]
    NoFinalNewline,
    /// Fewer than three lines.
    #[error("{got} lines, and a checkpoint has three: origin, size, root")]
    TooFewLines {
        /// Lines found.
        got: usize,
    },
    /// More than three lines. The format allows extensions but advises against them, witnesses refuse
    /// them, and ours has none.
    #[error("{got} lines: checkpoints with extension lines are refused")]
    Extension {
        /// Lines found.
        got: usize,
    },
    /// The first line is no origin.
    #[error("the origin line is empty or has a control character")]
    BadOrigin,
    /// The second line isn't a decimal without leading zeros, at most 2^63 - 1.
    #[error("size line {text:?} is not a plain decimal without leading zeros")]
    BadSize {
        /// The line, cut at 80 characters.
        text: String,
    },
    /// The third line isn't 32 bytes in canonical base64.
    #[error("the root line is not 32 bytes in canonical base64")]
    BadRoot,
    /// The checkpoint is another log's.
    #[error("origin is {got:?}, expected {expected:?}")]
    WrongOrigin {
        /// The origin the caller trusts.
        expected: String,
        /// The origin in the checkpoint.
        got: String,
    },
    /// The witnesses that have cosigned are no quorum of the policy.
    #[error(
        "no quorum: the policy demands `{quorum}`, and {} of its {known} witnesses cosigned{}; ask the log's \
         operator, or wait",
        cosigned.len(), list(cosigned)
    )]
    QuorumShort {
        /// The policy's name for what it demands.
        quorum: String,
        /// The policy's names of those who have cosigned.
        cosigned: Vec<String>,
        /// Witnesses that the policy knows.
        known: usize,
    },
    /// The policy lists the logs it accepts, and this isn't one of them.
    #[error("the policy does not list the log {origin:?} with the key that signed")]
    LogNotListed {
        /// The origin.
        origin: String,
    },
}

/// ` (a, b)`, or nothing.
fn list(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) }
}

impl Checkpoint {
    /// Reads the text of a note. Pure, and safe on any text.
    ///
    /// # Errors
    ///
    /// [`CheckpointError`], saying which line is wrong.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let body = text.strip_suffix('\n').ok_or(CheckpointError::NoFinalNewline)?;
        let mut lines = body.split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(CheckpointError::TooFewLines { got: body.split('\n').count() });
        };
        let more = lines.count();
        if more != 0 {
            return Err(CheckpointError::Extension { got: more + 3 });
        }
        if !is_origin(origin) {
            return Err(CheckpointError::BadOrigin);
        }
        let bad_size = || CheckpointError::BadSize { text: size.chars().take(80).collect() };
        let size = encoding::decimal(size).ok_or_else(bad_size)?;
        let root = encoding::hash(root).ok_or(CheckpointError::BadRoot)?;
        Ok(Self { origin: origin.to_owned(), size, root })
    }
}

pub(crate) fn is_origin(origin: &str) -> bool {
    !origin.is_empty() && !origin.chars().any(|c| c < ' ')
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n{}", self.origin, self.size, self.root)
    }
}

/// A checkpoint whose log signature was checked, with the note that carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    /// What was signed.
    pub checkpoint: Checkpoint,
    /// The whole note, as it was signed.
    pub note: String,
}

impl SignedCheckpoint {
    /// Signs a checkpoint.
    pub(crate) fn sign(checkpoint: Checkpoint, signer: &SignerKey) -> Result<Self, CheckpointError> {
        let note = Note::sign(&checkpoint.to_string(), signer, 0)?.to_string();
        Ok(Self { checkpoint, note })
    }

    /// Reads a note and checks the log's signature and name: the origin must be the key's name.
    ///
    /// # Errors
    ///
    /// [`CheckpointError`], saying what is malformed, missing or badly signed.
    pub fn verify(note: &[u8], log: &VerifierKey) -> Result<Self, CheckpointError> {
        Ok(Policy::none().verify(note, log)?.signed)
    }
}

#[cfg(test)]
mod tests;
