//! What a seeder does for members that cannot reach one another: it fetches what one of them wants, and then has it.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use talkoot_protocol::{
    digest::{BlobRef, Digest},
    identity::MemberId,
};
use tokio::{task::JoinSet, time::timeout};

use crate::{
    bulk::{Bulk, Urgency},
    store::BlobStore,
};

/// Blobs fetched at once for others.
const MAX_FETCHES: usize = 16;
/// Blobs fetched at once for one member.
const MAX_FETCHES_PER_MEMBER: usize = 4;
/// Longest blob that is passed on, in bytes.
const MAX_BLOB_BYTES: u64 = 16 << 30;
/// What is kept of passed-on blobs, in bytes; the oldest go first.
const KEPT_BYTES: u64 = 64 << 30;
/// How long a blob is looked for; whoever wants it still will ask again.
const PATIENCE: Duration = Duration::from_secs(600);

/// The seeder's part.
#[derive(Debug)]
pub(super) struct Passing {
    bulk: Bulk,
    store: BlobStore,
    running: JoinSet<()>,
    /// Who wanted what is being fetched.
    wanted: BTreeMap<Digest, MemberId>,
    kept: VecDeque<BlobRef>,
}

impl Passing {
    pub(super) fn new(bulk: Bulk, store: BlobStore) -> Self {
        Self { bulk, store, running: JoinSet::new(), wanted: BTreeMap::new(), kept: VecDeque::new() }
    }

    /// Fetches a blob for `member`; says whether it is here or being fetched.
    pub(super) fn want(&mut self, member: MemberId, digest: [u8; 32], bytes: u64) -> bool {
        while self.running.try_join_next().is_some() {}
        if self.running.is_empty() {
            self.wanted.clear();
        }
        let blob = BlobRef { digest: Digest::from_bytes(digest), bytes };
        self.wanted.retain(|digest, _| !self.store.contains(digest));
        if self.store.contains(&blob.digest) || self.wanted.contains_key(&blob.digest) {
            return true;
        }
        let of_member = self.wanted.values().filter(|other| **other == member).count();
        if self.running.len() >= MAX_FETCHES || of_member >= MAX_FETCHES_PER_MEMBER || bytes > MAX_BLOB_BYTES
        {
            return false;
        }
        self.make_room(bytes);
        self.kept.push_back(blob);
        self.wanted.insert(blob.digest, member);
        let bulk = self.bulk.clone();
        tracing::info!(digest = %blob.digest.short(), bytes, for_member = %member.short(), "fetching a blob to pass it on");
        self.running.spawn(async move {
            match timeout(PATIENCE, bulk.fetch(blob, &[], Urgency::default())).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(digest = %blob.digest, %error, "a blob is not passed on"),
                Err(_) => {
                    tracing::debug!(digest = %blob.digest, "nobody has a blob that was to be passed on")
                }
            }
        });
        true
    }

    /// Lets go of the oldest passed-on blobs.
    fn make_room(&mut self, bytes: u64) {
        let mut total = self.kept.iter().map(|blob| blob.bytes).fold(bytes, u64::saturating_add);
        while total > KEPT_BYTES {
            let Some(oldest) = self.kept.pop_front() else { return };
            total = total.saturating_sub(oldest.bytes);
            if let Err(error) = self.store.remove(&oldest.digest) {
                tracing::debug!(%error, "a passed-on blob is not removed");
            }
        }
    }
}
