//! Rules of canaries: what members open, and what follows for them and for verifiers.
//!
//! Nothing is settled about a commit before its member has opened it: an accused canary is no lie of its member's, and who was
//! outvoted about one may have been right. What is not opened by the close counts as an ordinary commit.

use super::{Phase, RuleError, RunState, error::same};
use crate::{
    canary::CanaryDraw,
    event::{Finding, Opening},
    identity::MemberId,
};

/// What an opening showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    /// An ordinary commit.
    Ordinary,
    /// A canary: a lie, as was drawn.
    Canary,
    /// It was to be a canary, and is none. It does not enter either, so that nobody gains by leaving canaries out.
    Shirked,
}

impl Opened {
    /// Whether the commit was to be a canary, so that it never enters a state.
    pub const fn was_due(self) -> bool {
        matches!(self, Self::Canary | Self::Shirked)
    }
}

impl RunState {
    /// What members draw their canaries of the current round over.
    pub fn canary_draw(&self) -> Option<CanaryDraw> {
        let open = &self.round.as_ref()?.open;
        Some(CanaryDraw { run: self.run, round: open.round, start_state: open.start_state })
    }

    /// Members whose sealed commits of the current round are still to be opened; nobody in runs without canaries.
    pub fn unopened(&self) -> Vec<MemberId> {
        let Some(round) = self.round.as_ref().filter(|round| round.has_canaries) else { return Vec::new() };
        let sealed = round.seal.iter().flat_map(|seal| &seal.commits);
        sealed.map(|(member, _)| *member).filter(|member| !round.opened.contains_key(member)).collect()
    }

    /// Those of them that are still members: the round waits for nobody who has left.
    pub fn awaited_openings(&self) -> Vec<MemberId> {
        let active = |id: &MemberId| self.members.get(id).is_some_and(super::Member::is_active);
        self.unopened().into_iter().filter(active).collect()
    }

    /// When openings may come, by the operator's clock, whatever verifiers do; and when nobody waits for them any more.
    pub(crate) fn opening_times(&self) -> Option<(u64, u64)> {
        let seal = self.round.as_ref()?.seal.as_ref()?;
        let deadlines = &self.manifest.terms.deadlines;
        let from = seal.time_ms.saturating_add(u64::from(deadlines.verification_s).saturating_mul(1_000));
        Some((from, from.saturating_add(u64::from(deadlines.outcome_s).saturating_mul(1_000))))
    }

    pub(super) fn opening(
        &mut self,
        time_ms: u64,
        author: MemberId,
        opening: &Opening,
    ) -> Result<(), RuleError> {
        let kind = "opening";
        let round = self.in_phase(kind, Phase::Sealed)?;
        same(kind, "round", &opening.round, &round.open.round)?;
        let member = self.members.get(&author).filter(|member| member.excluded.is_none());
        let (Some(draw_key), Some(record), Some(rate)) = (
            member.and_then(|member| member.draw_key),
            round.commits.get(&author),
            self.manifest.terms.verification.canaries,
        ) else {
            return Err(RuleError::NotAMember { kind, author, wanted: "trainer with a sealed commit" });
        };
        if round.opened.contains_key(&author) {
            return Err(RuleError::AlreadySaid { kind, author });
        }
        // Before, a verifier could wait for the openings and stamp what is no canary.
        let from = self.opening_times().map_or(0, |(from, _)| from);
        if time_ms < from && !self.unfinished_verifiers().is_empty() {
            return Err(RuleError::TooEarly {
                kind,
                early_ms: from.saturating_sub(time_ms),
                waiting: "verifiers have not finished".to_owned(),
            });
        }
        let Some(draw) = self.canary_draw() else { return Ok(()) };
        let drawn = draw.check(&draw_key, &opening.proof)?;
        let is_false = record.commit.moments == Some(drawn.false_moments());
        let opened = match (drawn.is_canary(rate.get()), is_false) {
            (false, _) => Opened::Ordinary,
            (true, true) => Opened::Canary,
            (true, false) => Opened::Shirked,
        };
        let (index, record) = (record.index, record.clone());
        let stage = round.open.stage;
        if let Some(round) = &mut self.round {
            round.opened.insert(author, opened);
        }
        if opened == Opened::Canary {
            self.totals.canaries = self.totals.canaries.saturating_add(1);
            if let Some(member) = self.members.get_mut(&author) {
                // As if it had not been: what the canary left behind is nobody's work.
                member.feedback = record.commit.feedback_in.map(|blob| (stage, blob));
                member.late.clone_from(&record.late);
                let passes = passes_of(self.round.as_ref(), index);
                member.streak = member.streak.saturating_sub(passes);
            }
        }
        self.judge(author, index);
        Ok(())
    }

    /// Draws what follows for commits that nobody has opened by the close.
    pub(super) fn judge_unopened(&mut self) {
        for member in self.unopened() {
            let index = self.round.as_ref().and_then(|round| Some(round.commits.get(&member)?.index));
            if let Some(index) = index {
                self.judge(member, index);
            }
        }
    }
}

fn passes_of(round: Option<&super::Round>, commit: u64) -> u64 {
    let verdicts = round.map(|round| round.verdicts.as_slice()).unwrap_or_default();
    verdicts.iter().filter(|given| given.commit == commit && given.finding == Finding::Pass).count() as u64
}
