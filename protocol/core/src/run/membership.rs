//! Rules of joining, leaving and being excluded.

use super::{Member, RuleError, RunState, error::same};
use crate::{
    event::{Join, Leave, Penalty, Role},
    identity::MemberId,
};

impl RunState {
    pub(super) fn join(&mut self, author: MemberId, join: &Join) -> Result<(), RuleError> {
        let kind = "join";
        let refuse = |reason: String| RuleError::NotAdmitted { member: author, reason };
        let membership = &self.manifest.terms.membership;
        if membership.allow.as_ref().is_some_and(|allow| !allow.contains(&author)) {
            return Err(refuse("its key is not on the manifest's list".to_owned()));
        }
        if join.seen > self.size() {
            return Err(refuse(format!("it says that it saw {} entries of {}", join.seen, self.size())));
        }
        let canaries = self.manifest.terms.verification.canaries.is_some();
        match (join.role, join.draw_key) {
            (Role::Verifier, None) => return Err(refuse("a verifier has to name its draw key".to_owned())),
            (Role::Trainer, None) if canaries => {
                return Err(refuse("in a run with canaries a trainer has to name its draw key".to_owned()));
            }
            (Role::Trainer, Some(_)) if !canaries => {
                return Err(refuse("a trainer has no draw key in a run without canaries".to_owned()));
            }
            _ => {}
        }
        if join.recovery == Some(author) {
            return Err(refuse("its recovery key is the key itself".to_owned()));
        }
        if let Some(member) = self.members.get_mut(&author) {
            if let Some(verdict) = member.excluded {
                return Err(RuleError::Excluded { member: author, verdict });
            }
            if !member.left {
                return Err(RuleError::AlreadySaid { kind, author });
            }
            if join.seen <= member.last_seen {
                return Err(refuse("the statement is older than its last leave".to_owned()));
            }
            same(kind, "role", &join.role, &member.role)?;
            same(kind, "draw_key", &join.draw_key, &member.draw_key)?;
            same(kind, "recovery", &join.recovery, &member.recovery)?;
            member.left = false;
            member.last_seen = join.seen;
            return Ok(());
        }
        let people = self.members.values().filter(|member| member.successor.is_none()).count();
        if people as u64 >= u64::from(membership.max_members) {
            return Err(refuse(format!("the run has its {} members", membership.max_members)));
        }
        self.members.insert(
            author,
            Member {
                role: join.role,
                draw_key: join.draw_key,
                left: false,
                last_seen: join.seen,
                excluded: None,
                recovery: join.recovery,
                retired: None,
                successor: None,
                since_round: None,
                streak: 0,
                feedback: None,
                late: None,
                speed: None,
                sealed: 0,
            },
        );
        Ok(())
    }

    pub(super) fn leave(&mut self, author: MemberId, leave: &Leave) -> Result<(), RuleError> {
        let size = self.size();
        match self.members.get_mut(&author) {
            Some(member) if member.is_active() && leave.seen >= member.last_seen && leave.seen <= size => {
                member.left = true;
                member.last_seen = leave.seen;
                Ok(())
            }
            _ => Err(RuleError::NotAMember { kind: "leave", author, wanted: "member" }),
        }
    }

    pub(super) fn penalty(&mut self, index: u64, penalty: &Penalty) -> Result<(), RuleError> {
        let cause = self.unpunished.get(&penalty.member).copied();
        same("penalty", "verdict", &Some(penalty.verdict), &cause)?;
        self.unpunished.remove(&penalty.member);
        if let Some(member) = self.members.get_mut(&penalty.member) {
            member.excluded = Some(index);
        }
        Ok(())
    }

    /// The active member of `role` that `author` is.
    pub(super) fn active_member(
        &self,
        kind: &'static str,
        author: MemberId,
        role: Role,
    ) -> Result<&Member, RuleError> {
        let wanted = match role {
            Role::Trainer => "trainer",
            Role::Verifier => "verifier",
        };
        let member = self.members.get(&author).ok_or(RuleError::NotAMember { kind, author, wanted })?;
        if let Some(verdict) = member.excluded {
            return Err(RuleError::Excluded { member: author, verdict });
        }
        if member.is_active() && member.role == role {
            Ok(member)
        } else {
            Err(RuleError::NotAMember { kind, author, wanted })
        }
    }
}
