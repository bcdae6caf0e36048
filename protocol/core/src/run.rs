//! A run as a fold over its ledger: entries in, state out, and every rule checked on the way.
//!
//! ```text
//!              RoundOpen            Seal               RoundClose            RoundOpen or End
//!   between ------------> training ------> sealed --------------> closed --------------------->
//!            members commit        verifiers draw      members report
//!                                  and give verdicts   the next state
//! ```
//! The coordinator, every member and every auditor run this same fold. The coordinator acknowledges a statement
//! only when the fold accepts it and the log holds it; so killing it loses nothing that was acknowledged.

mod canaries;
mod error;
mod member;
mod membership;
mod round;
mod succession;
mod training;
mod verification;

use std::{collections::BTreeMap, sync::Arc};

use talkoot_ledger::tree::{CompactRange, Hash, leaf_hash};

pub use canaries::Opened;
pub use error::RuleError;
pub use member::Member;
pub use round::{
    CommitRecord, Draws, Judgement, LateRecord, Phase, Precedent, Round, SealRecord, VerdictRecord,
};

use crate::{
    assignment::Cursor,
    digest::BlobRef,
    entry::{ENTRY_VERSION, Entry, Statement, StatementError},
    event::{Event, Finding, Role},
    identity::MemberId,
    manifest::{DatasetBinding, Manifest, RunId, Stage},
};

/// How far a run has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Place of the current stage in the manifest.
    pub stage: u32,
    /// Rounds of the current stage that ended with a contribution.
    pub rounds_in_stage: u32,
    /// Number that the next round has.
    pub next_round: u64,
    /// Whether the run was ended.
    pub ended: bool,
}

/// Counts over the whole run, for reports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// Commits that were sealed.
    pub sealed: u64,
    /// Contributions that entered a state.
    pub included: u64,
    /// Checks that passed.
    pub passed: u64,
    /// Checks that failed.
    pub failed: u64,
    /// Checks that could not be made.
    pub inconclusive: u64,
    /// Tokens in included contributions.
    pub tokens: u64,
    /// Canaries that were opened.
    pub canaries: u64,
}

/// State of a run after some entries.
#[derive(Debug, Clone)]
pub struct RunState {
    run: RunId,
    manifest: Manifest,
    tree: CompactRange,
    time_ms: u64,
    members: BTreeMap<MemberId, Member>,
    /// Failed checks whose penalty is not yet in the log: member and ledger index of the verdict.
    unpunished: BTreeMap<MemberId, u64>,
    progress: Progress,
    /// Where the data of the current stage stands.
    cursor: Cursor,
    /// The last agreed state; what the next round starts from once the current one is settled.
    state: BlobRef,
    round: Option<Round>,
    /// The round before, as it was when the next one opened; shared, so that copies of the state stay cheap.
    settled: Option<Arc<Round>>,
    totals: Totals,
}

impl RunState {
    /// Starts from entry 0, which has to be the manifest.
    ///
    /// # Errors
    ///
    /// [`RuleError`] when the bytes are not a canonical entry with a valid manifest signed by its operator.
    pub fn begin(bytes: &[u8]) -> Result<Self, RuleError> {
        let entry = Entry::from_bytes(bytes)?;
        check_envelope(&entry, 0, 0)?;
        let run = entry.statement.run;
        let Event::Manifest(manifest) = entry.statement.open(&run)? else {
            return Err(RuleError::NotAManifest);
        };
        manifest.validate()?;
        let id = manifest.id();
        if id != run {
            return Err(StatementError::OtherRun { got: run, expected: id }.into());
        }
        if entry.statement.author != manifest.bindings.operator {
            return Err(RuleError::NotTheOperator { kind: "manifest", author: entry.statement.author });
        }
        let mut tree = CompactRange::new();
        tree.append(leaf_hash(bytes));
        Ok(Self {
            run,
            tree,
            time_ms: entry.time_ms,
            members: BTreeMap::new(),
            unpunished: BTreeMap::new(),
            progress: Progress { stage: 0, rounds_in_stage: 0, next_round: 0, ended: false },
            cursor: Cursor::default(),
            state: manifest.bindings.initial_state,
            round: None,
            settled: None,
            totals: Totals::default(),
            manifest: *manifest,
        })
    }

    /// Takes the next entry. A refused entry changes nothing.
    ///
    /// # Errors
    ///
    /// [`RuleError`] that names the rule that the entry breaks.
    pub fn apply(&mut self, bytes: &[u8]) -> Result<Event, RuleError> {
        let entry = Entry::from_bytes(bytes)?;
        check_envelope(&entry, self.size(), self.time_ms)?;
        let event = self.open(&entry.statement)?;
        self.apply_event(&entry, &event)?;
        self.time_ms = entry.time_ms;
        self.tree.append(leaf_hash(bytes));
        Ok(event)
    }

    /// Checks run and signature of a statement without taking it.
    ///
    /// # Errors
    ///
    /// [`RuleError::Statement`] when it is about another run, wrongly signed or malformed.
    pub fn open(&self, statement: &Statement) -> Result<Event, RuleError> {
        Ok(statement.open(&self.run)?)
    }

