//! Rules of a round's opening, its commits and its seal.

use std::sync::Arc;

use talkoot_ledger::tree::leaf_hash;

use super::{
    CommitRecord, LateRecord, Phase, Precedent, Round, RuleError, RunState, SealRecord, error::same,
};
use crate::{
    assignment::{self, PackOrder},
    digest::BlobRef,
    entry::Entry,
    event::{Commit, Late, Role, RoundOpen, Seal, Seat},
    identity::MemberId,
    manifest::{Assignment, InnerState},
};

/// How much longer than all weights together a blob of a commit may be: headers, and traces of small models.
const BLOB_SLACK_BYTES: u64 = 1 << 20;

impl RunState {
    /// The seats of `present` members in the next round: who gets how many inner steps.
    ///
    /// `equal` gives everybody H. `measured` gives the fastest H and the others their share of it, at least one
    /// step, by the speed that their last sealed commit reported; who has no speed yet gets H.
    pub fn seats(&self, present: &[MemberId]) -> Vec<Seat> {
        self.seats_in(self.progress.stage, present)
    }

    /// The same, in a round of `stage`.
    fn seats_in(&self, stage: u32, present: &[MemberId]) -> Vec<Seat> {
        let Some((stage, _)) = self.manifest.stage(stage) else { return Vec::new() };
        let full = stage.inner_steps;
        let mut members: Vec<MemberId> = present.to_vec();
        members.sort_unstable();
        members.dedup();
        let speed = |member: &MemberId| self.members.get(member).and_then(|member| member.speed);
        let fastest = members.iter().filter_map(speed).max();
        let steps =
            |member: &MemberId| match (self.manifest.terms.membership.assignment, speed(member), fastest) {
                (Assignment::Measured, Some(own), Some(fastest)) if fastest > 0 => {
                    let share = u128::from(full) * u128::from(own) / u128::from(fastest);
                    u32::try_from(share).unwrap_or(full).clamp(1, full)
                }
                _ => full,
            };
        members.iter().map(|member| Seat { member: *member, steps: steps(member) }).collect()
    }

    pub(super) fn open_round(&mut self, time_ms: u64, open: &RoundOpen) -> Result<(), RuleError> {
        let kind = "round_open";
        let next_state = self.settled_state(kind, time_ms)?;
        let (progress, mut cursor) = (self.settled_progress(), self.settled_cursor());
        same(kind, "round", &open.round, &progress.next_round)?;
        same(kind, "stage", &open.stage, &progress.stage)?;
        same(kind, "start_state", &open.start_state, &next_state)?;
        if let Some((member, verdict)) = self.unpunished.first_key_value() {
            return Err(RuleError::FoundFalse { member: *member, verdict: *verdict });
        }
        let Some((stage, dataset)) = self.manifest.stage(progress.stage) else {
            return Err(RuleError::WrongPhase { kind, phase: Phase::Ended });
        };
        for seat in &open.seats {
            self.active_member(kind, seat.member, Role::Trainer)?;
        }
        let present: Vec<MemberId> = open.seats.iter().map(|seat| seat.member).collect();
        let fewest = self.manifest.terms.membership.min_members as usize;
        if present.len() < fewest {
            return Err(RuleError::Mismatch {
                kind,
                field: "seats",
                got: present.len().to_string(),
                expected: format!("at least {fewest}"),
            });
        }
        same(kind, "seats", &open.seats, &self.seats_in(progress.stage, &present))?;
        let first_step = u64::from(progress.rounds_in_stage).saturating_mul(u64::from(stage.inner_steps));
        let order = PackOrder::new(&self.run, self.manifest.terms.seed, progress.stage, dataset);
        let work = assignment::deal(
            &order,
            &mut cursor,
            &open.seats,
            stage.packs_per_step,
            &open.start_state.digest,
        );
        let precedent = self.precedent(progress.stage);
        self.cursor = cursor;
        self.progress = progress;
        self.progress.next_round = self.progress.next_round.saturating_add(1);
        self.state = next_state;
        self.settled = self.round.take().map(Arc::new);
        self.round = Some(Round {
            open_ms: time_ms,
            first_step,
            precedent,
            confirmations: self.manifest.terms.verification.confirmations.unwrap_or(1),
            has_canaries: self.manifest.terms.verification.canaries.is_some(),
            ..Round::of(open.clone(), work)
        });
        Ok(())
    }

