//! The weights that the run has agreed on.

use futures::{StreamExt, TryStreamExt, stream};
use talkoot_execution::aggregate;
use talkoot_network::{BlobStore, FetchError, Network, Urgency};
use talkoot_protocol::{
    digest::BlobRef,
    event::Commit,
    identity::MemberId,
    manifest::Manifest,
    run::{CommitRecord, Round},
};
use talkoot_trainer::{config::ModelConfig, state::State};

use crate::ReplicaError;

/// Contributions fetched at once: enough that all lines of a round are busy.
const FETCHES: usize = 16;

/// A member's copy of the weights: fetched once, then moved on by every closed round.
#[derive(Debug)]
pub struct Weights {
    network: Network,
    store: BlobStore,
    held: Option<(BlobRef, State)>,
}

impl Weights {
    /// Starts with nothing held.
    pub const fn new(network: Network, store: BlobStore) -> Self {
        Self { network, store, held: None }
    }

    /// The state with this name: the one held, or else fetched from whoever has it. A member that computed
    /// something else than the others comes back to the run by this.
    ///
    /// # Errors
    ///
    /// [`ReplicaError`] when it cannot be had or is no state of the model.
    pub async fn at(&mut self, wanted: BlobRef, config: &ModelConfig) -> Result<&State, ReplicaError> {
        if self.held.as_ref().is_none_or(|(held, _)| *held != wanted) {
            self.keep(wanted);
            self.network.fetch(wanted).await?;
            let store = self.store.clone();
            let config = config.clone();
            let state = tokio::task::spawn_blocking(move || -> Result<State, ReplicaError> {
                let bytes = store.read(&wanted.digest, wanted.bytes)?;
                Ok(State::from_safetensors(&bytes, &config)?)
            })
            .await
            .map_err(|_| ReplicaError::Panicked)??;
            self.held = Some((wanted, state));
        }
        match &self.held {
            Some((_, state)) => Ok(state),
            None => Err(ReplicaError::Panicked),
        }
    }

    /// Computes the state that follows from a closed round, stores it as a blob that others may fetch, holds it,
    /// and returns its name.
    ///
    /// # Errors
    ///
    /// [`ReplicaError`] when a contribution cannot be had or the state does not fit.
    pub async fn advance(
        &mut self,
        manifest: &Manifest,
        config: &ModelConfig,
        round: &Round,
    ) -> Result<BlobRef, ReplicaError> {
        let included: Vec<(MemberId, Commit)> = round
            .included()
            .into_iter()
            .map(|(member, CommitRecord { commit, .. })| (*member, commit.clone()))
            .collect();
        // all at once: each comes from its own member's line
        stream::iter(&included)
            .map(Ok::<_, FetchError>)
            .try_for_each_concurrent(FETCHES, |(member, commit)| {
                let network = self.network.clone();
                async move { network.fetch_from(commit.contribution, &[*member], Urgency::Now).await }
            })
            .await?;
        let stage = round.open.stage;
        let start = self.at(round.open.start_state, config).await?.clone();
        let (manifest, config, store) = (manifest.clone(), config.clone(), self.store.clone());
        let (blob, state) = tokio::task::spawn_blocking(move || -> Result<(BlobRef, State), ReplicaError> {
            let mut contributions = Vec::with_capacity(included.len());
            for (member, commit) in &included {
                let bytes = store.read(&commit.contribution.digest, commit.contribution.bytes)?;
                contributions.push((*member, commit, bytes));
            }
            let aggregated = aggregate(&manifest, &config, stage, &start, &contributions)?;
            for dropped in &aggregated.dropped {
                tracing::warn!(member = %dropped.member.short(), reason = dropped.reason, "contribution left out");
            }
            let blob = store.put(&aggregated.state.to_safetensors())?;
            Ok((blob, aggregated.state))
        })
        .await
        .map_err(|_| ReplicaError::Panicked)??;
        self.keep(blob);
        self.held = Some((blob, state));
        Ok(blob)
    }

    /// Whatever the disk's quota says: the state that is worked with, and the one before, which somebody may still need.
    fn keep(&self, next: BlobRef) {
        let states = self.held.iter().map(|(held, _)| held.digest).chain([next.digest]);
        self.store.pin("weights", states);
    }
}
