//! Tells whoever listens which blobs have changed: more of one is here, or it is gone, hidden, shown.

use talkoot_protocol::digest::Digest;
use tokio::sync::broadcast;

/// Changes that wait for a slow listener; one that missed some has to look at everything again.
const WAITING: usize = 1024;

/// The changes of one store.
#[derive(Debug)]
pub(super) struct Changes(broadcast::Sender<Digest>);

impl Default for Changes {
    fn default() -> Self {
        Self(broadcast::Sender::new(WAITING))
    }
}

impl Changes {
    /// Something about the blob has changed, and can be seen by now.
    pub(super) fn tell(&self, digest: &Digest) {
        // nobody need listen
        let _ = self.0.send(*digest);
    }

    /// All changes from now on.
    pub(super) fn listen(&self) -> broadcast::Receiver<Digest> {
        self.0.subscribe()
    }
}
