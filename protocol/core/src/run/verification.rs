//! Rules of draws, verdicts, the close of a round and what follows from it.

use std::collections::BTreeSet;

use super::{Draws, Judgement, Opened, Phase, Progress, RuleError, RunState, VerdictRecord, error::same};
use crate::{
    assignment::Cursor,
    challenge::{self, Draw, DrawProof, SealedLog, check_probability},
    digest::BlobRef,
    event::{Challenge, DivergentPart, End, ExclusionReason, Finding, Outcome, Role, RoundClose, Verdict},
    identity::MemberId,
};

impl RunState {
    /// What verifiers draw over: the log up to the seal of the current round.
    pub fn sealed_log(&self) -> Option<SealedLog> {
        let round = self.round.as_ref()?;
        let seal = round.seal.as_ref()?;
        Some(SealedLog { run: self.run, round: round.open.round, size: seal.size, root: seal.root })
    }

    pub(super) fn challenge(&mut self, author: MemberId, challenge: &Challenge) -> Result<(), RuleError> {
        let kind = "challenge";
        let round = self.in_phase(kind, Phase::Sealed)?;
        same(kind, "round", &challenge.round, &round.open.round)?;
        self.active_member(kind, author, Role::Verifier)?;
        if round.draws.contains_key(&author) {
            return Err(RuleError::AlreadySaid { kind, author });
        }
        if self
            .members
            .get(&author)
            .and_then(|verifier| verifier.since_round)
            .is_some_and(|first| first > round.open.round)
        {
            return Err(RuleError::Succession {
                kind,
                member: author,
                reason: "a key that was rotated in draws from the next round on",
            });
        }
        let (_, draws) = self.draws_of(&author, &challenge.proof)?;
        if let Some(round) = &mut self.round {
            round.draws.insert(author, draws);
        }
        Ok(())
    }

    /// What a verifier draws with `proof` in the sealed round: the random value, and the commits that it has to check.
    ///
    /// # Errors
    ///
    /// [`RuleError`] when nothing is sealed, the verifier has no draw key, or the proof is not the one that follows.
    pub fn draws_of(&self, verifier: &MemberId, proof: &DrawProof) -> Result<(Draw, Draws), RuleError> {
        let draw_key = self.members.get(verifier).and_then(|member| member.draw_key);
        let seal = self.round.as_ref().and_then(|round| round.seal.as_ref());
        let (Some(draw_key), Some(log), Some(seal)) = (draw_key, self.sealed_log(), seal) else {
            let (kind, author) = ("challenge", *verifier);
            return Err(RuleError::NotAMember { kind, author, wanted: "verifier with a draw key" });
        };
        let draw = challenge::check_draw(&draw_key, &log, proof)?;
        let rules = &self.manifest.terms.verification;
        let chosen = |id: &MemberId| {
            let streak = self.members.get(&self.heir(*id)).map_or(0, |member| member.streak);
            draw.selects(id, check_probability(streak, rules.probation, rules.rate.get()))
        };
        let draws = seal.commits.iter().filter(|(id, _)| chosen(id)).map(|(_, index)| *index).collect();
        Ok((draw, draws))
    }

    pub(super) fn verdict(
        &mut self,
        index: u64,
        author: MemberId,
        verdict: &Verdict,
    ) -> Result<(), RuleError> {
        let kind = "verdict";
        // A verdict may still come when the round is closed: too late for its aggregate, not for the penalty.
        let round = match self.phase() {
            Phase::Closed => self.in_phase(kind, Phase::Closed)?,
            _ => self.in_phase(kind, Phase::Sealed)?,
        };
        self.active_member(kind, author, Role::Verifier)?;
        same(kind, "round", &verdict.round, &round.open.round)?;
        let judged =
            round.verdicts.iter().any(|given| given.verifier == author && given.commit == verdict.commit);
        if judged {
            return Err(RuleError::AlreadySaid { kind, author });
        }
        // what samples show needs no draw: all sealed commits are looked at
        let sampled = matches!(&verdict.finding, Finding::Fail(found) if found.what == DivergentPart::Codec);
        if !sampled && !round.may_judge(&author, verdict.commit) {
            return Err(RuleError::Mismatch {
                kind,
                field: "commit",
                got: verdict.commit.to_string(),
                expected: "one that the verifier drew, or that another has accused".to_owned(),
            });
        }
        self.check_deviation(verdict)?;
        let Some((member, _)) = round.commit_at(verdict.commit) else {
            return Err(RuleError::Mismatch {
                kind,
                field: "commit",
                got: verdict.commit.to_string(),
                expected: "a commit of the round".to_owned(),
            });
        };
        let member = *member;
        // Once opened, a commit can be passed without having been looked at.
        let blind = round.opened(verdict.commit).is_none();
        self.count(&verdict.finding);
        if verdict.finding == Finding::Pass
            && blind
            && let Some(record) = self.heir_mut(member)
        {
            record.streak = record.streak.saturating_add(1);
        }
        if let Some(round) = &mut self.round {
            round.verdicts.push(VerdictRecord {
                index,
                verifier: author,
                commit: verdict.commit,
                finding: verdict.finding.clone(),
            });
        }
        self.judge(member, verdict.commit);
        Ok(())
    }

