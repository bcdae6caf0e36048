//! The node's process: follows the ledger and does what it asks.

use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use talkoot_execution::{Arithmetic, Unavailable, chosen, restore};
use talkoot_network::{
    BlobStore, Network, NetworkConfig, NetworkError, StoreError,
    keyfile::{self, KeyFileError},
};
use talkoot_protocol::{
    canary::Drawn,
    challenge::DrawKey,
    digest::BlobRef,
    event::{Commit, Event, Join, Late, Opening, Outcome, Role},
    identity::MemberId,
    link::JoinLink,
    manifest::VerificationClass,
    run::{Phase, RunState},
};
use talkoot_replica::{Follower, Inputs, ReplicaError, Submission, Weights};
use tokio_util::sync::CancellationToken;

use crate::{
    cheat::{Cheat, Previous},
    pending::Pending,
    status::{RoundTraffic, Status},
    task::{Task, next_task},
    training::{Assignment, Trained, Training},
};

/// Rounds whose blobs are kept for verifiers and late members.
const ROUNDS_KEPT: usize = 3;

/// Greatest length of an error-feedback buffer that is read back: a terabyte, as the ledger's bound on blobs.
const MAX_FEEDBACK_BYTES: u64 = 1 << 40;

/// How a node takes part.
#[derive(Debug, Clone)]
pub struct Options {
    /// The node's folder: key, copy of the ledger, blobs, status.
    pub dir: PathBuf,
    /// The run, and where it is met.
    pub link: JoinLink,
    /// Where to listen, how to meet others besides through the link, and what is given of the line.
    pub network: NetworkConfig,
    /// Most bytes that the blobs may take of the disk; only the disk limits them when left out.
    pub disk_bytes: Option<u64>,
    /// A key kept elsewhere that may revoke or replace this node's; named when it joins, and not changed later.
    pub recovery: Option<MemberId>,
    /// Whose arithmetic is trained in.
    pub arithmetic: Arithmetic,
    /// A lie to rehearse.
    pub cheat: Option<Cheat>,
}

/// Why a node stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The key file.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The blob store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The run cannot be followed.
    #[error(transparent)]
    Replica(#[from] ReplicaError),
    /// A small file of the node could not be written.
    #[error("writing {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The run refuses this key.
    #[error("the run does not take this node: {reason}")]
    NotAdmitted {
        /// Why.
        reason: String,
    },
    /// The node was excluded.
    #[error(
        "this node was excluded from the run: a verifier found that it had claimed what it had not computed (entry {penalty} of the ledger); {}",
        way_back(*may_return)
    )]
    Excluded {
        /// Ledger index of the penalty.
        penalty: u64,
        /// The round from which on it may join again.
        may_return: Option<u64>,
    },
    /// The key was rotated or revoked.
    #[error(
        "this node's key ends with entry {index} of the ledger; when that was not you, somebody else has it: talk with the run's operator"
    )]
    RetiredKey {
        /// Ledger index of the rotation or revocation.
        index: u64,
    },
    /// Every contribution would be found false.
    #[error(
        "the run's verification class is exact, so that only exact arithmetic is believed; leave out --arithmetic {arithmetic}"
    )]
    InexactArithmetic {
        /// What was asked for.
        arithmetic: Arithmetic,
    },
    /// This machine cannot compute so.
    #[error(transparent)]
    Arithmetic(#[from] Unavailable),
    /// The training thread died.
    #[error("the training thread panicked; the log of this process says where")]
    Panicked,
}

