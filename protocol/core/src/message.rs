//! Requests and answers between a member and whoever serves the ledger.
//!
//! A member follows the ledger: it asks for the head, fetches the entries it lacks, checks them against the head,
//! folds them, and submits its own statements. Everything above a few KiB is a blob and travels otherwise.

use minicbor::{Decode, Encode, bytes::ByteVec};

use crate::{
    canonical::{self, CanonicalError},
    entry::MAX_ENTRY_BYTES,
};

/// Greatest length of a request: one statement and its envelope.
pub const MAX_REQUEST_BYTES: usize = MAX_ENTRY_BYTES + 1_024;

/// Greatest length of a response in bytes.
pub const MAX_RESPONSE_BYTES: usize = 1 << 20;

/// Greatest sum of entry lengths that one response carries, in bytes.
pub const MAX_ENTRIES_BYTES: usize = MAX_RESPONSE_BYTES - 128 * 1_024;

/// Greatest number of entries that one response carries.
pub const MAX_ENTRIES: u32 = 4_096;

/// What a member asks.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Request {
    /// The latest signed checkpoint.
    #[n(0)]
    Head,
    /// Entries from an index on, and the latest signed checkpoint.
    #[n(1)]
    Entries {
        /// Index of the first entry wanted.
        #[n(0)]
        from: u64,
        /// Greatest number of entries wanted.
        #[n(1)]
        max: u32,
    },
    /// Put a statement into the log.
    #[n(2)]
    Submit {
        /// Canonical bytes of the statement.
        #[n(0)]
        statement: ByteVec,
    },
}

/// What it is told.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Response {
    /// The latest signed checkpoint, as the text of a signed note.
    #[n(0)]
    Head {
        /// The note.
        #[n(0)]
        note: String,
    },
    /// Entries in order.
    #[n(1)]
    Entries {
        /// Index of the first.
        #[n(0)]
        from: u64,
        /// The entries; fewer than wanted when they would not fit.
        #[n(1)]
        entries: Vec<ByteVec>,
        /// The latest signed checkpoint, which covers them.
        #[n(2)]
        note: String,
    },
    /// The statement is in the log, and a signed checkpoint covers it.
    #[n(3)]
    Accepted {
        /// Its index.
        #[n(0)]
        index: u64,
    },
    /// The statement was not taken.
    #[n(4)]
    Refused {
        /// The rule that it breaks.
        #[n(0)]
        reason: String,
    },
    /// The request was not understood, or this peer does not serve the ledger.
    #[n(5)]
    NotServed {
        /// Why.
        #[n(0)]
        reason: String,
    },
}

impl Request {
    /// Canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        canonical::to_bytes(self)
    }

    /// Reads canonical bytes.
    ///
    /// # Errors
    ///
    /// [`CanonicalError`] when the bytes are too long, malformed or another spelling.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CanonicalError> {
        canonical::from_bytes("request", bytes, MAX_REQUEST_BYTES)
    }
}

impl Response {
    /// Canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        canonical::to_bytes(self)
    }

    /// Reads canonical bytes.
    ///
    /// # Errors
    ///
    /// [`CanonicalError`] when the bytes are too long, malformed or another spelling.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CanonicalError> {
        canonical::from_bytes("response", bytes, MAX_RESPONSE_BYTES)
    }
}