    /// In the class `fast`, who lets something pass says how far it was off, and that is within the tolerance; in `exact` there
    /// is nothing to say.
    fn check_deviation(&self, verdict: &Verdict) -> Result<(), RuleError> {
        let rules = &self.manifest.terms.verification;
        let wrong = |expected: &str| RuleError::Mismatch {
            kind: "verdict",
            field: "deviation",
            got: format!("{:?}", verdict.deviation),
            expected: expected.to_owned(),
        };
        match (&rules.tolerance, &verdict.deviation) {
            (None, Some(_)) => Err(wrong("absent, as the class exact compares bytes")),
            (Some(_), None) if verdict.finding == Finding::Pass => Err(wrong("present")),
            (Some(tolerance), Some(deviation))
                if verdict.finding == Finding::Pass && !deviation.is_within(tolerance) =>
            {
                Err(wrong("within the tolerance"))
            }
            _ => Ok(()),
        }
    }

    /// Draws what follows from the verdicts on a commit of `member`, once the verifiers agree on it: whoever was found to
    /// have lied, the member or a verifier, is to be excluded.
    pub(super) fn judge(&mut self, member: MemberId, commit: u64) {
        let Some(round) = &self.round else { return };
        let opened = round.opened.get(&member).copied();
        if round.has_canaries && opened.is_none() && round.close.is_none() {
            return;
        }
        let truth = match round.judgement(commit) {
            // A lie by its own draw, whatever verifiers say.
            _ if opened == Some(Opened::Canary) => Judgement::Failed(commit),
            Judgement::NotAccused | Judgement::Accused(_) => return,
            judgement @ (Judgement::Failed(_) | Judgement::Cleared) => judgement,
        };
        let mut liars: Vec<(MemberId, u64)> = Vec::new();
        if let Judgement::Failed(index) = truth
            && opened != Some(Opened::Canary)
        {
            liars.push((member, index));
        }
        // One verifier's word against nobody's settles a commit, but says nothing about other verifiers; a canary does.
        if round.confirmations > 1 || opened == Some(Opened::Canary) {
            let lied = |finding: &Finding| match finding {
                Finding::Pass => truth != Judgement::Cleared,
                Finding::Fail(_) => truth == Judgement::Cleared,
                Finding::Inconclusive(_) => false,
            };
            let verdicts =
                round.verdicts.iter().filter(|given| given.commit == commit && lied(&given.finding));
            liars.extend(verdicts.map(|given| (given.verifier, given.index)));
        }
        for (liar, index) in liars {
            let liar = self.heir(liar);
            if let Some(record) = self.members.get_mut(&liar) {
                record.streak = 0;
                if record.excluded.is_none() {
                    self.unpunished.entry(liar).or_insert(index);
                }
            }
        }
    }

    /// Verifiers whose draw or verdicts the current round still lacks.
    pub fn unfinished_verifiers(&self) -> Vec<MemberId> {
        let Some(round) = &self.round else { return Vec::new() };
        self.active(Role::Verifier)
            .filter(|(_, verifier)| verifier.since_round.is_none_or(|first| first <= round.open.round))
            .map(|(id, _)| *id)
            .filter(|id| !round.draws.contains_key(id) || !round.open_checks(id).is_empty())
            .collect()
    }

