//! What others say of the log: heads that they hold, forks that they found, and whether it still goes on.
//!
//! ```text
//!  a head by gossip
//!    `-- not larger than ours --> our tree at that size: the same root?   no: a fork, kept and announced
//!    `-- larger ---------------> remembered; looked at again when we have come so far
//!                                 we do not come so far: it is kept back from us
//! ```
//! Everybody tells their head now and then, so that an operator that shows one history here and another there has to keep the
//! two apart for ever.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use talkoot_ledger::{Fork, Hash, Mirror, SignedCheckpoint, VerifierKey};
use talkoot_protocol::{
    announcement::{Announcement, AnnouncementError, Body, Listener},
    identity::{Keypair, MemberId},
    manifest::RunId,
    run::{Phase, RunState},
};

/// How often a member tells its head, at most. In a run of a thousand members everybody then hears two hundred notes a second.
const TELL: Duration = Duration::from_secs(5);

/// How often it tells the same one again, for those who were not there.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// Heads of larger trees that are remembered, one for each member.
const MOST_WAITING: usize = 256;

/// How long a larger head may be known before it is said that the log is kept back from us.
const KEPT_BACK: Duration = Duration::from_secs(30);

/// What was made of an announcement.
#[derive(Debug)]
pub(crate) enum Heard {
    /// There may be something new to fetch.
    News,
    /// Nothing that we did not know.
    Nothing,
    /// The log has two histories.
    Fork(Box<Fork>),
}

/// A head of a larger tree than ours.
#[derive(Debug)]
struct Waiting {
    size: u64,
    note: String,
    since: Instant,
}

/// A member's memory of what others say.
#[derive(Debug)]
pub(crate) struct Heads {
    log_key: VerifierKey,
    listener: Listener,
    waiting: BTreeMap<MemberId, Waiting>,
    told: Option<(Instant, u64)>,
    evidence: PathBuf,
    /// How long a larger head may be known before it is said that the log is kept back.
    patience: Duration,
    alarm: Option<Alarm>,
}

/// Why the log may not be what it seems, although nothing in it is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Alarm {
    /// Its newest entry is older than it may be.
    StandsStill {
        /// Its age in seconds.
        age_s: u64,
        /// The greatest age by the manifest, in seconds.
        most_s: u64,
    },
    /// Another member holds a larger tree, and the coordinator does not show it to us.
    KeptBack {
        /// Who.
        member: MemberId,
        /// Entries that it holds.
        theirs: u64,
        /// Entries that we hold.
        ours: u64,
    },
}

impl std::fmt::Display for Alarm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::StandsStill { age_s, most_s } => write!(
                f,
                "the log stands still: its newest entry is {age_s} s old, and after {most_s} s there should be another; ask other members or a witness for theirs"
            ),
            Self::KeptBack { member, theirs, ours } => write!(
                f,
                "the log is kept back from us: member {} holds {theirs} entries, and we are shown {ours}",
                member.short()
            ),
        }
    }
}

impl Heads {
    /// Beside the copy of the ledger in `ledger`.
    pub(crate) fn new(ledger: &Path, log_key: VerifierKey) -> Self {
        Self {
            log_key,
            listener: Listener::default(),
            waiting: BTreeMap::new(),
            told: None,
            evidence: ledger.with_file_name("evidence"),
            patience: KEPT_BACK,
            alarm: None,
        }
    }

    /// Takes an announcement that came by gossip.
    pub(crate) fn hear(
        &mut self,
        body: &[u8],
        mirror: &Mirror,
        state: &RunState,
    ) -> Result<Heard, AnnouncementError> {
        let operator = state.manifest().bindings.operator;
        let may_speak =
            |id: &MemberId| *id == operator || state.members().get(id).is_some_and(|m| m.retired.is_none());
        let Announcement { author, body, .. } = self.listener.take(body, &state.run(), may_speak)?;
        Ok(match body {
            Body::Head { note } => self.hear_head(author, note, mirror),
            Body::Fork { smaller, larger, proof } => {
                let mut hashes = proof.chunks(Hash::LEN).map(|bytes| bytes.try_into().ok().map(Hash));
                let root = hashes.next().flatten();
                let proof: Option<Vec<Hash>> = hashes.collect();
                let fork = root.zip(proof).map(|(root, proof)| Fork { smaller, larger, root, proof });
                match fork.map(|fork| (fork.verify(&self.log_key), fork)) {
                    Some((Ok(_), fork)) => Heard::Fork(Box::new(fork)),
                    Some((Err(error), _)) => {
                        tracing::warn!(author = %author.short(), %error, "a fork is claimed, and not shown");
                        Heard::Nothing
                    }
                    None => Heard::Nothing,
                }
            }
        })
    }

