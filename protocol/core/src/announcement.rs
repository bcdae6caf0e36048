//! What is told to everybody at once, by gossip: typed, signed, numbered.
//!
//! ```text
//! announcement = { 0: version, 1: run id, 2: author, 3: number, 4: body, 5: signature }
//! signature    = ed25519( "talkoot/gossip/v1" newline  canonical [version, run id, author, number, body] )
//! ```
//! Gossip may come late, twice, out of order, or from whoever kept it: a listener takes an announcement only when its number
//! is above the last one that it took from that author. Nothing in it is believed; it is a reason to ask.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode, bytes::ByteVec};

use crate::{
    canonical::{self, CanonicalError},
    identity::{Keypair, MemberId, Signature},
    manifest::RunId,
};

/// Signing domain of announcements.
pub const GOSSIP_DOMAIN: &str = "talkoot/gossip/v1";
/// Version of the announcement.
pub const ANNOUNCEMENT_VERSION: u32 = 1;
/// Greatest length of an announcement in bytes: a note of a few signatures.
pub const MAX_ANNOUNCEMENT_BYTES: usize = 16 * 1024;
/// Authors whose last number is remembered.
const MAX_AUTHORS: usize = 1_024;

/// What is announced.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Body {
    /// The log has grown.
    #[n(0)]
    Head {
        /// The newest signed checkpoint, as the text of a signed note.
        #[n(0)]
        note: String,
    },
    /// The log has signed two histories. Whoever hears it can check it alone: the two notes, and the hashes that lead from the
    /// larger tree's root at the smaller size to the larger root.
    #[n(1)]
    Fork {
        /// The note of the smaller tree.
        #[n(0)]
        smaller: String,
        /// The note of the larger one, or of another one of that size.
        #[n(1)]
        larger: String,
        /// Root of the larger tree at the smaller size, and the proof's hashes: 32 bytes each, joined.
        #[n(2)]
        proof: ByteVec,
    },
}

impl Body {
    /// What is counted apart: numbers grow within a kind.
    const fn kind(&self) -> u8 {
        match self {
            Self::Head { .. } => 0,
            Self::Fork { .. } => 1,
        }
    }
}

/// What was signed.
#[derive(Encode)]
struct Signed<'a>(#[n(0)] u32, #[n(1)] &'a RunId, #[n(2)] &'a MemberId, #[n(3)] u64, #[n(4)] &'a Body);

/// Something told to everybody.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Announcement {
    /// Version; 1.
    #[n(0)]
    pub version: u32,
    /// The run that it is about.
    #[n(1)]
    pub run: RunId,
    /// Who says it.
    #[n(2)]
    pub author: MemberId,
    /// Grows with each announcement of the author and kind; for a head, the size of the log, for a fork, that of the larger tree.
    #[n(3)]
    pub number: u64,
    /// What is said.
    #[n(4)]
    pub body: Body,
    /// The author's signature over all of it.
    #[n(5)]
    pub signature: Signature,
}

/// Why an announcement is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnnouncementError {
    /// Not the canonical bytes of an announcement.
    #[error(transparent)]
    Encoding(#[from] CanonicalError),
    /// Of another version.
    #[error("an announcement of version {got}; this program reads version {ANNOUNCEMENT_VERSION}")]
    Version {
        /// The version that it names.
        got: u32,
    },
    /// About another run.
    #[error("the announcement is about run {}, this is run {}", got.short(), expected.short())]
    OtherRun {
        /// The run that it names.
        got: RunId,
        /// The run at hand.
        expected: RunId,
    },
    /// By somebody who has nothing to say on this topic.
    #[error("{} has no part in the run, and announces something", author.short())]
    OtherAuthor {
        /// Who signed.
        author: MemberId,
    },
    /// The signature is not the author's.
    #[error("the signature of the announcement is not that of member {}", author.short())]
    BadSignature {
        /// Who is said to have signed.
        author: MemberId,
    },
    /// Taken before, or older than what was.
    #[error("announcement {number} of member {} is old: {last} was taken", author.short())]
    Old {
        /// Who signed.
        author: MemberId,
        /// Its number.
        number: u64,
        /// The last number taken.
        last: u64,
    },
}

impl AnnouncementError {
    /// Whether whoever made it has lied or sent garbage. Old ones are nobody's fault, and who has no part in the run may have
    /// joined a moment ago.
    pub const fn is_offence(&self) -> bool {
        matches!(self, Self::Encoding(_) | Self::BadSignature { .. })
    }
}

impl Announcement {
    /// Signs an announcement.
    pub fn sign(run: RunId, key: &Keypair, number: u64, body: Body) -> Self {
        let author = key.id();
        let message = canonical::to_bytes(&Signed(ANNOUNCEMENT_VERSION, &run, &author, number, &body));
        let signature = key.sign(GOSSIP_DOMAIN, &message);
        Self { version: ANNOUNCEMENT_VERSION, run, author, number, body, signature }
    }

