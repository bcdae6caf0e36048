//! What the operator has to say next: a function of the run's state, the clock, who is present, and which blobs
//! have arrived. The coordinator signs and logs what comes out, and asks again.

use std::collections::BTreeSet;

use crate::{
    digest::Digest,
    event::{End, Event, Exclusion, ExclusionReason, Penalty, Role, RoundClose, RoundOpen, Seal},
    identity::MemberId,
    run::{Phase, RunState},
};

/// What the coordinator sees and the ledger does not say.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// Milliseconds since 1970.
    pub now_ms: u64,
    /// Members that are connected, or were until a moment ago.
    pub present: BTreeSet<MemberId>,
    /// Blobs that have been revealed and archived: contributions of the current round, and the last state.
    pub archived: BTreeSet<Digest>,
}

/// The operator's next event, if it is time for one.
pub fn next_event(state: &RunState, around: &Surroundings) -> Option<Event> {
    if let Some((member, verdict)) = state.unpunished().first_key_value() {
        return Some(Event::Penalty(Penalty { member: *member, verdict: *verdict }));
    }
    match state.phase() {
        Phase::Between => open(state, around),
        Phase::Training => seal(state, around),
        Phase::Sealed => close(state, around),
        Phase::Closed => finish(state, around).or_else(|| open(state, around)),
        Phase::Ended => None,
    }
}

fn open(state: &RunState, around: &Surroundings) -> Option<Event> {
    let start_state = state.agreed_state(around.now_ms)?;
    let terms = &state.manifest().terms;
    let present = |role| -> Vec<MemberId> {
        state.active(role).map(|(id, _)| *id).filter(|id| around.present.contains(id)).collect()
    };
    let trainers = present(Role::Trainer);
    let enough = trainers.len() >= terms.membership.min_members as usize
        && present(Role::Verifier).len() >= terms.verification.min_verifiers as usize;
    if !enough {
        return None;
    }
    let settled = state.settled();
    settled.stage()?;
    Some(Event::RoundOpen(RoundOpen {
        round: settled.progress().next_round,
        stage: settled.progress().stage,
        start_state,
        seats: settled.seats(&trainers),
    }))
}

fn seal(state: &RunState, around: &Surroundings) -> Option<Event> {
    let round = state.round()?;
    let deadlines = &state.manifest().terms.deadlines;
    let after = |seconds: u32| round.open_ms.saturating_add(u64::from(seconds).saturating_mul(1_000));
    let awaited = state.awaited();
    let anybody_there = awaited.iter().any(|id| around.present.contains(id));
    let ready = awaited.is_empty()
        || around.now_ms >= after(deadlines.training_s)
        || (!anybody_there && around.now_ms >= after(deadlines.absence_s));
    ready.then(|| {
        let commits = round.commits.values().map(|record| record.index).collect();
        Event::Seal(Seal { round: round.open.round, commits })
    })
}

fn close(state: &RunState, around: &Surroundings) -> Option<Event> {
    let round = state.round()?;
    let seal = round.seal.as_ref()?;
    let wait = u64::from(state.manifest().terms.deadlines.verification_s).saturating_mul(1_000);
    let late = around.now_ms >= seal.time_ms.saturating_add(wait);
    if !late && !state.unfinished_verifiers().is_empty() {
        return None;
    }
    let nobody_waits = state.opening_times().is_some_and(|(_, until)| around.now_ms >= until);
    if !state.awaited_openings().is_empty() && !nobody_waits {
        return None;
    }
    let mut included = Vec::new();
    let mut excluded = Vec::new();
    for (member, index) in &seal.commits {
        let contribution = round.commit_at(*index)?.1.commit.contribution.digest;
        let opened = round.opened.get(member);
        if opened.is_some_and(|opened| opened.was_due()) {
            excluded.push(Exclusion { commit: *index, reason: ExclusionReason::Canary });
        } else if let Some(failure) = round.failure_of(*index) {
            excluded.push(Exclusion { commit: *index, reason: ExclusionReason::FailedCheck(failure.index) });
        } else if round.has_canaries && opened.is_none() {
            excluded.push(Exclusion { commit: *index, reason: ExclusionReason::NotOpened });
        } else if around.archived.contains(&contribution) {
            included.push(*index);
        } else if late {
            excluded.push(Exclusion { commit: *index, reason: ExclusionReason::NotRevealed });
        } else {
            return None;
        }
    }
    Some(Event::RoundClose(RoundClose { round: round.open.round, included, excluded }))
}

fn finish(state: &RunState, around: &Surroundings) -> Option<Event> {
    let last = state.agreed_state(around.now_ms)?;
    let settled = state.settled();
    // Members go home at the end; by then somebody has to hold what they made.
    let kept = around.archived.contains(&last.digest);
    (kept && settled.stage().is_none())
        .then(|| Event::End(End { rounds: settled.progress().next_round, state: last }))
}
