//! How much the store may take of the disk, and what goes first when it is full.
//!
//! Never goes: what somebody pinned, what is hidden, what is being fetched. Of the rest, what was not asked for longest goes
//! first: damaged files and downloads that nobody goes on with, then blobs.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    sync::{MutexGuard, PoisonError},
};

use talkoot_protocol::digest::{BlobRef, Digest};

use super::{BlobStore, Inner, error::StoreError, files, tree};

/// Bytes that a blob takes of the disk: its own and its hash tree's.
pub(super) fn footprint(bytes: u64) -> u64 {
    bytes.saturating_add(tree::tree(bytes).outboard_size())
}

/// A blob as the quota sees it.
#[derive(Debug, Clone, Copy)]
struct Held {
    bytes: u64,
    /// The tick at which it was last asked for.
    used: u64,
}

/// What is here, what it is worth, and how much there may be.
#[derive(Debug, Default)]
pub(super) struct Quota {
    limit: Option<u64>,
    held: BTreeMap<Digest, Held>,
    /// Footprints of what is held, together.
    total: u64,
    /// What is about to be written.
    reserved: u64,
    pins: BTreeMap<&'static str, BTreeSet<Digest>>,
    tick: u64,
}

impl Quota {
    /// With these blobs, the ones that were asked for longest ago first.
    pub(super) fn new(blobs: impl IntoIterator<Item = BlobRef>) -> Self {
        let mut quota = Self::default();
        for blob in blobs {
            quota.stored(blob);
        }
        quota
    }

    pub(super) fn stored(&mut self, blob: BlobRef) {
        self.removed(&blob.digest);
        self.tick += 1;
        self.held.insert(blob.digest, Held { bytes: blob.bytes, used: self.tick });
        self.total += footprint(blob.bytes);
    }

    pub(super) fn removed(&mut self, digest: &Digest) {
        if let Some(held) = self.held.remove(digest) {
            self.total -= footprint(held.bytes);
        }
    }

    pub(super) fn used(&mut self, digest: &Digest) {
        self.tick += 1;
        if let Some(held) = self.held.get_mut(digest) {
            held.used = self.tick;
        }
    }

    fn is_pinned(&self, digest: &Digest) -> bool {
        self.pins.values().any(|pins| pins.contains(digest))
    }
}

/// Room that was made, until what it is for has been written.
#[derive(Debug)]
pub(crate) struct Room {
    store: BlobStore,
    bytes: u64,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.store.0.quota().reserved -= self.bytes;
    }
}

impl Inner {
    pub(super) fn quota(&self) -> MutexGuard<'_, Quota> {
        // nothing that holds the lock can panic half-way through a change
        self.quota.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Files in a folder that nobody works with.
fn idle(
    folder: &std::path::Path,
    busy: impl Fn(&Digest) -> bool,
) -> Vec<(std::time::SystemTime, PathBuf, u64)> {
    let mut found = Vec::new();
    for path in files::entries(folder).unwrap_or_default() {
        let digest = files::digest_of(&path).or_else(|| files::outboard_digest_of(&path));
        if let Some(digest) = digest
            && !busy(&digest)
            && let Ok(meta) = path.metadata()
        {
            found.push((meta.modified().unwrap_or(std::time::SystemTime::UNIX_EPOCH), path, meta.len()));
        }
    }
    found.sort_unstable();
    found
}

impl BlobStore {
    /// Limits what the store takes of the disk, in bytes, and makes it keep to that now. Without a limit only the disk does.
    ///
    /// # Errors
    ///
    /// [`StoreError::QuotaFull`] when more than that is pinned; file trouble.
    pub fn set_quota(&self, bytes: Option<u64>) -> Result<(), StoreError> {
        self.0.quota().limit = bytes;
        self.room(0).map(drop)
    }

