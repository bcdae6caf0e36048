//! What the ledger knows of one round.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use super::Opened;
use crate::{
    assignment::Work,
    digest::BlobRef,
    event::{Commit, Finding, RoundClose, RoundOpen},
    identity::MemberId,
};

/// What a run is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The first round.
    Between,
    /// Commits of the seated members.
    Training,
    /// Draws and verdicts of the verifiers.
    Sealed,
    /// The members' word on which state follows.
    Closed,
    /// Nothing; the run is over.
    Ended,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Between => "before the first round",
            Self::Training => "training",
            Self::Sealed => "sealed",
            Self::Closed => "closed",
            Self::Ended => "ended",
        })
    }
}

/// A commit and its place.
#[derive(Debug, Clone)]
pub struct CommitRecord {
    /// Ledger index.
    pub index: u64,
    /// What was committed.
    pub commit: Commit,
    /// The late work whose buffer the commit starts from: who checks the one checks the other.
    pub late: Option<Arc<LateRecord>>,
}

/// Work that missed a seal, and its place.
#[derive(Debug, Clone)]
pub struct LateRecord {
    /// Ledger index.
    pub index: u64,
    /// What would have been committed.
    pub commit: Commit,
    /// The error-feedback buffer after giving back.
    pub restored: BlobRef,
    /// The round as far as this work hangs on it: opening, schedule, and this seat alone.
    pub round: Round,
}

/// When and where a round was sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealRecord {
    /// Number of entries, the seal being the last.
    pub size: u64,
    /// RFC 6962 root of those entries.
    pub root: [u8; 32],
    /// Time of the seal in milliseconds since 1970.
    pub time_ms: u64,
    /// Who is in it, by ascending member id, with the ledger index of the commit.
    pub commits: Vec<(MemberId, u64)>,
}

/// What one verifier drew: the ledger indices of the commits that it has to check.
pub type Draws = BTreeSet<u64>;

/// A verdict and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerdictRecord {
    /// Ledger index.
    pub index: u64,
    /// Who gave it.
    pub verifier: MemberId,
    /// Ledger index of the commit that was checked.
    pub commit: u64,
    /// What was found.
    pub finding: Finding,
}

/// Where a round's public moments come from: the stage's last round that ended with a contribution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Precedent {
    /// That round.
    pub round: u64,
    /// Inner steps of the stage before it; where its learning rates stood.
    pub first_step: u64,
    /// The contributions that entered, in the order of its seal.
    pub contributions: Vec<(MemberId, Commit)>,
}

/// What the ledger knows of one round.
#[derive(Debug, Clone)]
pub struct Round {
    /// The opening.
    pub open: RoundOpen,
    /// Time of the opening in milliseconds since 1970.
    pub open_ms: u64,
    /// Inner steps of the stage before this round; where the learning-rate schedule stands.
    pub first_step: u64,
    /// Where the moments of its inner steps come from; none when they start from zero.
    pub precedent: Option<Arc<Precedent>>,
    /// Verifiers that have to find the same of an accused contribution.
    pub confirmations: u32,
    /// Whether some commits are canaries, so that all have to be opened.
    pub has_canaries: bool,
    /// What each seat is to do, in the order of the seats.
    pub work: Vec<Work>,
    /// Commits so far.
    pub commits: BTreeMap<MemberId, CommitRecord>,
    /// Work that missed the seal, by member.
    pub late: BTreeMap<MemberId, Arc<LateRecord>>,
    /// The seal.
    pub seal: Option<SealRecord>,
    /// Draws so far, by verifier.
    pub draws: BTreeMap<MemberId, Draws>,
    /// Verdicts so far.
    pub verdicts: Vec<VerdictRecord>,
    /// The commit that each verifier has reason to look at.
    pub suspicions: BTreeMap<MemberId, u64>,
    /// What members have opened.
    pub opened: BTreeMap<MemberId, Opened>,
    /// The close and its time.
    pub close: Option<(u64, RoundClose)>,
    /// The states that members say follow.
    pub outcomes: BTreeMap<MemberId, BlobRef>,
}

impl Round {
    /// What the round is waiting for.
    pub const fn phase(&self) -> Phase {
        match (&self.seal, &self.close) {
            (_, Some(_)) => Phase::Closed,
            (Some(_), None) => Phase::Sealed,
            (None, None) => Phase::Training,
        }
    }

    /// What the seat of `member` is to do.
    pub fn work_of(&self, member: &MemberId) -> Option<&Work> {
        // seats stand by ascending member id
        let at = self.work.binary_search_by(|work| work.member.cmp(member)).ok()?;
        self.work.get(at)
    }

    /// A round of which nothing is known but what it was opened with and what its seats are to do: the first of its stage, whose
    /// accusations one verifier settles, without canaries.
    pub fn of(open: RoundOpen, work: Vec<Work>) -> Self {
        Self {
            open,
            open_ms: 0,
            first_step: 0,
            precedent: None,
            confirmations: 1,
            has_canaries: false,
            work,
            commits: BTreeMap::new(),
            late: BTreeMap::new(),
            seal: None,
            draws: BTreeMap::new(),
            verdicts: Vec::new(),
            suspicions: BTreeMap::new(),
            opened: BTreeMap::new(),
            close: None,
            outcomes: BTreeMap::new(),
        }
    }