    /// What the next round's moments come from, when it is one of `stage`.
    fn precedent(&self, stage: u32) -> Option<Arc<Precedent>> {
        let round = self.round.as_ref().filter(|round| round.open.stage == stage)?;
        if self.manifest.terms.contribution.inner_state != InnerState::Public {
            return None;
        }
        let included = round.included();
        if included.is_empty() {
            return round.precedent.clone();
        }
        let contributions = included.into_iter().map(|(member, record)| (*member, record.commit.clone()));
        Some(Arc::new(Precedent {
            round: round.open.round,
            first_step: round.first_step,
            contributions: contributions.collect(),
        }))
    }

    pub(super) fn commit(&mut self, index: u64, author: MemberId, commit: &Commit) -> Result<(), RuleError> {
        let kind = "commit";
        self.in_phase(kind, Phase::Training)?;
        self.check_commit(kind, author, commit)?;
        let member = self.active_member(kind, author, Role::Trainer)?;
        let late = member.late.clone().filter(|late| commit.feedback_in == Some(late.restored));
        if let Some(round) = &mut self.round {
            round.commits.insert(author, CommitRecord { index, commit: commit.clone(), late });
        }
        Ok(())
    }

    /// Work that missed the seal. It may be told until the next round opens: by then the member has had time enough.
    pub(super) fn late(&mut self, index: u64, author: MemberId, late: &Late) -> Result<(), RuleError> {
        let kind = "late";
        let phase = self.phase();
        if !matches!(phase, Phase::Sealed | Phase::Closed) {
            return Err(RuleError::WrongPhase { kind, phase });
        }
        let round = self.check_commit(kind, author, &late.commit)?.seat_alone(&author);
        let stage = round.open.stage;
        // one at a time: who checks the next commit checks the late work before it, and not a chain of them
        let before = self.members.get(&author).and_then(|member| member.late.as_ref());
        if before.is_some_and(|before| late.commit.feedback_in == Some(before.restored)) {
            return Err(RuleError::AlreadySaid { kind, author });
        }
        self.check_blobs(kind, &[("restored", late.restored)])?;
        let (commit, restored) = (late.commit.clone(), late.restored);
        let record = Arc::new(LateRecord { index, commit, restored, round });
        if let Some(member) = self.members.get_mut(&author) {
            member.feedback = Some((stage, restored));
            member.late = Some(Arc::clone(&record));
        }
        if let Some(round) = &mut self.round {
            round.late.insert(author, record);
        }
        Ok(())
    }

    /// Checks what a member says of its work in the current round, in time or not. Returns the round.
    fn check_commit(
        &self,
        kind: &'static str,
        author: MemberId,
        commit: &Commit,
    ) -> Result<&Round, RuleError> {
        let Some(round) = &self.round else {
            return Err(RuleError::WrongPhase { kind, phase: self.phase() });
        };
        let member = self.active_member(kind, author, Role::Trainer)?;
        same(kind, "round", &commit.round, &round.open.round)?;
        let Some(work) = round.work_of(&author) else {
            return Err(RuleError::NotAMember { kind, author, wanted: "seated trainer" });
        };
        if round.commits.contains_key(&author) || round.late.contains_key(&author) {
            return Err(RuleError::AlreadySaid { kind, author });
        }
        same(kind, "start_state", &commit.start_state, &round.open.start_state.digest)?;
        if commit.steps == 0 || commit.steps as usize > work.steps.len() {
            return Err(RuleError::Mismatch {
                kind,
                field: "steps",
                got: commit.steps.to_string(),
                expected: format!("between 1 and {}", work.steps.len()),
            });
        }
        same(kind, "work", &commit.work, &work.digest(commit.steps))?;
        // Starting again from zero gains nothing; anything else has to be what the member left behind.
        let carried = member.feedback.filter(|(stage, _)| *stage == round.open.stage).map(|(_, blob)| blob);
        if commit.feedback_in.is_some() {
            same(kind, "feedback_in", &commit.feedback_in, &carried)?;
        }
        let (stage, _) = self.manifest.stage(round.open.stage).ok_or(RuleError::NotAManifest)?;
        let most = u64::from(commit.steps)
            .saturating_mul(u64::from(stage.packs_per_step))
            .saturating_mul(u64::from(stage.sequence_tokens));
        if !(1..=most).contains(&commit.tokens) {
            return Err(RuleError::Mismatch {
                kind,
                field: "tokens",
                got: commit.tokens.to_string(),
                expected: format!("between 1 and {most}"),
            });
        }
        // What honest work gives only where some of it is to be false.
        same(kind, "whether moments are there", &commit.moments.is_some(), &round.has_canaries)?;
        self.check_blobs(
            kind,
            &[
                ("contribution", commit.contribution),
                ("trace", commit.trace),
                ("feedback_out", commit.feedback_out),
            ],
        )?;
        Ok(round)
    }