/// What the ledger asks of this node, and in which round.
fn asked(revealed: Option<u64>) -> impl Fn(&Follower) -> (Task, Option<u64>) {
    move |follower| {
        let round = follower.state().round().map(|round| round.open.round);
        (next_task(follower.state(), &follower.id(), revealed), round)
    }
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    follower: Follower,
    network: Network,
    store: BlobStore,
    inputs: Inputs,
    weights: Weights,
    pending: Pending,
    status: Status,
    status_path: PathBuf,
    recovery: Option<MemberId>,
    arithmetic: Arithmetic,
    draw_key: DrawKey,
    /// The last sealed round, and when this node first saw it sealed.
    sealed: Option<(u64, Instant)>,
    cheat: Option<Cheat>,
    previous: Previous,
    revealed: Option<u64>,
    /// The last round whose late work was told, or refused.
    late: Option<u64>,
    /// Blobs of past rounds, oldest first, to be dropped in time.
    kept: VecDeque<Vec<BlobRef>>,
    /// Traffic counters when the current round began.
    traffic_mark: (u64, u64),
}

impl Node {
    /// Opens the node's folder, starts its network and finds the run.
    ///
    /// # Errors
    ///
    /// [`NodeError`] when the folder is in use or damaged, an address is taken, or the run is another one.
    pub async fn start(options: Options) -> Result<Self, NodeError> {
        let key = keyfile::load_or_create(&options.dir.join("keys/node.key"))?;
        let store = BlobStore::open(&options.dir.join("store"))?;
        store.set_quota(options.disk_bytes)?;
        let config = options.network.for_member(&options.link, &options.dir);
        let (network, events) = talkoot_network::start(config, &key, store.clone()).await?;
        tracing::info!(member = %key.id().short(), "node is on the network");
        let ledger = options.dir.join("ledger");
        let draw_key = DrawKey::of(&key);
        let follower = Follower::start(network.clone(), events, key, options.link.run, &ledger).await?;
        let class = follower.state().manifest().terms.verification.class;
        if class == VerificationClass::Exact && options.arithmetic != Arithmetic::Exact {
            return Err(NodeError::InexactArithmetic { arithmetic: options.arithmetic });
        }
        chosen().offers(options.arithmetic)?;
        let trains_on = chosen().describe(options.arithmetic);
        tracing::info!(?class, %trains_on, "the run's verification class, and what trains in it");
        let inputs = Inputs::load(network.clone(), store.clone(), follower.state().manifest()).await?;
        let status = Status { member: follower.id().to_string(), trains_on, ..Status::default() };
        Ok(Self {
            weights: Weights::new(network.clone(), store.clone()),
            pending: Pending::new(options.dir.join("commit.pending")),
            status_path: options.dir.join("status.json"),
            recovery: options.recovery,
            arithmetic: options.arithmetic,
            draw_key,
            sealed: None,
            cheat: options.cheat,
            previous: None,
            revealed: None,
            late: None,
            kept: VecDeque::new(),
            traffic_mark: (0, 0),
            follower,
            network,
            store,
            inputs,
            status,
        })
    }

    /// Takes part until the run ends, the node is excluded, or `cancel` is triggered, upon which it leaves.
    ///
    /// # Errors
    ///
    /// [`NodeError`] when the node cannot go on.
    pub async fn run(mut self, cancel: CancellationToken) -> Result<(), NodeError> {
        let outcome = tokio::select! {
            biased;
            () = cancel.cancelled() => None,
            outcome = self.take_part() => Some(outcome),
        };
        if outcome.is_none() {
            self.follower.leave().await;
        }
        self.network.shutdown().await;
        outcome.unwrap_or(Ok(()))
    }

    fn me(&self) -> MemberId {
        self.follower.id()
    }

