//! Keeping what auditors and late members will ask for: contributions, traces, checked buffers, states.

use std::collections::{BTreeSet, VecDeque};

use talkoot_network::{BlobStore, Network, Urgency};
use talkoot_protocol::{
    digest::{BlobRef, Digest},
    identity::MemberId,
    manifest::VerificationClass,
    run::{Phase, RunState},
};
use tokio::{sync::mpsc, task::JoinSet};

/// Old states that are kept besides the initial one and the last of each stage: somebody may still be fetching
/// the one before.
const STATES_KEPT: usize = 3;

/// Arrivals that may wait to be read; the tasks wait when there are more.
const ARRIVALS: usize = 256;

/// Fetches blobs in the background and says when they have come.
#[derive(Debug)]
pub(crate) struct Archive {
    network: Network,
    store: BlobStore,
    wanted: BTreeSet<Digest>,
    tasks: JoinSet<()>,
    arrived: mpsc::Sender<Digest>,
    states: VecDeque<(u32, BlobRef)>,
}

impl Archive {
    pub(crate) fn new(network: Network, store: BlobStore) -> (Self, mpsc::Receiver<Digest>) {
        let (arrived, arrivals) = mpsc::channel(ARRIVALS);
        let tasks = JoinSet::new();
        (Self { network, store, wanted: BTreeSet::new(), tasks, arrived, states: VecDeque::new() }, arrivals)
    }

    /// Starts fetching whatever the run's state calls for. Asking for the same thing twice does nothing.
    pub(crate) fn follow(&mut self, state: &RunState) {
        while self.tasks.try_join_next().is_some() {}
        let Some(round) = state.round() else { return };
        if round.seal.is_some() {
            for (member, record) in &round.commits {
                self.want(record.commit.contribution, *member);
                self.want(record.commit.trace, *member);
            }
        }
        // Late work is checked when a commit goes on from it, and by auditors.
        for (member, late) in &round.late {
            self.want(late.commit.trace, *member);
            if let Some(feedback) = late.commit.feedback_in {
                self.want(feedback, *member);
            }
        }
        // What a replay of a drawn contribution starts from is evidence, whichever way the verdict goes.
        let class = state.manifest().terms.verification.class;
        for index in round.draws.values().flatten() {
            if let Some((member, record)) = round.commit_at(*index) {
                let commit = &record.commit;
                // Where a replay compares by distance, the buffer after is part of what is compared.
                let after = (class == VerificationClass::Fast).then_some(commit.feedback_out);
                for feedback in [commit.feedback_in, after].into_iter().flatten() {
                    self.want(feedback, *member);
                }
            }
        }
        if state.phase() == Phase::Training
            && self.states.back().map(|(_, blob)| *blob) != Some(state.state())
        {
            self.keep_state(state, round.open.stage);
        }
        // The run does not end before its last state is here.
        if state.phase() == Phase::Closed && state.settled().stage().is_none() {
            for (member, outcome) in &round.outcomes {
                self.want(*outcome, *member);
            }
            self.want_from_anybody(round.open.start_state, state);
        }
    }

    fn keep_state(&mut self, state: &RunState, stage: u32) {
        let blob = state.state();
        self.want_from_anybody(blob, state);
        self.states.push_back((stage, blob));
        while self.states.len() > STATES_KEPT {
            let Some((stage, old)) = self.states.pop_front() else { return };
            let last_of_stage = self.states.front().is_some_and(|(next, _)| *next != stage);
            let initial = state.manifest().bindings.initial_state;
            if !last_of_stage && old != initial && self.states.iter().all(|(_, kept)| *kept != old) {
                self.wanted.remove(&old.digest);
                if let Err(error) = self.store.remove(&old.digest) {
                    tracing::warn!(state = %old.digest.short(), %error, "old state not removed");
                }
            }
        }
    }

    fn want(&mut self, blob: BlobRef, member: MemberId) {
        self.fetch(blob, vec![member], Urgency::Now);
    }

    fn want_from_anybody(&mut self, blob: BlobRef, state: &RunState) {
        self.fetch(blob, state.members().keys().copied().collect(), Urgency::Soon);
    }

    fn fetch(&mut self, blob: BlobRef, hints: Vec<MemberId>, urgency: Urgency) {
        if !self.wanted.insert(blob.digest) {
            return;
        }
        let (network, arrived) = (self.network.clone(), self.arrived.clone());
        self.tasks.spawn(async move {
            // A fetch waits until somebody offers the blob; it only ends by error when the blob is refused.
            match network.fetch_from(blob, &hints, urgency).await {
                Ok(()) => {
                    let _ = arrived.send(blob.digest).await;
                }
                Err(error) => tracing::warn!(blob = %blob.digest.short(), %error, "not archived"),
            }
        });
    }
}