    fn check_blobs(&self, kind: &'static str, blobs: &[(&'static str, BlobRef)]) -> Result<(), RuleError> {
        let longest = self.manifest.bindings.initial_state.bytes.saturating_add(BLOB_SLACK_BYTES);
        for (field, blob) in blobs {
            if blob.bytes > longest {
                return Err(RuleError::Mismatch {
                    kind,
                    field,
                    got: format!("{} bytes", blob.bytes),
                    expected: format!("at most {longest} bytes"),
                });
            }
        }
        Ok(())
    }

    pub(super) fn seal(&mut self, entry: &Entry, seal: &Seal) -> Result<(), RuleError> {
        let kind = "seal";
        let round = self.in_phase(kind, Phase::Training)?;
        same(kind, "round", &seal.round, &round.open.round)?;
        let commits: Vec<(MemberId, u64)> =
            round.commits.iter().map(|(member, record)| (*member, record.index)).collect();
        let indices: Vec<u64> = commits.iter().map(|(_, index)| *index).collect();
        same(kind, "commits", &seal.commits, &indices)?;
        let missing: Vec<String> = self.awaited().iter().map(MemberId::short).collect();
        if !missing.is_empty() {
            let grace = u64::from(self.manifest.terms.deadlines.absence_s).saturating_mul(1_000);
            let until = round.open_ms.saturating_add(grace);
            if entry.time_ms < until {
                return Err(RuleError::TooEarly {
                    kind,
                    early_ms: until.saturating_sub(entry.time_ms),
                    waiting: format!("no commit yet from {}", missing.join(", ")),
                });
            }
        }
        let mut tree = self.tree.clone();
        tree.append(leaf_hash(&entry.to_bytes()));
        let record = SealRecord { size: tree.size(), root: tree.root().0, time_ms: entry.time_ms, commits };
        self.totals.sealed = self.totals.sealed.saturating_add(record.commits.len() as u64);
        let Some(round) = &mut self.round else { return Ok(()) };
        let batch = self.manifest.stage(round.open.stage).map_or(0, |(stage, _)| stage.packs_per_step);
        for work in &round.work {
            let steps = round.commits.get(&work.member).map_or(0, |record| record.commit.steps);
            self.cursor.give_back(&work.positions, u64::from(steps).saturating_mul(u64::from(batch)));
        }
        let commits: Vec<(MemberId, Commit)> =
            round.commits.iter().map(|(id, record)| (*id, record.commit.clone())).collect();
        let stage = round.open.stage;
        round.seal = Some(record);
        for (id, commit) in commits {
            if let Some(member) = self.heir_mut(id) {
                member.feedback = Some((stage, commit.feedback_out));
                member.late = None;
                member.speed =
                    Some(u64::from(commit.steps).saturating_mul(1_000_000) / commit.train_ms.max(1));
                member.sealed = member.sealed.saturating_add(1);
            }
        }
        Ok(())
    }

    /// Seated members that are still active and have not committed.
    pub fn awaited(&self) -> Vec<MemberId> {
        let Some(round) = &self.round else { return Vec::new() };
        let active = |id: &MemberId| self.members.get(id).is_some_and(super::Member::is_active);
        round
            .open
            .seats
            .iter()
            .map(|seat| seat.member)
            .filter(|id| !round.commits.contains_key(id) && active(id))
            .collect()
    }
}
