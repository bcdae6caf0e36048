//! What training and replaying need besides the weights: the model's shape and the packed data.

use std::{collections::BTreeMap, sync::Arc};

use talkoot_dataset::{PackIndex, manifest::MAX_MANIFEST_BYTES};
use talkoot_execution::{Packs, open_packs, parse_config};
use talkoot_network::{BlobStore, Network, Urgency};
use talkoot_protocol::{assignment::Work, digest::BlobRef, event::Commit, manifest::Manifest, run::Round};
use talkoot_trainer::config::ModelConfig;

use crate::ReplicaError;

/// Greatest length of a `config.json` in bytes.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// The model's shape, and each stage's data as far as its shards were fetched.
#[derive(Debug)]
pub struct Inputs {
    network: Network,
    store: BlobStore,
    config: ModelConfig,
    stages: BTreeMap<u32, (PackIndex, Arc<Packs>)>,
}

impl Inputs {
    /// Fetches and reads the model's config.
    ///
    /// # Errors
    ///
    /// [`ReplicaError`] when it cannot be had or is not one.
    pub async fn load(network: Network, store: BlobStore, manifest: &Manifest) -> Result<Self, ReplicaError> {
        let blob = manifest.bindings.config;
        store.pin("model config", [blob.digest]);
        let bytes = fetch_small(&network, &store, blob, MAX_CONFIG_BYTES).await?;
        let config = parse_config(&bytes)?;
        Ok(Self { network, store, config, stages: BTreeMap::new() })
    }

    /// The model's shape.
    pub const fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Fetches the shards that `work` reads, from whoever has them, and gives the stage's packs.
    ///
    /// # Errors
    ///
    /// [`ReplicaError`] when the index or a shard cannot be had or read.
    pub async fn packs(
        &mut self,
        manifest: &Manifest,
        stage: u32,
        work: &Work,
    ) -> Result<Arc<Packs>, ReplicaError> {
        let (_, dataset) = manifest.stage(stage).ok_or(ReplicaError::NoSuchStage { stage })?;
        if !self.stages.contains_key(&stage) {
            let bytes =
                fetch_small(&self.network, &self.store, dataset.index, MAX_MANIFEST_BYTES as u64).await?;
            let store = self.store.clone();
            let packs = open_packs(&bytes, move |digest| store.path(digest))?;
            let index = packs.reader().index().clone();
            self.stages.insert(stage, (index, Arc::new(packs)));
        }
        let Some((index, packs)) = self.stages.get(&stage) else {
            return Err(ReplicaError::NoSuchStage { stage });
        };
        let wanted: Vec<u64> = work.steps.iter().flatten().copied().collect();
        let shards = index.shards_of(wanted)?;
        let needed = shards.iter().map(|shard| shard.digest).chain([dataset.index.digest]);
        self.store.pin("shards", needed);
        for shard in shards {
            self.network.fetch(shard).await?;
        }
        Ok(Arc::clone(packs))
    }

    /// The contributions that a round's public moments come from, in order, from whoever has them.
    ///
    /// # Errors
    ///
    /// [`ReplicaError`] when one cannot be had.
    pub async fn precedent(&self, round: &Round) -> Result<Vec<Vec<u8>>, ReplicaError> {
        let Some(precedent) = &round.precedent else { return Ok(Vec::new()) };
        let needed = precedent.contributions.iter().map(|(_, commit)| commit.contribution.digest);
        self.store.pin("precedent", needed);
        let mut blobs = Vec::with_capacity(precedent.contributions.len());
        for (member, Commit { contribution, .. }) in &precedent.contributions {
            self.network.fetch_from(*contribution, &[*member], Urgency::Now).await?;
            blobs.push(self.store.read(&contribution.digest, contribution.bytes)?);
        }
        Ok(blobs)
    }
}

/// Fetches a blob of at most `limit` bytes and reads it into memory.
pub(crate) async fn fetch_small(
    network: &Network,
    store: &BlobStore,
    blob: BlobRef,
    limit: u64,
) -> Result<Vec<u8>, ReplicaError> {
    network.fetch(blob).await?;
    Ok(store.read(&blob.digest, limit)?)
}
