//! Who says that it is a seeder: a member whose line is there for others.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use talkoot_protocol::identity::MemberId;

/// What members said in their answers, or nothing for one that could not be asked. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Seeders(Arc<Mutex<BTreeMap<MemberId, Option<bool>>>>);

impl Seeders {
    fn said(&self) -> MutexGuard<'_, BTreeMap<MemberId, Option<bool>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Members that say they are.
    pub(super) fn all(&self) -> BTreeSet<MemberId> {
        self.said().iter().filter(|(_, said)| **said == Some(true)).map(|(peer, _)| *peer).collect()
    }

    /// Whether the member says that it is one.
    pub(super) fn contains(&self, peer: &MemberId) -> bool {
        self.said().get(peer) == Some(&Some(true))
    }

    /// Whether the member has said that it is one, or that it is none.
    pub(super) fn is_known(&self, peer: &MemberId) -> bool {
        self.said().get(peer).is_some_and(Option::is_some)
    }

    /// Whether it has been asked, be it in vain.
    pub(super) fn is_tried(&self, peer: &MemberId) -> bool {
        self.said().contains_key(peer)
    }

    /// The member could not be asked. What it said before stands.
    pub(super) fn tried(&self, peer: MemberId) {
        self.said().entry(peer).or_insert(None);
    }

    /// Takes down what a member says; whether that is news.
    pub(super) fn note(&self, peer: MemberId, seeder: bool) -> bool {
        self.said().insert(peer, Some(seeder)) != Some(Some(seeder))
    }
}
