//! What the ledger knows of a member.

use std::sync::Arc;

use super::LateRecord;
use crate::{
    digest::{BlobRef, Digest},
    event::Role,
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
    /// Passed checks in a row.
    pub streak: u64,
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
    /// Whether it has neither left nor been excluded.
    pub const fn is_active(&self) -> bool {
        !self.left && self.excluded.is_none()
    }
}