    async fn take_part(&mut self) -> Result<(), NodeError> {
        let mut training: Option<Training> = None;
        loop {
            self.follower.sync().await?;
            self.keep_own();
            let mut task = next_task(self.follower.state(), &self.me(), self.revealed);
            if task == Task::Wait && self.opening_is_due() {
                task = Task::Open;
            }
            if let Some(running) = &training {
                if self.round_number() != Some(running.round) {
                    tracing::warn!(round = running.round, "the run went on without this node");
                    running.stop();
                    training = None;
                } else if task != Task::Train && running.stop() {
                    tracing::warn!(
                        round = running.round,
                        "the round was sealed without this node; it keeps what it learnt"
                    );
                }
            }
            self.report_progress(training.as_ref())?;
            if training.is_none() && self.hand_in_late().await? {
                continue;
            }
            let stepped = match task {
                Task::Join => self.join().await?,
                Task::Train if training.is_none() => {
                    training = self.begin_training().await?;
                    training.is_some()
                }
                Task::Reveal => self.reveal()?,
                Task::Open => self.open().await,
                Task::Report => self.report().await?,
                Task::Stop => {
                    self.say("the run has ended")?;
                    return Ok(());
                }
                Task::Excluded { penalty, may_return } => {
                    return Err(NodeError::Excluded { penalty, may_return });
                }
                Task::Retired(index) => return Err(NodeError::RetiredKey { index }),
                Task::Train | Task::Wait => false,
            };
            if stepped {
                continue;
            }
            match &mut training {
                None => self.follower.wait().await,
                Some(running) => tokio::select! {
                    biased;
                    result = running.result() => {
                        training = None;
                        let result = result.ok_or(NodeError::Panicked)?.map_err(ReplicaError::from)?;
                        if let Some(trained) = result {
                            self.finish_training(trained).await?;
                        }
                    }
                    () = self.follower.wait() => {}
                },
            }
        }
    }

    /// Whatever the disk's quota says: what this node has to hand out in this round, and what its next one starts from.
    /// What it has not shown yet is kept anyway.
    fn keep_own(&self) {
        let (state, me) = (self.follower.state(), self.me());
        let feedback = state.members().get(&me).and_then(|member| member.feedback).map(|(_, blob)| blob);
        let commit = state.round().and_then(|round| round.commits.get(&me)).map(|record| &record.commit);
        let mine = commit.map(|commit| [commit.contribution, commit.trace, commit.feedback_out]);
        let blobs =
            mine.into_iter().flatten().chain(feedback).chain(commit.and_then(|commit| commit.feedback_in));
        self.store.pin("own work", blobs.map(|blob| blob.digest));
    }

    fn round_number(&self) -> Option<u64> {
        self.follower.state().round().map(|round| round.open.round)
    }

    async fn join(&mut self) -> Result<bool, NodeError> {
        self.say("joining the run")?;
        let canaries = self.follower.state().manifest().terms.verification.canaries.is_some();
        let join = Join {
            role: Role::Trainer,
            seen: self.follower.state().size(),
            draw_key: canaries.then(|| self.draw_key.public()),
            recovery: self.recovery,
        };
        match self.follower.submit(&Event::Join(join)).await {
            Submission::Accepted { index } => {
                tracing::info!(index, "joined the run");
                Ok(true)
            }
            Submission::Refused { reason } => {
                // The copy may only have been behind; refused again with nothing new is final.
                if self.follower.sync().await? > 0 {
                    return Ok(true);
                }
                Err(NodeError::NotAdmitted { reason })
            }
            Submission::Unreachable => Ok(false),
        }
    }

    /// Starts training for the open round, or hands in what was trained before a kill.
    async fn begin_training(&mut self) -> Result<Option<Training>, NodeError> {
        let me = self.me();
        let state = self.follower.state().clone();
        let Some(round) = state.round() else { return Ok(None) };
        self.new_round(&state);
        if let Some(commit) = self.pending.of_round(round.open.round)
            && commit.start_state == round.open.start_state.digest
            && self.holds(&commit)
        {
            tracing::info!(round = commit.round, "handing in what was trained before the restart");
            self.hand_in(commit).await?;
            return Ok(None);
        }
        let Some(work) = round.work_of(&me) else { return Ok(None) };
        self.say("fetching shards and weights")?;
        let manifest = state.manifest();
        // both may wait for ever: a state that nobody has any more, once the run has gone on
        let inputs = async {
            let packs = self.inputs.packs(manifest, round.open.stage, work).await?;
            let start = self.weights.at(round.open.start_state, self.inputs.config()).await?.clone();
            let precedent = self.inputs.precedent(round).await?;
            Ok::<_, ReplicaError>((packs, start, precedent))
        };
        let still = asked(self.revealed);
        let Some((packs, start, precedent)) = self.follower.while_unchanged(still, inputs).await? else {
            return Ok(None);
        };
        self.say("training")?;
        Ok(Some(Training::start(Assignment {
            manifest: manifest.clone(),
            config: self.inputs.config().clone(),
            round: round.clone(),
            work: work.clone(),
            start,
            packs,
            feedback_in: self.feedback(&state),
            precedent,
            arithmetic: self.arithmetic,
            canary: self.canary().map(|drawn| drawn.false_moments()),
            cheat: self.cheat,
            previous: self.previous.clone(),
        })))
    }

