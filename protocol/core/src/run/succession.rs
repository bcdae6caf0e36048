//! Rules of keys that end: rotated by their owner, or revoked when they are lost or stolen.
//!
//! ```text
//!             by the key itself                        by the recovery key that the join named
//! rotate      the successor takes over everything      the same, but probation begins anew: whoever used the
//!                                                      key lately may have been somebody else
//! revoke      the key signs nothing any more           the same
//! ```
//! What a key did before it ended stays where it is, under its name; what follows from it meets the successor.

use super::{Member, RuleError, RunState};
use crate::{
    event::{Revoke, Rotate},
    identity::MemberId,
};

impl RunState {
    /// Who answers for what `member` did: itself, or the last of its successors.
    pub fn heir(&self, member: MemberId) -> MemberId {
        let mut heir = member;
        // a successor was never a member before, so that this comes to an end
        while let Some(next) = self.members.get(&heir).and_then(|member| member.successor) {
            heir = next;
        }
        heir
    }

    pub(super) fn heir_mut(&mut self, member: MemberId) -> Option<&mut Member> {
        let heir = self.heir(member);
        self.members.get_mut(&heir)
    }

    pub(super) fn rotate(&mut self, index: u64, author: MemberId, rotate: &Rotate) -> Result<(), RuleError> {
        let refuse = |reason| RuleError::Succession { kind: "rotate", member: rotate.member, reason };
        let member = self.ending("rotate", author, rotate.member)?;
        if let Some(penalty) = member.excluded {
            let may_return = member.may_return;
            return Err(RuleError::Excluded { member: rotate.member, penalty, may_return });
        }
        if !rotate.is_agreed(&self.run) {
            return Err(refuse("the successor has not signed it"));
        }
        let taken = self.members.contains_key(&rotate.successor)
            || rotate.successor == self.manifest.bindings.operator
            || member.recovery == Some(rotate.successor);
        if taken {
            return Err(refuse("the successor's key has another part in this run"));
        }
        if rotate.draw_key.is_some() != member.draw_key.is_some() {
            return Err(refuse("a new draw key comes with it when the member has one, and only then"));
        }
        // A key each round, no more: names cost everybody memory, and a draw must not be had twice.
        let next_round = self.progress.next_round;
        if member.since_round == Some(next_round) {
            return Err(refuse("its key was rotated in this round already"));
        }
        let by_owner = author == rotate.member;
        let heir = Member {
            draw_key: rotate.draw_key,
            streak: if by_owner { member.streak } else { 0 },
            retired: None,
            successor: None,
            since_round: Some(next_round),
            ..member.clone()
        };
        if let Some(old) = self.members.get_mut(&rotate.member) {
            old.retired = Some(index);
            old.successor = Some(rotate.successor);
            old.late = None;
        }
        self.members.insert(rotate.successor, heir);
        if let Some(verdict) = self.unpunished.remove(&rotate.member) {
            self.unpunished.insert(rotate.successor, verdict);
        }
        Ok(())
    }

    pub(super) fn revoke(&mut self, index: u64, author: MemberId, revoke: &Revoke) -> Result<(), RuleError> {
        self.ending("revoke", author, revoke.member)?;
        if let Some(member) = self.members.get_mut(&revoke.member) {
            member.retired = Some(index);
        }
        Ok(())
    }

    /// The member whose key is to end, when `author` may say so and it has not ended yet.
    fn ending(&self, kind: &'static str, author: MemberId, id: MemberId) -> Result<&Member, RuleError> {
        let refuse = |reason| RuleError::Succession { kind, member: id, reason };
        let member = self.members.get(&id).ok_or_else(|| refuse("it is no member's key"))?;
        if author != id && member.recovery != Some(author) {
            return Err(refuse("only the key itself and the recovery key that its join named may say so"));
        }
        match member.retired {
            Some(_) => Err(refuse("it has ended already")),
            None => Ok(member),
        }
    }
}
