//! Following the ledger: fetch what is new, check it against the signed head, keep it, fold it.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use talkoot_ledger::{Fork, Mirror, MirrorError, SignedCheckpoint, VerifierKey};
use talkoot_network::{Network, NetworkEvent, Offence};
use talkoot_protocol::{
    announcement,
    entry::Statement,
    event::{Event, Leave},
    identity::{Keypair, MemberId},
    manifest::RunId,
    message::{MAX_ENTRIES, Request, Response},
    run::{Member, Phase, RunState},
};
use tokio::sync::mpsc::Receiver;

use crate::{
    ReplicaError,
    heads::{Alarm, Heads, Heard},
    receipts::Receipts,
};

/// How often the head is asked for when no gossip says that there is something new. Gossip is the fast path;
/// this bounds the delay when it is lost.
const POLL: Duration = Duration::from_millis(700);

/// Pause before the same question is asked again of peers who did not answer.
const RETRY: Duration = Duration::from_millis(300);

/// How long the word of a fork is given to spread before this member stops.
const SPREAD: Duration = Duration::from_secs(2);

/// How long a member that leaves waits for the coordinator to take its farewell.
const FAREWELL: Duration = Duration::from_secs(3);

/// A member's own copy of the ledger, the fold over it, and the way to the coordinator.
#[derive(Debug)]
pub struct Follower {
    network: Network,
    events: Receiver<NetworkEvent>,
    key: Keypair,
    mirror: Mirror,
    mirror_dir: PathBuf,
    receipts: Receipts,
    state: RunState,
    log_key: VerifierKey,
    heads: Heads,
    /// Evidence that the log has two histories, heard and not yet acted upon.
    fork: Option<Box<Fork>>,
}

/// What became of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submission {
    /// It is in the log, under a signed checkpoint.
    Accepted {
        /// Its ledger index.
        index: u64,
    },
    /// It breaks a rule, as the ledger stands.
    Refused {
        /// The rule.
        reason: String,
    },
    /// The coordinator cannot be reached now.
    Unreachable,
}

impl Follower {
    /// Finds the run among the connected peers, or in `dir` when it was followed before, and reads the copy of
    /// the ledger that is there. Waits until somebody answers.
    ///
    /// # Errors
    ///
    /// [`ReplicaError`] when the copy is damaged or locked, or the manifest is another run's.
    pub async fn start(
        network: Network,
        mut events: Receiver<NetworkEvent>,
        key: Keypair,
        run: RunId,
        dir: &Path,
    ) -> Result<Self, ReplicaError> {
        let log_key_file = dir.join("log.vkey");
        let (mirror, first) = match std::fs::read_to_string(&log_key_file) {
            Ok(text) => {
                let mirror = Mirror::open(dir, &parse_log_key(&text)?)?;
                let first = if mirror.size() > 0 { Some(mirror.entry(0)?) } else { None };
                (Some(mirror), first)
            }
            Err(_) => (None, None),
        };
        let first = match first {
            Some(first) => first,
            None => fetch_manifest(&network, &mut events, run).await,
        };
        let begin = |error| ReplicaError::BrokenRule { index: 0, mirror: dir.to_owned(), source: error };
        let mut state = RunState::begin(&first).map_err(begin)?;
        if state.run() != run {
            return Err(ReplicaError::OtherRun { expected: run, got: state.run() });
        }
        let log_key = parse_log_key(&state.manifest().bindings.log_key)?;
        let mut mirror = match mirror {
            Some(mirror) => mirror,
            None => Mirror::open(dir, &log_key)?,
        };
        mirror.require(state.manifest().terms.policy());
        let receipts = Receipts::new(dir, log_key.clone());
        for index in 1..mirror.size() {
            let entry = mirror.entry(index)?;
            state.apply(&entry).map_err(|source| ReplicaError::BrokenRule {
                index,
                mirror: dir.to_owned(),
                source,
            })?;
            receipts.keep(&mirror, index, &entry, key.id())?;
        }
        // wherever it goes: a link names where the coordinator was
        network.keep(state.manifest().bindings.operator).await;
        Ok(Self {
            network,
            events,
            key,
            mirror,
            mirror_dir: dir.to_owned(),
            receipts,
            state,
            heads: Heads::new(dir, log_key.clone()),
            log_key,
            fork: None,
        })
    }

    /// The run's state as far as it was followed.
    pub const fn state(&self) -> &RunState {
        &self.state
    }

    /// The network that it follows over.
    pub const fn network(&self) -> &Network {
        &self.network
    }

    /// This member.
    pub fn id(&self) -> MemberId {
        self.key.id()
    }

    /// The member's key.
    pub const fn key(&self) -> &Keypair {
        &self.key
    }

    /// Folder of this member's copy of the ledger.
    pub fn ledger(&self) -> &Path {
        &self.mirror_dir
    }

