//! Which rule an entry breaks.

use super::Phase;
use crate::{
    canonical::CanonicalError, challenge::DrawError, entry::StatementError, identity::MemberId,
    manifest::ManifestError,
};

/// Which rule an entry breaks. The state is as it was before the entry came.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RuleError {
    /// Not the canonical bytes of an entry.
    #[error(transparent)]
    Encoding(#[from] CanonicalError),
    /// The statement is not its author's, or about another run.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// The manifest has an impossible value.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Entry 0 is something else.
    #[error("entry 0 is not a manifest")]
    NotAManifest,
    /// The envelope has a version that this program does not know.
    #[error("entry of version {got}; this program knows version 1")]
    Version {
        /// The version as it came.
        got: u32,
    },
    /// The entry names another place in the log than it has.
    #[error("entry says that its index is {got}, but it stands at {expected}")]
    WrongIndex {
        /// The index as it came.
        got: u64,
        /// Its place in the log.
        expected: u64,
    },
    /// The entry is older than the one before.
    #[error("entry is dated {got_ms} ms, before the {last_ms} ms of the entry before it")]
    TimeWentBack {
        /// The time as it came.
        got_ms: u64,
        /// Time of the entry before.
        last_ms: u64,
    },
    /// Only the operator may say this.
    #[error("{kind} is the operator's to say, but member {} said it", author.short())]
    NotTheOperator {
        /// Kind of the event.
        kind: &'static str,
        /// Who said it.
        author: MemberId,
    },
    /// Only an active member of some role may say this.
    #[error("{kind} comes from {}, who is not an active {wanted}", author.short())]
    NotAMember {
        /// Kind of the event.
        kind: &'static str,
        /// Who said it.
        author: MemberId,
        /// The role that may say it.
        wanted: &'static str,
    },
    /// The member was excluded.
    #[error("{} was excluded by the penalty in entry {penalty}, {}", member.short(), until(*may_return))]
    Excluded {
        /// Who.
        member: MemberId,
        /// Ledger index of the penalty.
        penalty: u64,
        /// The round from which on it may join again.
        may_return: Option<u64>,
    },
    /// What the member did is to be punished, or must not enter.
    #[error("the verdict in entry {verdict} found that {} lied", member.short())]
    FoundFalse {
        /// Who.
        member: MemberId,
        /// Ledger index of the verdict.
        verdict: u64,
    },
    /// The key was rotated away or revoked.
    #[error("{kind} is signed with the key {}, which entry {index} has retired", author.short())]
    RetiredKey {
        /// Kind of the event.
        kind: &'static str,
        /// The key.
        author: MemberId,
        /// Ledger index of the rotation or revocation.
        index: u64,
    },
    /// A key cannot be rotated or revoked like this.
    #[error("{kind} of {} is refused: {reason}", member.short())]
    Succession {
        /// Kind of the event.
        kind: &'static str,
        /// The key that is to end.
        member: MemberId,
        /// Why not.
        reason: &'static str,
    },
    /// The run does not admit this identity.
    #[error("{} cannot join: {reason}", member.short())]
    NotAdmitted {
        /// Who.
        member: MemberId,
        /// Why not.
        reason: String,
    },
    /// The same thing was said before.
    #[error("{} has already said its {kind}", author.short())]
    AlreadySaid {
        /// Kind of the event.
        kind: &'static str,
        /// Who said it.
        author: MemberId,
    },
    /// The event does not belong into this phase.
    #[error("{kind} does not belong into the phase {phase}")]
    WrongPhase {
        /// Kind of the event.
        kind: &'static str,
        /// The phase that the run is in.
        phase: Phase,
    },
    /// A field has another value than it must have.
    #[error("{kind}: {field} is {got}, but has to be {expected}")]
    Mismatch {
        /// Kind of the event.
        kind: &'static str,
        /// Name of the field.
        field: &'static str,
        /// The value as it came.
        got: String,
        /// What follows from the ledger so far.
        expected: String,
    },
    /// The operator may not do this yet.
    #[error("{kind} comes {early_ms} ms too early: {waiting}")]
    TooEarly {
        /// Kind of the event.
        kind: &'static str,
        /// Milliseconds until it would be allowed.
        early_ms: u64,
        /// What is still waited for.
        waiting: String,
    },
    /// A draw is not the one that it must be.
    #[error(transparent)]
    Draw(#[from] DrawError),
    /// Nothing follows the end.
    #[error("{kind} comes after the end of the run")]
    AfterTheEnd {
        /// Kind of the event.
        kind: &'static str,
    },
}

/// Refuses a field that has not the value which follows from the ledger.
pub(super) fn same<T: PartialEq + std::fmt::Debug>(
    kind: &'static str,
    field: &'static str,
    got: &T,
    expected: &T,
) -> Result<(), RuleError> {
    if got == expected {
        return Ok(());
    }
    Err(RuleError::Mismatch { kind, field, got: format!("{got:?}"), expected: format!("{expected:?}") })
}

fn until(may_return: Option<u64>) -> String {
    may_return
        .map_or_else(|| "for good".to_owned(), |round| format!("and may join again from round {round} on"))
}
