//! Rules of suspicions: what a verifier noticed that proves nothing, and what it costs to find out.
//!
//! A suspicion makes every verifier look, and its member is drawn more often for a while. It takes nothing from anybody: whom it
//! hits for no reason is checked, and passes. What a verifier can cost the others with it is one replay a round.

use super::{Phase, RuleError, RunState, error::same};
use crate::{
    event::{Role, Suspicion},
    identity::MemberId,
};

/// By how much the probability of a check rises for who is suspected.
pub(super) const MORE_OFTEN: f64 = 4.0;

/// Rounds after the suspicion in which it stays so.
pub const WATCHED_ROUNDS: u64 = 10;

impl RunState {
    pub(super) fn suspicion(&mut self, author: MemberId, suspicion: Suspicion) -> Result<(), RuleError> {
        let kind = "suspicion";
        let round = self.in_phase(kind, Phase::Sealed)?;
        same(kind, "round", &suspicion.round, &round.open.round)?;
        self.active_member(kind, author, Role::Verifier)?;
        if round.suspicions.contains_key(&author) {
            return Err(RuleError::AlreadySaid { kind, author });
        }
        let open = round.commit_at(suspicion.commit).filter(|_| round.opened(suspicion.commit).is_none());
        let Some((member, _)) = open else {
            return Err(RuleError::Mismatch {
                kind,
                field: "commit",
                got: suspicion.commit.to_string(),
                expected: "a commit of the round that its member has not opened".to_owned(),
            });
        };
        let (member, until) = (*member, suspicion.round.saturating_add(WATCHED_ROUNDS));
        if let Some(round) = &mut self.round {
            round.suspicions.insert(author, suspicion.commit);
        }
        if let Some(record) = self.heir_mut(member) {
            record.watched_until = Some(until);
        }
        Ok(())
    }
}