    /// The coordinator's id.
    pub const fn coordinator(&self) -> MemberId {
        self.state.manifest().bindings.operator
    }

    /// Fetches, checks, keeps and folds everything that the coordinator has beyond this copy. Returns how many
    /// entries were new; 0 also when the coordinator cannot be reached.
    ///
    /// # Errors
    ///
    /// [`ReplicaError::Forked`] when the log has signed two histories, by what we or others were shown;
    /// [`ReplicaError::Mirror`] when it was rewritten or a checkpoint lacks the quorum of witnesses that the manifest demands,
    /// [`ReplicaError::BrokenRule`] when an entry breaks a rule, [`ReplicaError::Receipt`].
    pub async fn sync(&mut self) -> Result<u64, ReplicaError> {
        if let Some(fork) = self.fork.take() {
            return Err(self.forked(&fork).await);
        }
        let new = self.fetch().await?;
        if let Some(fork) = self.heads.review(&self.mirror) {
            return Err(self.forked(&fork).await);
        }
        if let Some(head) = self.heads.news(&self.mirror, self.state.run(), &self.key) {
            self.network.publish(announcement::topic(&self.state.run()), head.to_bytes()).await;
        }
        self.heads.alarm(&self.mirror, &self.state, now_ms());
        Ok(new)
    }

    /// Why the log may not be what it seems, as of the last [`sync`](Self::sync).
    pub const fn alarm(&self) -> Option<&Alarm> {
        self.heads.last_alarm()
    }

    /// Keeps the evidence of a fork, tells everybody, and returns what has to be said to the owner.
    async fn forked(&self, fork: &Fork) -> ReplicaError {
        let (announcement, evidence) = self.heads.keep(fork, self.state.run(), &self.key);
        self.network.publish(announcement::topic(&self.state.run()), announcement.to_bytes()).await;
        tokio::time::sleep(SPREAD).await;
        ReplicaError::Forked { evidence }
    }

    async fn fetch(&mut self) -> Result<u64, ReplicaError> {
        let mut new = 0u64;
        loop {
            let from = self.mirror.size();
            let request = Request::Entries { from, max: MAX_ENTRIES };
            let Some(Response::Entries { from: first, entries, note }) =
                ask(&self.network, self.coordinator(), &request).await
            else {
                return Ok(new);
            };
            if entries.is_empty() || first != from {
                return Ok(new);
            }
            let entries: Vec<Vec<u8>> = entries.into_iter().map(|entry| entry.to_vec()).collect();
            if let Err(error) = self.mirror.extend(&entries, &note) {
                return Err(self.accuse(error).await);
            }
            for (index, entry) in (from..).zip(&entries) {
                let broken =
                    |source| ReplicaError::BrokenRule { index, mirror: self.mirror_dir.clone(), source };
                if index == 0 {
                    // The copy was empty: what was folded at the start came without a signed head.
                    let state = RunState::begin(entry).map_err(broken)?;
                    if state.run() != self.state.run() {
                        return Err(ReplicaError::OtherRun { expected: self.state.run(), got: state.run() });
                    }
                    self.state = state;
                } else {
                    self.state.apply(entry).map_err(broken)?;
                    self.receipts.keep(&self.mirror, index, entry, self.key.id())?;
                }
                new = new.saturating_add(1);
            }
        }
    }

    /// An extension was refused. Where the coordinator itself has shown two histories, that is a fork like any other.
    async fn accuse(&self, error: MirrorError) -> ReplicaError {
        let MirrorError::Equivocation { our_note, their_note, .. } = &error else { return error.into() };
        let Ok(ours) = SignedCheckpoint::verify(our_note.as_bytes(), &self.log_key) else {
            return error.into();
        };
        match Fork::find(self.mirror.folder(), &self.log_key, &ours, their_note) {
            Ok(Some(fork)) => self.forked(&fork).await,
            _ => error.into(),
        }
    }

