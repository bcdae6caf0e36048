//! Two rounds as a run would have them, executed honestly.

use std::{collections::BTreeMap, ops::ControlFlow, sync::Arc};

use talkoot_execution::{Arithmetic, Executed, Job, Look, Signals, aggregate, execute};
use talkoot_protocol::{
    assignment::{Cursor, PackOrder, Work, deal},
    digest::{BlobRef, Digest},
    event::{self, Commit, RoundOpen},
    identity::{Keypair, MemberId},
    manifest::InnerState,
    run::{Precedent, Round},
};
use talkoot_trainer::state::State;

use super::{Calibration, CalibrationError};

/// Rounds that are measured: one from nothing, one that goes on from it.
pub(super) const ROUNDS: u64 = 2;

/// One member's work in a round.
pub(super) struct Seat {
    pub(super) work: Work,
    pub(super) feedback_in: Option<Vec<u8>>,
    /// What the exact arithmetic gives.
    pub(super) exact: Executed,
}

/// The run so far.
pub(super) struct Rehearsal<'a> {
    pub(super) of: &'a Calibration<'a>,
    pub(super) start: State,
    /// The state of the round before.
    pub(super) old_start: Option<State>,
    round: Round,
    cursor: Cursor,
    feedback: BTreeMap<MemberId, Vec<u8>>,
    precedent: Vec<Vec<u8>>,
}

impl<'a> Rehearsal<'a> {
    pub(super) fn new(of: &'a Calibration<'a>) -> Result<Self, CalibrationError> {
        let (stage, _) =
            of.manifest.stage(of.stage).ok_or(CalibrationError::NoSuchStage { stage: of.stage })?;
        let key = |at: u32| Keypair::from_seed(*Digest::of(&at.to_le_bytes()).as_bytes()).id();
        let mut members: Vec<MemberId> = (0..of.members).map(key).collect();
        members.sort_unstable();
        let seat = |member| event::Seat { member, steps: stage.inner_steps };
        let open = RoundOpen {
            round: 0,
            stage: of.stage,
            start_state: BlobRef::of(b"calibration 0"),
            seats: members.into_iter().map(seat).collect(),
        };
        // In the middle of the schedule, where learning rates are not yet small and no longer warming up.
        let first_step = u64::from(stage.rounds / 2) * u64::from(stage.inner_steps);
        let round = Round {
            first_step: first_step.max(u64::from(stage.optimizer.warmup_steps)),
            ..Round::of(open, Vec::new())
        };
        Ok(Self {
            start: of.start.clone(),
            old_start: None,
            round,
            cursor: Cursor::default(),
            feedback: BTreeMap::new(),
            precedent: Vec::new(),
            of,
        })
    }

    pub(super) const fn number(&self) -> u64 {
        self.round.open.round
    }

    /// Deals the round's work and executes it in the exact arithmetic.
    pub(super) fn seats(&mut self) -> Result<Vec<Seat>, CalibrationError> {
        let manifest = self.of.manifest;
        let (stage, dataset) =
            manifest.stage(self.of.stage).ok_or(CalibrationError::NoSuchStage { stage: self.of.stage })?;
        let order = PackOrder::new(&manifest.id(), manifest.terms.seed, self.of.stage, dataset);
        let open = &self.round.open;
        self.round.work =
            deal(&order, &mut self.cursor, &open.seats, stage.packs_per_step, &open.start_state.digest);
        let work = self.round.work.clone();
        work.into_iter().map(|work| self.seat(work)).collect()
    }

    fn seat(&self, work: Work) -> Result<Seat, CalibrationError> {
        let feedback_in = self.feedback.get(&work.member).cloned();
        let job = self.job(&work, feedback_in.as_deref());
        let exact = execute(&job, self.of.packs, &mut |_, _| ControlFlow::Continue(()))?;
        Ok(Seat { feedback_in, exact, work })
    }

    pub(super) fn job<'b>(&'b self, work: &'b Work, feedback_in: Option<&'b [u8]>) -> Job<'b> {
        Job {
            manifest: self.of.manifest,
            config: self.of.config,
            round: &self.round,
            work,
            steps: u32::try_from(work.steps.len()).unwrap_or(u32::MAX),
            start: &self.start,
            feedback_in,
            precedent: &self.precedent,
            arithmetic: Arithmetic::Exact,
        }
    }

    /// Does something with the job of a seat.
    pub(super) fn with_job<T>(&self, seat: &Seat, work: impl FnOnce(&Job<'_>) -> T) -> T {
        work(&self.job(&seat.work, seat.feedback_in.as_deref()))
    }

    /// What can be told of a contribution on a seat, among the honest ones of the others, without executing it.
    pub(super) fn look(
        &self,
        seats: &[Seat],
        at: usize,
        claimed: &Executed,
    ) -> Result<Signals, CalibrationError> {
        let others: Vec<&[u8]> = seats
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != at)
            .map(|(_, seat)| seat.exact.contribution.as_slice())
            .collect();
        let look = Look {
            manifest: self.of.manifest,
            config: self.of.config,
            stage: self.of.stage,
            start: &self.start,
            work: &seats[at].work,
            contribution: &claimed.contribution,
            others: &others,
            seed: self.round.open.round,
        };
        Ok(look.measure(self.of.packs)?)
    }

    /// Goes on to the next round from what all seats contributed.
    pub(super) fn advance(&mut self, seats: Vec<Seat>) -> Result<(), CalibrationError> {
        let commit = |seat: &Seat| self.with_job(seat, |job| seat.exact.commit(job, None, 1));
        let commits: Vec<(MemberId, Commit)> =
            seats.iter().map(|seat| (seat.work.member, commit(seat))).collect();
        let entered: Vec<(MemberId, &Commit, Vec<u8>)> = commits
            .iter()
            .zip(&seats)
            .map(|((member, commit), seat)| (*member, commit, seat.exact.contribution.clone()))
            .collect();
        let next = aggregate(self.of.manifest, self.of.config, self.of.stage, &self.start, &entered)?.state;
        self.old_start = Some(std::mem::replace(&mut self.start, next));
        let public = self.of.manifest.terms.contribution.inner_state == InnerState::Public;
        self.precedent =
            if public { entered.into_iter().map(|(.., blob)| blob).collect() } else { Vec::new() };
        let first_step = self.round.first_step;
        self.round.precedent = public.then(|| {
            Arc::new(Precedent { round: self.round.open.round, first_step, contributions: commits })
        });
        self.round.open.round += 1;
        self.round.open.start_state =
            BlobRef::of(format!("calibration {}", self.round.open.round).as_bytes());
        self.round.first_step += seats.iter().map(|seat| seat.work.steps.len() as u64).max().unwrap_or(0);
        self.feedback = seats.into_iter().map(|seat| (seat.work.member, seat.exact.feedback_out)).collect();
        Ok(())
    }
}
