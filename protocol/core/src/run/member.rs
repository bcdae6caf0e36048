//! What the ledger knows of a member.

use std::sync::Arc;

use super::LateRecord;
use crate::{
    digest::{BlobRef, Digest},
    event::Role,
    identity::MemberId,
};

/// What the ledger knows of a member.
#[derive(Debug, Clone)]
pub struct Member {
    /// What it does.
    pub role: Role,
    /// A verifier's public draw key.
    pub draw_key: Option<Digest>,
    /// Whether it has left.
    pub left: bool,
    /// Ledger size that its last join or leave named.
    pub last_seen: u64,
    /// Ledger index of the penalty that excluded it.
    pub excluded: Option<u64>,
    /// Penalties so far.
    pub penalties: u32,
    /// The round from which on it may join again, when it is excluded and not for good.
    pub may_return: Option<u64>,
    /// The key that may revoke or replace this one.
    pub recovery: Option<MemberId>,
    /// Ledger index of the rotation or revocation that ended this key.
    pub retired: Option<u64>,
    /// The key that the member has instead of this one.
    pub successor: Option<MemberId>,
    /// For a key that followed another: the first round that opened after it, and so the first that it may draw in. A key that
    /// is chosen when the log is known must not draw over it.
    pub since_round: Option<u64>,
    /// Passed checks in a row.
    pub streak: u64,
    /// The last round in which it is drawn more often, since a verifier suspected it.
    pub watched_until: Option<u64>,
    /// Error-feedback buffer after its last sealed commit, and the stage that the buffer belongs to.
    pub feedback: Option<(u32, BlobRef)>,
    /// Late work whose buffer `feedback` is, until the next sealed commit.
    pub late: Option<Arc<LateRecord>>,
    /// Inner steps a thousand seconds, as its last sealed commit says; none before the first.
    pub speed: Option<u64>,
    /// Sealed commits.
    pub sealed: u64,
}

impl Member {
    /// Whether it has neither left nor been excluded, and its key holds.
    pub const fn is_active(&self) -> bool {
        !self.left && self.excluded.is_none() && self.retired.is_none()
    }
}