    /// Waits until there may be something new: gossip of a head, or a moment has passed.
    ///
    /// Cancel-safe: an event that was taken is only a hint to look.
    pub async fn wait(&mut self) {
        let topic = announcement::topic(&self.state.run());
        let pause = tokio::time::sleep(POLL);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => return,
                event = self.events.recv() => match event {
                    Some(NetworkEvent::Gossip { topic: heard, from, body }) if heard == topic => {
                        match self.heads.hear(&body, &self.mirror, &self.state) {
                            Ok(Heard::News) => return,
                            Ok(Heard::Nothing) => {}
                            Ok(Heard::Fork(fork)) => {
                                self.fork = Some(fork);
                                return;
                            }
                            Err(error) if error.is_offence() => {
                                tracing::warn!(from = %from.short(), %error, "an announcement is refused");
                                self.network.blame(from, Offence::Lie).await;
                            }
                            Err(error) => tracing::debug!(from = %from.short(), %error, "an announcement is left aside"),
                        }
                    }
                    Some(NetworkEvent::Request { body, reply, .. }) => {
                        reply.send(self.answer(&body).to_bytes());
                    }
                    Some(NetworkEvent::Connected(member)) if member == self.coordinator() => return,
                    Some(_) => {}
                    None => {
                        (&mut pause).await;
                        return;
                    }
                },
            }
        }
    }

    /// Does `work` while `what` stays what it is; nothing when it changes first. Meanwhile the ledger is followed.
    ///
    /// A blob is waited for as long as nobody has it. For a member that slept, or was cut off, that may be for ever: the run
    /// went on, and nobody keeps what it was waiting for.
    ///
    /// # Errors
    ///
    /// As `work`, and as [`sync`](Self::sync).
    pub async fn while_unchanged<T, K: PartialEq>(
        &mut self,
        what: impl Fn(&Self) -> K,
        work: impl Future<Output = Result<T, ReplicaError>>,
    ) -> Result<Option<T>, ReplicaError> {
        let began = what(self);
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done.map(Some),
                () = self.wait() => {
                    self.sync().await?;
                    if what(self) != began {
                        tracing::info!("the run has gone on; what was being fetched is of no use any more");
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Tells the coordinator that this member leaves, when it is an active one of a run that goes on. A coordinator
    /// that does not answer is not waited for.
    pub async fn leave(&self) {
        let active = self.state.members().get(&self.id()).is_some_and(Member::is_active);
        if active && self.state.phase() != Phase::Ended {
            let leave = Event::Leave(Leave { seen: self.state.size() });
            let left = tokio::time::timeout(FAREWELL, self.submit(&leave)).await;
            tracing::info!(?left, "left the run");
        }
    }

    /// What another member is told: the head that we hold, so that it can be held against others.
    fn answer(&self, request: &[u8]) -> Response {
        match (Request::from_bytes(request), self.mirror.checkpoint_note()) {
            (Ok(Request::Head), Some(note)) => Response::Head { note: note.to_owned() },
            (Err(error), _) => Response::NotServed { reason: error.to_string() },
            _ => Response::NotServed { reason: "this member serves its head alone".to_owned() },
        }
    }

    /// Signs `event` and hands it to the coordinator.
    pub async fn submit(&self, event: &Event) -> Submission {
        let statement = Statement::sign(self.state.run(), &self.key, event);
        let request = Request::Submit { statement: statement.to_bytes().into() };
        match ask(&self.network, self.coordinator(), &request).await {
            Some(Response::Accepted { index }) => Submission::Accepted { index },
            Some(Response::Refused { reason } | Response::NotServed { reason }) => {
                Submission::Refused { reason }
            }
            Some(_) => Submission::Refused { reason: "the coordinator answered something else".to_owned() },
            None => Submission::Unreachable,
        }
    }
}

/// This machine's clock: milliseconds since 1970.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn parse_log_key(text: &str) -> Result<VerifierKey, ReplicaError> {
    text.trim()
        .parse()
        .map_err(|error: talkoot_ledger::note::KeyError| ReplicaError::LogKey { reason: error.to_string() })
}

async fn ask(network: &Network, whom: MemberId, request: &Request) -> Option<Response> {
    match network.request(whom, request.to_bytes()).await {
        Ok(bytes) => match Response::from_bytes(&bytes) {
            Ok(response) => Some(response),
            Err(error) => {
                tracing::warn!(peer = %whom.short(), %error, "answer refused");
                None
            }
        },
        Err(error) => {
            tracing::debug!(peer = %whom.short(), %error, "no answer");
            None
        }
    }
}

/// Asks everybody who is connected for entry 0 until one answers with the run's.
async fn fetch_manifest(network: &Network, events: &mut Receiver<NetworkEvent>, run: RunId) -> Vec<u8> {
    loop {
        for peer in network.connected() {
            let request = Request::Entries { from: 0, max: 1 };
            if let Some(Response::Entries { entries, .. }) = ask(network, peer, &request).await
                && let Some(first) = entries.into_iter().next()
            {
                let first = first.to_vec();
                match RunState::begin(&first) {
                    Ok(state) if state.run() == run => return first,
                    Ok(state) => tracing::warn!(
                        peer = %peer.short(), got = %state.run().short(), expected = %run.short(), "another run's manifest"
                    ),
                    Err(error) => tracing::warn!(peer = %peer.short(), %error, "manifest refused"),
                }
            }
        }
        // Whatever happens on the network is a reason to ask again; silence is one too.
        let _ = tokio::time::timeout(RETRY, events.recv()).await;
        tokio::time::sleep(RETRY / 3).await;
    }
}