    /// The error-feedback buffer to go on from. A lost buffer is no reason to stop: the round starts from zero.
    fn feedback(&self, state: &RunState) -> Option<(BlobRef, Vec<u8>)> {
        let (stage, blob) = state.members().get(&self.me())?.feedback?;
        if stage != state.round()?.open.stage {
            return None;
        }
        match self.store.read(&blob.digest, blob.bytes.min(MAX_FEEDBACK_BYTES)) {
            Ok(bytes) => Some((blob, bytes)),
            Err(error) => {
                tracing::warn!(%error, "the error-feedback buffer is lost; starting from zero");
                None
            }
        }
    }

    fn holds(&self, commit: &Commit) -> bool {
        [commit.contribution, commit.trace, commit.feedback_out]
            .iter()
            .all(|blob| self.store.contains(&blob.digest))
    }

    async fn finish_training(&mut self, trained: Trained) -> Result<(), NodeError> {
        let Trained { executed, commit } = trained;
        let trace = executed.trace.to_bytes();
        for bytes in [&executed.contribution, &trace, &executed.feedback_out] {
            self.store.put_hidden(bytes)?;
        }
        let path = self.status_path.with_file_name("commit.pending");
        self.pending.keep(&commit).map_err(|source| NodeError::Io { path, source })?;
        self.previous = Some((executed.contribution, executed.trace));
        if self.awaits(commit.round) { self.hand_in(commit).await } else { Ok(()) }
    }

    /// Whether the run waits for this node's commit to a round.
    fn awaits(&self, round: u64) -> bool {
        let task = next_task(self.follower.state(), &self.me(), self.revealed);
        task == Task::Train && self.round_number() == Some(round)
    }

    /// The commit that missed the seal of the current round, if there is one that has not been told yet.
    fn late_commit(&self) -> Option<Commit> {
        let (state, me) = (self.follower.state(), self.me());
        let round = state.round()?;
        let number = round.open.round;
        let told =
            round.commits.contains_key(&me) || round.late.contains_key(&me) || self.late == Some(number);
        if !matches!(state.phase(), Phase::Sealed | Phase::Closed) || told || round.work_of(&me).is_none() {
            return None;
        }
        // A canary is a lie: nobody may go on from it.
        self.pending.of_round(number).filter(|commit| self.holds(commit) && self.canary().is_none())
    }

    /// Tells that a commit missed the seal, with the buffer that keeps what it would have sent. Whether there was one.
    async fn hand_in_late(&mut self) -> Result<bool, NodeError> {
        let Some(commit) = self.late_commit() else { return Ok(false) };
        let Some(round) = self.follower.state().round() else { return Ok(false) };
        let (number, stage) = (round.open.round, round.open.stage);
        self.say("keeping what came too late")?;
        let (manifest, config) = (self.follower.state().manifest().clone(), self.inputs.config().clone());
        let store = self.store.clone();
        let work = commit.clone();
        let restored = tokio::task::spawn_blocking(move || -> Result<BlobRef, ReplicaError> {
            let read = |blob: BlobRef| store.read(&blob.digest, blob.bytes);
            let (feedback, contribution) = (read(work.feedback_out)?, read(work.contribution)?);
            Ok(store.put(&restore(&manifest, &config, stage, &feedback, &contribution)?)?)
        });
        let restored = restored.await.map_err(|_| NodeError::Panicked)??;
        let blobs = vec![commit.contribution, commit.trace, commit.feedback_out, restored];
        for blob in &blobs {
            self.store.reveal(&blob.digest)?;
        }
        let late = Event::Late(Box::new(Late { commit, restored }));
        match self.follower.submit(&late).await {
            Submission::Accepted { index } => {
                tracing::info!(index, round = number, "what came too late is kept for the next round");
                self.late = Some(number);
                self.status.late += 1;
                self.kept.push_back(blobs);
            }
            Submission::Refused { reason } => {
                // the copy may only have been behind: the run has gone on, or the commit was taken after all
                tracing::warn!(reason, "what came too late is lost");
                self.late = Some(number);
            }
            Submission::Unreachable => self.follower.wait().await,
        }
        Ok(true)
    }

