//! The rules and what hangs on them, entry by entry, while the log is read: a log of any length in the memory of one round.

use talkoot_ledger::VerifierKey;
use talkoot_protocol::{
    event::Event,
    run::{Phase, RuleError, RunState},
};

use super::{
    Options,
    report::{Lie, Report, Unchecked},
    states::States,
};

/// Folds entries and hands every settled round to the state checks.
pub(super) struct Fold<'a> {
    options: &'a Options,
    key: &'a VerifierKey,
    run: Option<(RunState, States)>,
    /// Set at the first entry that breaks a rule; what follows it means nothing.
    broken: Option<(u64, RuleError)>,
}

impl<'a> Fold<'a> {
    pub(super) const fn new(options: &'a Options, key: &'a VerifierKey) -> Self {
        Self { options, key, run: None, broken: None }
    }

    /// Takes the entry at `index`. Returns the round that was settled by it, if one was.
    pub(super) fn take(&mut self, index: u64, entry: &[u8], report: &mut Report) -> Option<u64> {
        if self.broken.is_some() {
            return None;
        }
        match self.try_take(entry, report) {
            Ok(settled) => settled,
            Err(error) => {
                self.broken = Some((index, error));
                None
            }
        }
    }

    fn try_take(&mut self, entry: &[u8], report: &mut Report) -> Result<Option<u64>, RuleError> {
        let Some((state, states)) = &mut self.run else {
            let state = RunState::begin(entry)?;
            report.run = state.run().to_string();
            report.name.clone_from(&state.manifest().terms.name);
            if state.manifest().bindings.log_key != self.key.to_string() {
                report.lie(Lie::Log {
                    reason: "the manifest names another log key than the one that signed".to_owned(),
                });
            }
            let states = States::new(state.manifest(), self.options, report);
            self.run = Some((state, states));
            return Ok(None);
        };
        // The round before is settled by what comes after it.
        let claimed = match state.apply(entry)? {
            Event::RoundOpen(open) => open.start_state,
            Event::End(end) => end.state,
            _ => return Ok(None),
        };
        let Some(round) = state.settled_round() else { return Ok(None) };
        states.settle(state.manifest(), round, claimed, report);
        Ok(Some(round.open.round))
    }

    /// The state after the last entry that kept the rules.
    pub(super) fn state(&self) -> Option<&RunState> {
        self.run.as_ref().map(|(state, _)| state)
    }

    /// Writes down where the run stands.
    pub(super) fn finish(&mut self, report: &mut Report) {
        if let Some((entry, error)) = self.broken.take() {
            report.lie(Lie::Rule { entry, reason: error.to_string() });
        }
        let Some((state, _)) = &self.run else { return };
        let totals = state.totals();
        report.counts.rounds = state.progress().next_round;
        report.counts.contributions = totals.sealed;
        report.counts.verdicts = totals.passed + totals.failed + totals.inconclusive;
        let excluded = state.members().iter().filter(|(_, member)| member.excluded.is_some());
        report.excluded = excluded.map(|(id, _)| id.to_string()).collect();
        report.state = state.state().digest.to_string();
        if state.phase() != Phase::Ended {
            report.unchecked(Unchecked::NotEnded { phase: state.phase().to_string() });
        }
        if report.counts.replayed < totals.sealed {
            let contributions = totals.sealed - report.counts.replayed;
            report.unchecked(Unchecked::NotReplayed { contributions });
        }
    }
}