    fn hear_head(&mut self, author: MemberId, note: String, mirror: &Mirror) -> Heard {
        let size = match SignedCheckpoint::verify(note.as_bytes(), &self.log_key) {
            Ok(signed) => signed.checkpoint.size,
            Err(error) => {
                tracing::warn!(author = %author.short(), %error, "a head is not the log's");
                return Heard::Nothing;
            }
        };
        if size <= mirror.size() {
            return self.hold_against(mirror, &note).map_or(Heard::Nothing, Heard::Fork);
        }
        if self.waiting.len() < MOST_WAITING || self.waiting.contains_key(&author) {
            let since = self.waiting.get(&author).map_or_else(Instant::now, |waiting| waiting.since);
            self.waiting.insert(author, Waiting { size, note, since });
        }
        Heard::News
    }

    /// The copy has grown: what was too large to be looked at may not be any more.
    pub(crate) fn review(&mut self, mirror: &Mirror) -> Option<Box<Fork>> {
        let reached = |waiting: &Waiting| waiting.size <= mirror.size();
        let reached: Vec<MemberId> =
            self.waiting.iter().filter(|(_, waiting)| reached(waiting)).map(|(id, _)| *id).collect();
        let notes: Vec<String> =
            reached.iter().filter_map(|id| self.waiting.remove(id)).map(|waiting| waiting.note).collect();
        notes.iter().find_map(|note| self.hold_against(mirror, note))
    }

    fn hold_against(&self, mirror: &Mirror, note: &str) -> Option<Box<Fork>> {
        let ours = SignedCheckpoint::verify(mirror.checkpoint_note()?.as_bytes(), &self.log_key).ok()?;
        match Fork::find(mirror.folder(), &self.log_key, &ours, note) {
            Ok(fork) => fork.map(Box::new),
            Err(error) => {
                tracing::warn!(%error, "a head cannot be held against our copy of the ledger");
                None
            }
        }
    }

    /// Our head as an announcement, when it is time to tell it.
    pub(crate) fn news(&mut self, mirror: &Mirror, run: RunId, key: &Keypair) -> Option<Announcement> {
        let size = mirror.size();
        let pause = |told: u64| if told < size { TELL } else { TELL_AGAIN };
        if self.told.is_some_and(|(when, told)| when.elapsed() < pause(told)) {
            return None;
        }
        let note = mirror.checkpoint_note()?.to_owned();
        self.told = Some((Instant::now(), size));
        Some(Announcement::sign(run, key, size, Body::Head { note }))
    }

    /// Keeps the evidence of a fork. Returns the announcement of it, and where it is kept.
    pub(crate) fn keep(&self, fork: &Fork, run: RunId, key: &Keypair) -> (Announcement, PathBuf) {
        let kept = fork.keep(&self.evidence).unwrap_or_else(|error| {
            tracing::error!(%error, dir = %self.evidence.display(), "the evidence of a fork cannot be kept");
            self.evidence.clone()
        });
        let size = SignedCheckpoint::verify(fork.larger.as_bytes(), &self.log_key)
            .map_or(u64::MAX, |signed| signed.checkpoint.size);
        let hashes: Vec<u8> = [fork.root].iter().chain(&fork.proof).flat_map(|hash| hash.0).collect();
        let body =
            Body::Fork { smaller: fork.smaller.clone(), larger: fork.larger.clone(), proof: hashes.into() };
        (Announcement::sign(run, key, size, body), kept)
    }

    /// Looks whether the log may not be what it seems, at `now_ms`. What is found is told once, until it changes.
    pub(crate) fn alarm(&mut self, mirror: &Mirror, state: &RunState, now_ms: u64) {
        let ours = mirror.size();
        self.waiting.retain(|_, waiting| waiting.size > ours);
        let kept_back = self.waiting.iter().find(|(_, waiting)| waiting.since.elapsed() > self.patience);
        let age_s = now_ms.saturating_sub(state.time_ms()) / 1_000;
        let most_s = state.manifest().terms.deadlines.most_age_s();
        let alarm = match kept_back {
            _ if state.phase() == Phase::Ended => None,
            Some((member, waiting)) => Some(Alarm::KeptBack { member: *member, theirs: waiting.size, ours }),
            None if age_s > most_s => Some(Alarm::StandsStill { age_s, most_s }),
            None => None,
        };
        let kind = |alarm: &Alarm| std::mem::discriminant(alarm);
        if let Some(new) = &alarm
            && self.alarm.as_ref().map(kind) != Some(kind(new))
        {
            tracing::warn!("{new}");
        }
        self.alarm = alarm;
    }