    /// Canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        canonical::to_bytes(self)
    }

    /// Reads canonical bytes and checks version and signature.
    ///
    /// # Errors
    ///
    /// [`AnnouncementError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, AnnouncementError> {
        let read: Self = canonical::from_bytes("announcement", bytes, MAX_ANNOUNCEMENT_BYTES)?;
        if read.version != ANNOUNCEMENT_VERSION {
            return Err(AnnouncementError::Version { got: read.version });
        }
        let signed = Signed(read.version, &read.run, &read.author, read.number, &read.body);
        if !read.author.verifies(GOSSIP_DOMAIN, &canonical::to_bytes(&signed), &read.signature) {
            return Err(AnnouncementError::BadSignature { author: read.author });
        }
        Ok(read)
    }
}

/// The name of the gossip topic of a run's heads.
pub fn topic(run: &RunId) -> String {
    format!("talkoot/{run}/head")
}

/// A listener's memory: what it has taken from whom.
#[derive(Debug, Clone, Default)]
pub struct Listener {
    last: BTreeMap<(MemberId, u8), u64>,
}

impl Listener {
    /// Takes an announcement about `run` by somebody who `may_speak`, once, in the order of the numbers.
    ///
    /// # Errors
    ///
    /// [`AnnouncementError`] that says why it is left aside; nothing changes then.
    pub fn take(
        &mut self,
        bytes: &[u8],
        run: &RunId,
        may_speak: impl Fn(&MemberId) -> bool,
    ) -> Result<Announcement, AnnouncementError> {
        let announcement = Announcement::from_bytes(bytes)?;
        if announcement.run != *run {
            return Err(AnnouncementError::OtherRun { got: announcement.run, expected: *run });
        }
        let (author, number) = (announcement.author, announcement.number);
        if !may_speak(&author) {
            return Err(AnnouncementError::OtherAuthor { author });
        }
        let whose = (author, announcement.body.kind());
        match self.last.get(&whose) {
            Some(&last) if number <= last => Err(AnnouncementError::Old { author, number, last }),
            _ => {
                if self.last.len() >= MAX_AUTHORS {
                    self.last.pop_first();
                }
                self.last.insert(whose, number);
                Ok(announcement)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::digest::Digest;

    fn key() -> Keypair {
        Keypair::from_seed([3; 32])
    }

    fn run() -> RunId {
        Digest::of(b"run")
    }

    fn head(number: u64) -> Vec<u8> {
        let body = Body::Head { note: format!("size {number}") };
        Announcement::sign(run(), &key(), number, body).to_bytes()
    }

    #[test]
    fn doubled_reordered_and_replayed_announcements_are_taken_once_and_in_order() {
        let mut listener = Listener::default();
        let mut taken = Vec::new();
        for number in [3, 3, 1, 5, 4, 5, 6, 3] {
            if let Ok(announcement) = listener.take(&head(number), &run(), |id| *id == key().id()) {
                taken.push(announcement.number);
            }
        }
        assert_eq!(taken, [3, 5, 6]);
        let old = listener.take(&head(6), &run(), |_| true).unwrap_err();
        assert!(matches!(old, AnnouncementError::Old { number: 6, last: 6, .. }) && !old.is_offence());
    }

    #[test]
    fn an_announcement_of_another_run_author_or_purpose_is_left_aside() {
        let mut listener = Listener::default();
        let other_run = listener.take(&head(1), &Digest::of(b"other"), |_| true).unwrap_err();
        assert!(matches!(other_run, AnnouncementError::OtherRun { .. }));
        let somebody = Keypair::from_seed([4; 32]);
        let author = listener.take(&head(1), &run(), |id| *id == somebody.id()).unwrap_err();
        assert!(matches!(author, AnnouncementError::OtherAuthor { .. }) && !author.is_offence());
        // the same bytes signed for another purpose
        let mut forged = Announcement::from_bytes(&head(1)).unwrap();
        let signed = Signed(1, &forged.run, &forged.author, 1, &forged.body);
        forged.signature = key().sign("talkoot/statement/v1", &canonical::to_bytes(&signed));
        let error = Announcement::from_bytes(&forged.to_bytes()).unwrap_err();
        assert!(matches!(error, AnnouncementError::BadSignature { .. }) && error.is_offence());
        assert!(listener.take(&head(1), &run(), |_| true).is_ok(), "refusals change nothing");
        let fork = Body::Fork { smaller: "a".to_owned(), larger: "b".to_owned(), proof: vec![0; 32].into() };
        let fork = Announcement::sign(run(), &key(), 1, fork).to_bytes();
        assert!(listener.take(&fork, &run(), |_| true).is_ok(), "a fork is no old head");
        assert!(listener.take(&fork, &run(), |_| true).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Announcement::from_bytes(&bytes);
        }

        #[test]
        fn a_changed_byte_is_never_taken(at in 0usize..10_000, flip in 1u8..=255) {
            let mut bytes = head(7);
            let at = at % bytes.len();
            bytes[at] ^= flip;
            prop_assert!(Announcement::from_bytes(&bytes).is_err());
        }
    }
}
