//! What the ledger asks of a member next.

use talkoot_protocol::{
    event::Role,
    identity::MemberId,
    run::{Phase, RunState},
};

/// What the ledger asks of a training member next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Become a member, or come back after having left.
    Join,
    /// Take the inner steps of the open round and commit.
    Train,
    /// Show what was committed: the round is sealed.
    Reveal,
    /// Show what was drawn: verifiers have looked at everything.
    Open,
    /// Compute the next state and say its hash.
    Report,
    /// Nothing now.
    Wait,
    /// The run is over.
    Stop,
    /// The member was excluded; the ledger index of the penalty.
    Excluded(u64),
    /// The member's key was rotated or revoked; the ledger index of that.
    Retired(u64),
}

/// What the ledger asks of `me`, a training member, next. `revealed` is the last round whose blobs were revealed.
pub fn next_task(state: &RunState, me: &MemberId, revealed: Option<u64>) -> Task {
    let phase = state.phase();
    if phase == Phase::Ended {
        return Task::Stop;
    }
    let Some(member) = state.members().get(me) else { return Task::Join };
    if let Some(penalty) = member.excluded {
        return Task::Excluded(penalty);
    }
    if let Some(index) = member.retired {
        return Task::Retired(index);
    }
    if member.left {
        return Task::Join;
    }
    debug_assert_eq!(member.role, Role::Trainer, "a verifier has other tasks");
    let Some(round) = state.round() else { return Task::Wait };
    let number = round.open.round;
    let committed = round.commits.contains_key(me);
    match phase {
        Phase::Training if round.work_of(me).is_some() && !committed => Task::Train,
        Phase::Sealed | Phase::Closed if committed && revealed != Some(number) => Task::Reveal,
        Phase::Sealed if state.unopened().contains(me) && state.unfinished_verifiers().is_empty() => {
            Task::Open
        }
        Phase::Closed if !round.outcomes.contains_key(me) && !round.included().is_empty() => Task::Report,
        _ => Task::Wait,
    }
}
