//! The envelope of an event: a statement signed by its author, an entry placed by the operator.
//!
//! ```text
//! entry      = { 0: version, 1: index, 2: time in ms, 3: statement }       one leaf of the log
//! statement  = { 0: run id, 1: author, 2: event bytes, 3: signature }      signed by the author
//! signature  = ed25519( "talkoot/statement/v1" newline  run id  event bytes )
//! ```
//! The operator orders and dates statements, but cannot invent one.

use minicbor::{Decode, Encode, bytes::ByteVec};

use crate::{
    canonical::{self, CanonicalError},
    event::Event,
    identity::{Keypair, MemberId, Signature},
    manifest::RunId,
};

/// Signing domain of statements.
pub const STATEMENT_DOMAIN: &str = "talkoot/statement/v1";

/// Version of the envelope.
pub const ENTRY_VERSION: u32 = 1;

/// Greatest length of an entry: what a tile bundle's 16-bit length can say.
pub const MAX_ENTRY_BYTES: usize = 65_535;

/// Greatest length of a statement: an entry less its own few fields.
pub const MAX_STATEMENT_BYTES: usize = MAX_ENTRY_BYTES - 64;

/// An event as its author signed it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Statement {
    /// The run that it is about.
    #[n(0)]
    pub run: RunId,
    /// Who says it.
    #[n(1)]
    pub author: MemberId,
    /// Canonical bytes of the [`Event`].
    #[n(2)]
    pub event: ByteVec,
    /// Signature over run id and event.
    #[n(3)]
    pub signature: Signature,
}

/// A statement in its place in the log.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Entry {
    /// Version of the envelope; 1.
    #[n(0)]
    pub version: u32,
    /// Index of the entry in the log.
    #[n(1)]
    pub index: u64,
    /// When the operator placed it: milliseconds since 1970, never less than the entry before.
    #[n(2)]
    pub time_ms: u64,
    /// What was said.
    #[n(3)]
    pub statement: Statement,
}

/// Why a statement is not believed, whatever it says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StatementError {
    /// Not the canonical bytes of a statement or its event.
    #[error(transparent)]
    Encoding(#[from] CanonicalError),
    /// Made for another run.
    #[error("the statement is about run {}, this is run {}", got.short(), expected.short())]
    OtherRun {
        /// The run that it names.
        got: RunId,
        /// The run at hand.
        expected: RunId,
    },
    /// The signature is not the author's.
    #[error("the signature of the {kind} statement is not that of member {}", author.short())]
    BadSignature {
        /// Who is said to have signed.
        author: MemberId,
        /// Kind of the event.
        kind: &'static str,
    },
}

fn signed_message(run: &RunId, event: &[u8]) -> Vec<u8> {
    [run.as_bytes().as_slice(), event].concat()
}

impl Statement {
    /// Signs `event` for `run`.
    pub fn sign(run: RunId, key: &Keypair, event: &Event) -> Self {
        let event = canonical::to_bytes(event);
        let signature = key.sign(STATEMENT_DOMAIN, &signed_message(&run, &event));
        Self { run, author: key.id(), event: event.into(), signature }
    }

    /// Canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        canonical::to_bytes(self)
    }

    /// Reads canonical bytes. Says nothing about the signature yet.
    ///
    /// # Errors
    ///
    /// [`CanonicalError`] when the bytes are too long, malformed or another spelling.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CanonicalError> {
        canonical::from_bytes("statement", bytes, MAX_STATEMENT_BYTES)
    }

    /// The event, once run and signature are checked.
    ///
    /// # Errors
    ///
    /// [`StatementError`] when the statement is about another run, wrongly signed, or holds no event.
    pub fn open(&self, run: &RunId) -> Result<Event, StatementError> {
        let event: Event = canonical::from_bytes("event", &self.event, MAX_STATEMENT_BYTES)?;
        if self.run != *run {
            return Err(StatementError::OtherRun { got: self.run, expected: *run });
        }
        if self.author.verifies(STATEMENT_DOMAIN, &signed_message(run, &self.event), &self.signature) {
            Ok(event)
        } else {
            Err(StatementError::BadSignature { author: self.author, kind: event.kind() })
        }
    }
}

impl Entry {
    /// Puts a statement into its place.
    pub const fn new(index: u64, time_ms: u64, statement: Statement) -> Self {
        Self { version: ENTRY_VERSION, index, time_ms, statement }
    }

    /// Canonical bytes: one leaf of the log.
    pub fn to_bytes(&self) -> Vec<u8> {
        canonical::to_bytes(self)
    }

    /// Reads canonical bytes.
    ///
    /// # Errors
    ///
    /// [`CanonicalError`] when the bytes are too long, malformed or another spelling.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CanonicalError> {
        canonical::from_bytes("entry", bytes, MAX_ENTRY_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        digest::Digest,
        event::{Join, Role},
    };

    fn statement() -> Statement {
        let event = Event::Join(Join { role: Role::Trainer, seen: 3, draw_key: None, recovery: None });
        Statement::sign(Digest::of(b"run"), &Keypair::from_seed([3; 32]), &event)
    }

    #[test]
    fn a_statement_for_another_run_is_refused() {
        let other = Digest::of(b"other run");
        assert!(matches!(statement().open(&other), Err(StatementError::OtherRun { .. })));
    }

    #[test]
    fn a_statement_in_another_name_is_refused() {
        let mut forged = statement();
        forged.author = Keypair::from_seed([4; 32]).id();
        assert!(matches!(forged.open(&Digest::of(b"run")), Err(StatementError::BadSignature { .. })));
    }

    proptest! {
        #[test]
        fn any_bytes_in_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Entry::from_bytes(&bytes);
            let _ = Statement::from_bytes(&bytes);
        }

        #[test]
        fn a_changed_byte_never_passes(at in 0usize..10_000, flip in 1u8..=255) {
            let run = Digest::of(b"run");
            let entry = Entry::new(5, 1_000, statement());
            let mut bytes = entry.to_bytes();
            let at = at % bytes.len();
            bytes[at] ^= flip;
            // Index and time are the operator's to say; everything else is covered by the signature.
            if let Ok(read) = Entry::from_bytes(&bytes)
                && (read.version, read.index, read.time_ms) == (entry.version, entry.index, entry.time_ms)
            {
                prop_assert!(read.statement.open(&run).is_err());
            }
        }
    }
}