    pub(super) fn close_round(&mut self, time_ms: u64, close: &RoundClose) -> Result<(), RuleError> {
        let kind = "round_close";
        let round = self.in_phase(kind, Phase::Sealed)?;
        same(kind, "round", &close.round, &round.open.round)?;
        let Some(seal) = &round.seal else { return Ok(()) };
        let wait = u64::from(self.manifest.terms.deadlines.verification_s).saturating_mul(1_000);
        let until = seal.time_ms.saturating_add(wait);
        let early =
            |waiting: String| RuleError::TooEarly { kind, early_ms: until.saturating_sub(time_ms), waiting };
        let unfinished: Vec<String> = self.unfinished_verifiers().iter().map(MemberId::short).collect();
        if !unfinished.is_empty() && time_ms < until {
            return Err(early(format!("verifiers {} have not finished", unfinished.join(", "))));
        }
        let unopened: Vec<String> = self.awaited_openings().iter().map(MemberId::short).collect();
        let open_until = self.opening_times().map_or(until, |(_, until)| until);
        if !unopened.is_empty() && time_ms < open_until {
            return Err(RuleError::TooEarly {
                kind,
                early_ms: open_until.saturating_sub(time_ms),
                waiting: format!("members {} have not opened their commits", unopened.join(", ")),
            });
        }
        let mut excluded = close.excluded.iter();
        let mut included = close.included.iter();
        let (mut next_out, mut next_in) = (excluded.next(), included.next());
        let mut not_trained = Vec::new();
        for (member, index) in &seal.commits {
            let opened = round.opened.get(member).copied();
            let due = opened.is_some_and(Opened::was_due);
            // Nobody is blamed for what verifiers say of a canary.
            let failure = round.failure_of(*index).filter(|_| !due);
            if next_in == Some(index) {
                if let Some(failure) = failure {
                    return Err(RuleError::Excluded { member: *member, verdict: failure.index });
                }
                if due || (round.has_canaries && opened.is_none()) {
                    return Err(RuleError::Mismatch {
                        kind,
                        field: "included",
                        got: format!("commit {index}"),
                        expected: "commits that were opened and are no canaries".to_owned(),
                    });
                }
                next_in = included.next();
                continue;
            }
            let Some(exclusion) = next_out.filter(|exclusion| exclusion.commit == *index) else {
                return Err(RuleError::Mismatch {
                    kind,
                    field: "included and excluded",
                    got: "a list".to_owned(),
                    expected: format!("every sealed commit once, in order; commit {index} is missing"),
                });
            };
            match exclusion.reason {
                ExclusionReason::FailedCheck(verdict) => {
                    same(kind, "verdict", &Some(verdict), &failure.map(|failure| failure.index))?;
                }
                ExclusionReason::NotRevealed if time_ms < until => {
                    return Err(early(format!("commit {index} can still be revealed")));
                }
                ExclusionReason::NotRevealed => {}
                ExclusionReason::Canary => same(kind, "canary", &true, &due)?,
                ExclusionReason::NotOpened => {
                    let missed = round.has_canaries && opened.is_none() && failure.is_none();
                    same(kind, "not opened", &true, &missed)?;
                }
            }
            not_trained.push(*member);
            next_out = excluded.next();
        }
        if next_in.is_some() || next_out.is_some() {
            return Err(RuleError::Mismatch {
                kind,
                field: "included and excluded",
                got: "more commits".to_owned(),
                expected: "those of the seal".to_owned(),
            });
        }
        let batch =
            self.manifest.stage(round.open.stage).map_or(0, |(stage, _)| u64::from(stage.packs_per_step));
        let undone: Vec<_> = not_trained
            .iter()
            .filter_map(|member| Some((round.work_of(member)?, round.commits.get(member)?)))
            .flat_map(|(work, record)| {
                leading(&work.positions, u64::from(record.commit.steps).saturating_mul(batch))
            })
            .collect();
        let entering: BTreeSet<u64> = close.included.iter().copied().collect();
        let entering = round.commits.values().filter(|record| entering.contains(&record.index));
        let tokens = entering.map(|record| record.commit.tokens).fold(0u64, u64::saturating_add);
        self.cursor.give_back(&undone, 0);
        self.totals.included = self.totals.included.saturating_add(close.included.len() as u64);
        self.totals.tokens = self.totals.tokens.saturating_add(tokens);
        if let Some(round) = &mut self.round {
            round.close = Some((time_ms, close.clone()));
        }
        self.judge_unopened();
        Ok(())
    }

    pub(super) fn outcome(&mut self, author: MemberId, outcome: &Outcome) -> Result<(), RuleError> {
        let kind = "outcome";
        let round = self.in_phase(kind, Phase::Closed)?;
        same(kind, "round", &outcome.round, &round.open.round)?;
        let member = self.members.get(&author).filter(|member| member.is_active());
        let member = member.ok_or(RuleError::NotAMember { kind, author, wanted: "member" })?;
        // one voice, whatever key it has by now
        let spoke_before =
            || member.since_round.is_some() && round.outcomes.keys().any(|voter| self.heir(*voter) == author);
        if round.outcomes.contains_key(&author) || spoke_before() {
            return Err(RuleError::AlreadySaid { kind, author });
        }
        same(kind, "state length", &outcome.state.bytes, &self.manifest.bindings.initial_state.bytes)?;
        if let Some(round) = &mut self.round {
            round.outcomes.insert(author, outcome.state);
        }
        Ok(())
    }