    /// Hands a commit in, again and again while the coordinator is away, until it is taken or the round is over.
    async fn hand_in(&mut self, commit: Commit) -> Result<(), NodeError> {
        self.say("handing in the commit")?;
        let event = Event::Commit(commit.clone());
        loop {
            match self.follower.submit(&event).await {
                Submission::Accepted { index } => {
                    tracing::info!(index, round = commit.round, "commit is in the ledger");
                    self.status.commits += 1;
                    if let Some(traffic) = self.status.rounds.last_mut() {
                        traffic.contribution_bytes = commit.contribution.bytes;
                    }
                    let blobs = vec![commit.contribution, commit.trace, commit.feedback_out];
                    self.kept.push_back(blobs);
                    return Ok(());
                }
                Submission::Refused { reason } => tracing::warn!(reason, "commit refused"),
                Submission::Unreachable => tracing::info!("the coordinator is away; the commit waits"),
            }
            self.follower.wait().await;
            self.follower.sync().await?;
            if !self.awaits(commit.round) {
                return Ok(());
            }
        }
    }

    fn reveal(&mut self) -> Result<bool, NodeError> {
        let me = self.me();
        let Some(round) = self.follower.state().round() else { return Ok(false) };
        let number = round.open.round;
        if let Some(record) = round.commits.get(&me) {
            let commit = &record.commit;
            for blob in [commit.contribution, commit.trace, commit.feedback_out] {
                if self.store.contains(&blob.digest) {
                    self.store.reveal(&blob.digest)?;
                }
            }
        }
        self.revealed = Some(number);
        self.say("waiting for verdicts")?;
        Ok(true)
    }

    /// What this node drew for the current round, when its commit is to be a canary.
    fn canary(&self) -> Option<Drawn> {
        let state = self.follower.state();
        let rate = state.manifest().terms.verification.canaries?;
        let draw = state.canary_draw()?;
        let drawn = draw.check(&self.draw_key.public(), &draw.prove(&self.draw_key)).ok()?;
        drawn.is_canary(rate.get()).then_some(drawn)
    }

    /// Whether verifiers have had their time, so that the commit may be opened whatever they still owe.
    fn opening_is_due(&mut self) -> bool {
        let state = self.follower.state();
        let Some(round) = state.round().filter(|_| state.phase() == Phase::Sealed) else { return false };
        let number = round.open.round;
        let now = Instant::now();
        let since = match self.sealed {
            Some((sealed, since)) if sealed == number => since,
            _ => now,
        };
        let patience = u64::from(state.manifest().terms.deadlines.verification_s);
        let due = state.unopened().contains(&self.me()) && now - since >= Duration::from_secs(patience);
        self.sealed = Some((number, since));
        due
    }

    /// Shows whether the commit was a canary. Whether that was taken.
    async fn open(&self) -> bool {
        let Some(draw) = self.follower.state().canary_draw() else { return false };
        let opening = Opening { round: draw.round, proof: draw.prove(&self.draw_key) };
        match self.follower.submit(&Event::Opening(opening)).await {
            Submission::Accepted { index } => {
                tracing::info!(index, round = draw.round, canary = self.canary().is_some(), "commit opened");
                true
            }
            Submission::Refused { reason } => {
                tracing::info!(reason, "the opening was not taken yet");
                false
            }
            Submission::Unreachable => false,
        }
    }