    /// The same round with the seat of one member and nothing that was said.
    pub fn seat_alone(&self, member: &MemberId) -> Self {
        Self {
            open_ms: self.open_ms,
            first_step: self.first_step,
            precedent: self.precedent.clone(),
            confirmations: self.confirmations,
            has_canaries: self.has_canaries,
            ..Self::of(self.open.clone(), self.work_of(member).cloned().into_iter().collect())
        }
    }

    /// The commit with a ledger index, and who made it.
    pub fn commit_at(&self, index: u64) -> Option<(&MemberId, &CommitRecord)> {
        self.commits.iter().find(|(_, record)| record.index == index)
    }

    /// The contributions that enter the next state, in the order of the seal (ascending member id); empty before
    /// the close.
    pub fn included(&self) -> Vec<(&MemberId, &CommitRecord)> {
        let Some((_, close)) = &self.close else { return Vec::new() };
        let included: BTreeSet<u64> = close.included.iter().copied().collect();
        self.commits.iter().filter(|(_, record)| included.contains(&record.index)).collect()
    }

    fn verdicts_of(&self, commit: u64) -> impl Iterator<Item = &VerdictRecord> {
        self.verdicts.iter().filter(move |verdict| verdict.commit == commit)
    }

    /// What the opening of a commit showed.
    pub fn opened(&self, commit: u64) -> Option<Opened> {
        self.opened.get(self.commit_at(commit)?.0).copied()
    }

    /// What the verifiers together say of a commit.
    pub fn judgement(&self, commit: u64) -> Judgement {
        let (mut passes, mut fails, mut first) = (0, 0, None);
        for verdict in self.verdicts_of(commit) {
            match verdict.finding {
                Finding::Pass => passes += 1,
                Finding::Fail(_) => {
                    fails += 1;
                    first.get_or_insert(verdict.index);
                }
                Finding::Inconclusive(_) => {}
            }
            // Who has enough first has it for good.
            if fails >= self.confirmations {
                return Judgement::Failed(verdict.index);
            }
            if first.is_some() && passes >= self.confirmations {
                return Judgement::Cleared;
            }
        }
        first.map_or(Judgement::NotAccused, Judgement::Accused)
    }

    /// The failed check for which a commit is left out: the one that settled it, or, when nothing is settled yet, the
    /// first.
    pub fn failure_of(&self, commit: u64) -> Option<&VerdictRecord> {
        let (Judgement::Failed(index) | Judgement::Accused(index)) = self.judgement(commit) else {
            return None;
        };
        self.verdicts.iter().find(|verdict| verdict.index == index)
    }

    /// Commits that somebody has accused and on which the verifiers have not yet agreed.
    fn accused(&self) -> impl Iterator<Item = u64> {
        let failed = self.verdicts.iter().filter(|verdict| matches!(verdict.finding, Finding::Fail(_)));
        failed
            .map(|verdict| verdict.commit)
            .filter(|commit| matches!(self.judgement(*commit), Judgement::Accused(_)))
    }

    /// Whether `verifier`, which has not judged the commit yet, has to: it drew it, or somebody has accused or suspects it. Of an
    /// opened canary everybody knows what it is.
    pub(super) fn may_judge(&self, verifier: &MemberId, commit: u64) -> bool {
        let drawn = self.draws.get(verifier);
        self.opened(commit) != Some(Opened::Canary)
            && drawn.is_some_and(|drawn| {
                drawn.contains(&commit)
                    || self.suspicions.values().any(|suspected| *suspected == commit)
                    || matches!(self.judgement(commit), Judgement::Accused(_))
            })
    }

    /// Checks that `verifier` has not yet given a verdict on: those that it drew, and those that somebody has accused or suspects.
    pub fn open_checks(&self, verifier: &MemberId) -> Vec<u64> {
        let Some(drawn) = self.draws.get(verifier) else { return Vec::new() };
        let given = self.verdicts.iter().filter(|verdict| verdict.verifier == *verifier);
        let done: BTreeSet<u64> = given.map(|verdict| verdict.commit).collect();
        let suspected = self.suspicions.values().copied();
        let mut open: Draws = drawn.iter().copied().chain(suspected).chain(self.accused()).collect();
        open.retain(|index| !done.contains(index) && self.opened(*index) != Some(Opened::Canary));
        open.into_iter().collect()
    }
}

/// What the verifiers together say of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// Nobody says that it fails.
    NotAccused,
    /// Somebody says that it fails, at this ledger index, and not enough have checked it yet.
    Accused(u64),
    /// Enough say that it fails; the last of them at this ledger index.
    Failed(u64),
    /// Somebody said that it fails, and enough say that it passes.
    Cleared,
}