    pub(super) fn end(&mut self, time_ms: u64, end: &End) -> Result<(), RuleError> {
        let kind = "end";
        let state = self.settled_state(kind, time_ms)?;
        let progress = self.settled_progress();
        if self.manifest.stage(progress.stage).is_some() {
            return Err(RuleError::WrongPhase { kind, phase: self.phase() });
        }
        same(kind, "state", &end.state, &state)?;
        same(kind, "rounds", &end.rounds, &progress.next_round)?;
        self.progress = progress;
        self.progress.ended = true;
        self.state = state;
        Ok(())
    }

    /// The state that the members agree on after the current round, if they do by `now_ms`.
    ///
    /// It takes more than half of the voters (the active members that committed or verify), or, once the
    /// deadline has passed, more votes than any other state. A wrong majority would not stay hidden: auditors
    /// compute every aggregation again.
    pub fn agreed_state(&self, now_ms: u64) -> Option<BlobRef> {
        let Some(round) = &self.round else { return Some(self.state) };
        let (close_ms, close) = round.close.as_ref()?;
        if close.included.is_empty() {
            return Some(round.open.start_state);
        }
        let mut votes = std::collections::BTreeMap::<BlobRef, u64>::new();
        for state in round.outcomes.values() {
            let count = votes.entry(*state).or_default();
            *count = count.saturating_add(1);
        }
        let (winner, most) = votes.iter().max_by_key(|(_, count)| **count)?;
        let voters = self
            .members
            .iter()
            .filter(|(id, member)| {
                member.is_active() && (member.role == Role::Verifier || round.commits.contains_key(id))
            })
            .count() as u64;
        let rivals = votes.values().filter(|count| *count == most).count();
        let wait = u64::from(self.manifest.terms.deadlines.outcome_s).saturating_mul(1_000);
        let waited = now_ms >= close_ms.saturating_add(wait);
        (most.saturating_mul(2) > voters || (waited && rivals == 1)).then_some(*winner)
    }

    /// The state to go on from, when the current round is settled.
    pub(super) fn settled_state(&self, kind: &'static str, time_ms: u64) -> Result<BlobRef, RuleError> {
        match self.phase() {
            Phase::Between => Ok(self.state),
            Phase::Closed => self.agreed_state(time_ms).ok_or_else(|| RuleError::TooEarly {
                kind,
                early_ms: 0,
                waiting: "the members have not agreed on the state of the closed round".to_owned(),
            }),
            phase => Err(RuleError::WrongPhase { kind, phase }),
        }
    }

    /// Progress once the closed round is counted. A round without a contribution is taken again.
    pub(super) fn settled_progress(&self) -> Progress {
        let mut progress = self.progress.clone();
        let counted = self
            .round
            .as_ref()
            .and_then(|round| round.close.as_ref())
            .is_some_and(|(_, close)| !close.included.is_empty());
        if counted {
            progress.rounds_in_stage = progress.rounds_in_stage.saturating_add(1);
        }
        let done = self
            .manifest
            .stage(progress.stage)
            .is_some_and(|(stage, _)| progress.rounds_in_stage >= stage.rounds);
        if done {
            progress.stage = progress.stage.saturating_add(1);
            progress.rounds_in_stage = 0;
        }
        progress
    }

    /// This state as the next round will see it: the closed round counted, and another stage's data read from
    /// its start.
    pub fn settled(&self) -> Self {
        let (progress, cursor) = (self.settled_progress(), self.settled_cursor());
        let mut settled = self.clone();
        (settled.progress, settled.cursor) = (progress, cursor);
        settled
    }

    /// Where the data of the next round's stage stands.
    pub(super) fn settled_cursor(&self) -> Cursor {
        if self.settled_progress().stage == self.progress.stage {
            self.cursor.clone()
        } else {
            Cursor::default()
        }
    }
}

/// The first `count` positions of `positions`.
fn leading(positions: &[crate::assignment::Positions], mut count: u64) -> Vec<crate::assignment::Positions> {
    let mut taken = Vec::new();
    for range in positions {
        let end = range.start.saturating_add(count).min(range.end);
        count = count.saturating_sub(end.saturating_sub(range.start));
        taken.push(crate::assignment::Positions { start: range.start, end });
    }
    taken
}