    async fn report(&mut self) -> Result<bool, NodeError> {
        self.say("computing the next state")?;
        let state = self.follower.state().clone();
        let Some(round) = state.round() else { return Ok(false) };
        let next = self.weights.advance(state.manifest(), self.inputs.config(), round);
        let Some(next) = self.follower.while_unchanged(asked(self.revealed), next).await? else {
            return Ok(false);
        };
        self.status.state = next.digest.to_string();
        let outcome = Event::Outcome(Outcome { round: round.open.round, state: next });
        match self.follower.submit(&outcome).await {
            Submission::Accepted { .. } => {
                tracing::info!(round = round.open.round, state = %next.digest.short(), "next state reported");
            }
            Submission::Refused { reason } => {
                // Others were quicker, and the run has gone on.
                tracing::info!(reason, "the next state was not taken");
                self.follower.wait().await;
            }
            Submission::Unreachable => self.follower.wait().await,
        }
        Ok(true)
    }

    /// Books a new round's traffic and drops blobs that nobody will ask for any more.
    fn new_round(&mut self, state: &RunState) {
        let Some(round) = state.round() else { return };
        if self.status.round == Some(round.open.round) {
            return;
        }
        self.book_traffic();
        self.status.round = Some(round.open.round);
        self.status.rounds.push(RoundTraffic { round: round.open.round, ..RoundTraffic::default() });
        if let Some((stage, _)) = state.manifest().stage(round.open.stage) {
            self.status.stage.clone_from(&stage.name);
        }
        let needed = state.members().get(&self.me()).and_then(|member| member.feedback);
        while self.kept.len() > ROUNDS_KEPT {
            for blob in self.kept.pop_front().into_iter().flatten() {
                if needed.is_none_or(|(_, feedback)| feedback != blob)
                    && let Err(error) = self.store.remove(&blob.digest)
                {
                    tracing::warn!(%error, "an old blob was not removed");
                }
            }
        }
    }

    fn book_traffic(&mut self) {
        let traffic = self.network.bytes();
        let (sent, received) =
            (traffic.control_sent + traffic.bulk_sent, traffic.control_received + traffic.bulk_received);
        if let Some(round) = self.status.rounds.last_mut() {
            round.sent_bytes += sent.saturating_sub(self.traffic_mark.0);
            round.received_bytes += received.saturating_sub(self.traffic_mark.1);
        }
        self.traffic_mark = (sent, received);
    }

    fn report_progress(&mut self, training: Option<&Training>) -> Result<(), NodeError> {
        self.book_traffic();
        let (reach, ways) = (*self.network.reach().borrow(), self.network.ways().borrow().clone());
        self.status.reachability = reach.reachability.to_string();
        // a GPU may have been lost
        self.status.trains_on = chosen().describe(self.arithmetic);
        self.status.relays = reach.relays;
        self.status.alarm = self.follower.alarm().map(ToString::to_string);
        self.status.peers = self.network.connected().len();
        (self.status.punched, self.status.unreachable) = (ways.punched.len(), ways.unreachable.len());
        if let Some(training) = training {
            let (step, loss) = training.progress();
            self.status.step = step;
            self.status.steps = training.steps;
            self.status.loss = loss.or(self.status.loss);
        }
        self.write_status()
    }

    fn say(&mut self, doing: &str) -> Result<(), NodeError> {
        if self.status.doing != doing {
            doing.clone_into(&mut self.status.doing);
            self.write_status()?;
        }
        Ok(())
    }

    fn write_status(&self) -> Result<(), NodeError> {
        let path: &Path = &self.status_path;
        self.status.write(path).map_err(|source| NodeError::Io { path: path.to_owned(), source })
    }
}

/// What a donor can do who was excluded, and most likely did not lie.
fn way_back(may_return: Option<u64>) -> String {
    match may_return {
        Some(round) => format!(
            "if it was no lie, test this machine's memory and graphics card, and start the node again when round {round} has come"
        ),
        None => "it cannot come back to this run".to_owned(),
    }
}