    fn apply_event(&mut self, entry: &Entry, event: &Event) -> Result<(), RuleError> {
        let author = entry.statement.author;
        if let Some(index) = self.members.get(&author).and_then(|member| member.retired) {
            return Err(RuleError::RetiredKey { kind: event.kind(), author, index });
        }
        if self.progress.ended {
            return Err(RuleError::AfterTheEnd { kind: event.kind() });
        }
        let by_operator = matches!(
            event,
            Event::Manifest(_)
                | Event::RoundOpen(_)
                | Event::Seal(_)
                | Event::RoundClose(_)
                | Event::Penalty(_)
                | Event::End(_)
        );
        if by_operator && author != self.manifest.bindings.operator {
            return Err(RuleError::NotTheOperator { kind: event.kind(), author });
        }
        match event {
            Event::Manifest(_) => Err(RuleError::AlreadySaid { kind: "manifest", author }),
            Event::Join(join) => self.join(author, join),
            Event::Leave(leave) => self.leave(author, leave),
            Event::RoundOpen(open) => self.open_round(entry.time_ms, open),
            Event::Commit(commit) => self.commit(entry.index, author, commit),
            Event::Seal(seal) => self.seal(entry, seal),
            Event::Challenge(challenge) => self.challenge(author, challenge),
            Event::Verdict(verdict) => self.verdict(entry.index, author, verdict),
            Event::RoundClose(close) => self.close_round(entry.time_ms, close),
            Event::Outcome(outcome) => self.outcome(author, outcome),
            Event::Penalty(penalty) => self.penalty(entry.index, penalty),
            Event::End(end) => self.end(entry.time_ms, end),
            Event::Late(late) => self.late(entry.index, author, late),
            Event::Opening(opening) => self.opening(entry.time_ms, author, opening),
            Event::Rotate(rotate) => self.rotate(entry.index, author, rotate),
            Event::Revoke(revoke) => self.revoke(entry.index, author, revoke),
        }
    }

    /// The run id.
    pub const fn run(&self) -> RunId {
        self.run
    }

    /// The rules.
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Number of entries taken.
    pub fn size(&self) -> u64 {
        self.tree.size()
    }

    /// RFC 6962 root of the entries taken.
    pub fn root(&self) -> Hash {
        self.tree.root()
    }

    /// Time of the last entry: milliseconds since 1970 by the operator's clock.
    pub const fn time_ms(&self) -> u64 {
        self.time_ms
    }

    /// Everybody who ever joined.
    pub const fn members(&self) -> &BTreeMap<MemberId, Member> {
        &self.members
    }

    /// Members of one role that have neither left nor been excluded.
    pub fn active(&self, role: Role) -> impl Iterator<Item = (&MemberId, &Member)> {
        self.members.iter().filter(move |(_, member)| member.role == role && member.is_active())
    }

    /// Failed checks whose penalty is not yet in the log: member and ledger index of the verdict.
    pub const fn unpunished(&self) -> &BTreeMap<MemberId, u64> {
        &self.unpunished
    }

    /// How far the run has come.
    pub const fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The current stage and its data; none when all stages are done.
    pub fn stage(&self) -> Option<(&Stage, &DatasetBinding)> {
        self.manifest.stage(self.progress.stage)
    }

    /// The current round, or the last one when none is open.
    pub const fn round(&self) -> Option<&Round> {
        self.round.as_ref()
    }

    /// The last round that is settled: the one before the current round, or, once the run has ended, the last one. Whoever
    /// hears [`Event::RoundOpen`] or [`Event::End`] finds here what that event has settled.
    pub fn settled_round(&self) -> Option<&Round> {
        if self.progress.ended { self.round.as_ref() } else { self.settled.as_deref() }
    }

    /// What the run is waiting for.
    pub fn phase(&self) -> Phase {
        if self.progress.ended {
            return Phase::Ended;
        }
        self.round.as_ref().map_or(Phase::Between, Round::phase)
    }

    /// The weights that the current round starts from, or, between rounds, the last agreed ones.
    pub const fn state(&self) -> BlobRef {
        self.state
    }

    /// Counts over the whole run.
    pub const fn totals(&self) -> &Totals {
        &self.totals
    }

    fn in_phase(&self, kind: &'static str, wanted: Phase) -> Result<&Round, RuleError> {
        let phase = self.phase();
        match &self.round {
            Some(round) if phase == wanted => Ok(round),
            _ => Err(RuleError::WrongPhase { kind, phase }),
        }
    }

    fn count(&mut self, finding: &Finding) {
        let counter = match finding {
            Finding::Pass => &mut self.totals.passed,
            Finding::Fail(_) => &mut self.totals.failed,
            Finding::Inconclusive(_) => &mut self.totals.inconclusive,
        };
        *counter = counter.saturating_add(1);
    }
}

fn check_envelope(entry: &Entry, index: u64, time_ms: u64) -> Result<(), RuleError> {
    if entry.version != ENTRY_VERSION {
        return Err(RuleError::Version { got: entry.version });
    }
    if entry.index != index {
        return Err(RuleError::WrongIndex { got: entry.index, expected: index });
    }
    if entry.time_ms < time_ms {
        return Err(RuleError::TimeWentBack { got_ms: entry.time_ms, last_ms: time_ms });
    }
    Ok(())
}