    /// What the last look found.
    pub(crate) const fn last_alarm(&self) -> Option<&Alarm> {
        self.alarm.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use talkoot_ledger::{Log, SignerKey};
    use talkoot_protocol::{
        digest::BlobRef,
        entry::{Entry, Statement},
        event::{Event, Join, Role},
        manifest::{Bindings, DatasetBinding, Manifest, Terms},
    };

    use super::*;

    const ORIGIN: &str = "logs.example.org/run";
    const SEED: [u8; 32] = [3; 32];

    fn key(n: u8) -> Keypair {
        Keypair::from_seed([n; 32])
    }

    /// The manifest, and members 1 and 2.
    fn entries(log_key: &VerifierKey) -> Vec<Vec<u8>> {
        let terms = Terms::from_toml(include_str!("../../laboratory/src/attack/terms.toml")).unwrap();
        let datasets = vec![DatasetBinding { index: BlobRef::of(b"index"), packs: 50, periods: None }];
        let bindings = Bindings {
            operator: key(100).id(),
            log_key: log_key.to_string(),
            config: BlobRef::of(b"config"),
            tokenizer: BlobRef::of(b"tokenizer"),
            initial_state: BlobRef::of(b"state"),
            datasets,
        };
        let manifest = Manifest { terms, bindings };
        let run = manifest.id();
        let join = |seen| Event::Join(Join { role: Role::Trainer, seen, draw_key: None, recovery: None });
        let said = [
            (key(100), Event::Manifest(Box::new(manifest))),
            (key(1), join(1)),
            (key(2), join(2)),
            (key(3), join(3)),
        ];
        let entry = |(index, (key, event)): (u64, (Keypair, Event))| {
            Entry::new(index, 1_000, Statement::sign(run, &key, &event)).to_bytes()
        };
        (0..).zip(said).map(entry).collect()
    }

    /// A member who holds three entries of four.
    struct Case {
        _home: tempfile::TempDir,
        log: Log,
        mirror: Mirror,
        state: RunState,
        heads: Heads,
        entries: Vec<Vec<u8>>,
    }

    impl Case {
        fn new() -> Self {
            let home = tempfile::tempdir().unwrap();
            let log_key = SignerKey::log(ORIGIN, &SEED).unwrap().verifier();
            let entries = entries(&log_key);
            let mut log = Log::create(&home.path().join("log"), ORIGIN, &SEED).unwrap();
            log.append(&entries[..3]).unwrap();
            let dir = home.path().join("ledger");
            let mut mirror = Mirror::open(&dir, &log_key).unwrap();
            mirror.extend(&entries[..3], &log.checkpoint_note()).unwrap();
            let mut state = RunState::begin(&entries[0]).unwrap();
            for entry in &entries[1..3] {
                state.apply(entry).unwrap();
            }
            let heads = Heads::new(&dir, log_key);
            Self { _home: home, log, mirror, state, heads, entries }
        }

        fn tell(&mut self, n: u8) -> Heard {
            let body = Body::Head { note: self.log.checkpoint_note() };
            let told = Announcement::sign(self.state.run(), &key(n), self.log.size(), body);
            self.heads.hear(&told.to_bytes(), &self.mirror, &self.state).unwrap()
        }

        fn look(&mut self) -> Option<&Alarm> {
            // the log's last entry is a moment old
            self.heads.alarm(&self.mirror, &self.state, 2_000);
            self.heads.last_alarm()
        }
    }

    #[test]
    fn a_log_that_is_kept_back_is_told_from_one_that_is_only_late() {
        let mut case = Case::new();
        assert!(matches!(case.tell(1), Heard::Nothing), "the same head as ours");
        case.log.append(&case.entries[3..]).unwrap();
        assert!(matches!(case.tell(2), Heard::News));
        assert_eq!(case.look(), None, "it may be on its way");
        case.heads.patience = Duration::ZERO;
        let alarm = Alarm::KeptBack { member: key(2).id(), theirs: 4, ours: 3 };
        assert_eq!(case.look(), Some(&alarm));
        case.mirror.extend(&case.entries[3..], &case.log.checkpoint_note()).unwrap();
        assert_eq!(case.look(), None, "now it is here");
        assert!(case.heads.review(&case.mirror).is_none(), "and it is the same history");
    }

    #[test]
    fn strangers_and_forgers_are_not_listened_to() {
        let mut case = Case::new();
        let run = case.state.run();
        let body = Body::Head { note: case.log.checkpoint_note() };
        let stranger = Announcement::sign(run, &key(9), 3, body).to_bytes();
        let refused = case.heads.hear(&stranger, &case.mirror, &case.state).unwrap_err();
        assert!(matches!(refused, AnnouncementError::OtherAuthor { .. }), "{refused}");
        // a member cannot make others stop with a fork that is none
        let note = case.log.checkpoint_note();
        let body = Body::Fork { smaller: note.clone(), larger: note, proof: vec![7; 32].into() };
        let claimed = Announcement::sign(run, &key(1), 3, body).to_bytes();
        let heard = case.heads.hear(&claimed, &case.mirror, &case.state).unwrap();
        assert!(matches!(heard, Heard::Nothing), "{heard:?}");
    }
}