    /// Keeps these blobs whatever the quota says, in place of those that were pinned for the same purpose before. They
    /// need not be here yet.
    pub fn pin(&self, purpose: &'static str, blobs: impl IntoIterator<Item = Digest>) {
        self.0.quota().pins.insert(purpose, blobs.into_iter().collect());
    }

    /// Bytes that the blobs take of the disk, their hash trees included.
    pub fn used_bytes(&self) -> u64 {
        self.0.quota().total
    }

    /// Makes room for a blob of this many bytes, and holds it.
    pub(super) fn room(&self, bytes: u64) -> Result<Room, StoreError> {
        self.room_for(bytes, None)
    }

    /// As [`room`](Self::room), for a download, which is not to lose what it has already.
    pub(super) fn room_for(&self, bytes: u64, download: Option<&Digest>) -> Result<Room, StoreError> {
        let wanted = if bytes == 0 { 0 } else { footprint(bytes) };
        let inner = &self.0;
        let limit = {
            let mut quota = inner.quota();
            quota.reserved += wanted;
            quota.limit
        };
        // from here on it is given back when this fails
        let room = Room { store: self.clone(), bytes: wanted };
        let Some(limit) = limit else { return Ok(room) };
        let (blobs, reserved) = {
            let quota = inner.quota();
            (quota.total, quota.reserved)
        };
        let open = |digest: &Digest| Some(digest) == download || self.open_partial(digest).is_some();
        let layout = self.layout();
        let mut leftovers = idle(&layout.folder("damaged"), |_| false);
        leftovers.extend(idle(&layout.folder("partial"), open));
        let rest: u64 = leftovers.iter().map(|(.., bytes)| bytes).sum();
        let mut over = (blobs + reserved + rest).saturating_sub(limit);
        for (_, path, bytes) in leftovers {
            if over == 0 {
                break;
            }
            files::remove(&path)?;
            over = over.saturating_sub(bytes);
        }
        if over > 0 {
            self.evict(over, limit, reserved - wanted, wanted)?;
        }
        Ok(room)
    }

    /// Removes blobs of at least `over` bytes, least useful first, or none when there are not enough that may go.
    fn evict(&self, over: u64, limit: u64, coming: u64, wanted: u64) -> Result<(), StoreError> {
        let (mut may_go, total) = {
            let quota = self.0.quota();
            let candidates = quota.held.iter().filter(|(digest, _)| !quota.is_pinned(digest));
            let candidates: Vec<_> =
                candidates.map(|(digest, held)| (held.used, *digest, held.bytes)).collect();
            (candidates, quota.total)
        };
        may_go.retain(|(_, digest, _)| !self.is_hidden(digest));
        may_go.sort_unstable();
        let evictable: u64 = may_go.iter().map(|(.., bytes)| footprint(*bytes)).sum();
        if evictable < over {
            let kept_bytes = total - evictable + coming;
            return Err(StoreError::QuotaFull { quota_bytes: limit, kept_bytes, wanted_bytes: wanted });
        }
        let mut gone = 0;
        for (_, digest, bytes) in may_go {
            if gone >= over {
                break;
            }
            // somebody may have pinned it meanwhile
            if self.0.quota().is_pinned(&digest) {
                continue;
            }
            self.remove(&digest)?;
            tracing::info!(%digest, bytes, "the disk quota is reached; the blob that was asked for longest ago is removed");
            gone += footprint(bytes);
        }
        Ok(())
    }

    /// Puts the blobs in the order in which their files were last changed: the nearest that a restart knows.
    pub(super) fn by_age(layout: &files::Layout, blobs: &BTreeMap<Digest, u64>) -> Vec<BlobRef> {
        let mut aged: Vec<_> = blobs
            .iter()
            .map(|(digest, bytes)| {
                let changed = fs::metadata(layout.blob(digest)).and_then(|meta| meta.modified()).ok();
                (changed, BlobRef { digest: *digest, bytes: *bytes })
            })
            .collect();
        aged.sort_unstable();
        aged.into_iter().map(|(_, blob)| blob).collect()
    }
}
