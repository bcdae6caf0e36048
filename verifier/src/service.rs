//! The verifier's process.

mod disputes;
mod samples;

use std::{path::PathBuf, time::Duration};

use talkoot_execution::{Distances, ExecutionError};
use talkoot_network::{
    BlobStore, FetchError, Network, NetworkConfig, NetworkError, StoreError, Urgency,
    keyfile::{self, KeyFileError},
};
use talkoot_protocol::{
    challenge::DrawKey,
    digest::BlobRef,
    event::{
        Challenge, Commit, Deviation, DivergentPart, Event, Finding, Join, Obstacle, Outcome, Role, Verdict,
    },
    identity::MemberId,
    link::JoinLink,
    manifest::Manifest,
    run::{CommitRecord, Member, Phase, Round},
};
use talkoot_replica::{Follower, Inputs, ReplicaError, Submission, Weights};
use tokio_util::sync::CancellationToken;

use crate::{
    cheat::Cheat,
    dispute::Evidence,
    replay::{Replay, Replayed, disproved, needs_learnt},
};

/// Share of the manifest's verification deadline after which a blob that a member does not hand out counts as
/// withheld: the verdict has to reach the log before the deadline.
const WITHHELD_AFTER: f64 = 0.5;

/// How a verifier takes part.
#[derive(Debug, Clone)]
pub struct Options {
    /// The verifier's folder: key, copy of the ledger, blobs.
    pub dir: PathBuf,
    /// The run, and where it is met.
    pub link: JoinLink,
    /// Where to listen, how to meet others besides through the link, and what is given of the line.
    pub network: NetworkConfig,
    /// Most bytes that the blobs may take of the disk; only the disk limits them when left out.
    pub disk_bytes: Option<u64>,
    /// A lie to rehearse.
    pub cheat: Option<Cheat>,
    /// A key kept elsewhere that may revoke or replace this verifier's; named when it joins, and not changed later.
    pub recovery: Option<MemberId>,
}

/// Why a verifier stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifierError {
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
    /// The run refuses this key.
    #[error("the run does not take this verifier: {reason}")]
    NotAdmitted {
        /// Why.
        reason: String,
    },
    /// The replay thread died.
    #[error("the replay thread panicked; the log of this process says where")]
    Panicked,
}

/// A running verifier.
#[derive(Debug)]
pub struct Verifier {
    follower: Follower,
    network: Network,
    store: BlobStore,
    inputs: Inputs,
    weights: Weights,
    draw_key: DrawKey,
    dir: PathBuf,
    cheat: Option<Cheat>,
    recovery: Option<MemberId>,
}

/// What a verifier found, and what shows it to others.
type Found = (Finding, Option<Evidence>, Option<Deviation>);

/// The round that the ledger is at.
fn round_of(follower: &Follower) -> Option<u64> {
    follower.state().round().map(|round| round.open.round)
}

/// How far it is said to have been by who did not look.
fn stamped(manifest: &Manifest) -> Option<Deviation> {
    needs_learnt(manifest).then(|| Distances::default().in_millionths())
}

/// What a verifier has to do next.
enum Duty {
    Join,
    Draw,
    Check(u64),
    Report,
    Wait,
    Stop,
}

impl Verifier {
    /// Opens the verifier's folder, starts its network and finds the run.
    ///
    /// # Errors
    ///
    /// [`VerifierError`] when the folder is in use or damaged, an address is taken, or the run is another one.
    pub async fn start(options: Options) -> Result<Self, VerifierError> {
        let key = keyfile::load_or_create(&options.dir.join("keys/verifier.key"))?;
        let store = BlobStore::open(&options.dir.join("store"))?;
        store.set_quota(options.disk_bytes)?;
        let config = options.network.for_member(&options.link, &options.dir);
        let (network, events) = talkoot_network::start(config, &key, store.clone()).await?;
        let draw_key = DrawKey::of(&key);
        let ledger = options.dir.join("ledger");
        let follower = Follower::start(network.clone(), events, key, options.link.run, &ledger).await?;
        let inputs = Inputs::load(network.clone(), store.clone(), follower.state().manifest()).await?;
        Ok(Self {
            weights: Weights::new(network.clone(), store.clone()),
            follower,
            network,
            store,
            inputs,
            draw_key,
            dir: options.dir,
            cheat: options.cheat,
            recovery: options.recovery,
        })
    }

    /// Verifies until the run ends or `cancel` is triggered, upon which it leaves.
    ///
    /// # Errors
    ///
    /// [`VerifierError`] when the verifier cannot go on.
    pub async fn run(mut self, cancel: CancellationToken) -> Result<(), VerifierError> {
        let outcome = tokio::select! {
            biased;
            () = cancel.cancelled() => None,
            outcome = self.verify() => Some(outcome),
        };
        if outcome.is_none() {
            self.follower.leave().await;
        }
        self.network.shutdown().await;
        outcome.unwrap_or(Ok(()))
    }

    fn duty(&self) -> Duty {
        let state = self.follower.state();
        let me = self.follower.id();
        if state.phase() == Phase::Ended {
            return Duty::Stop;
        }
        if !state.members().get(&me).is_some_and(Member::is_active) {
            return Duty::Join;
        }
        let Some(round) = state.round() else { return Duty::Wait };
        match state.phase() {
            Phase::Sealed if !round.draws.contains_key(&me) => Duty::Draw,
            Phase::Sealed | Phase::Closed if !round.open_checks(&me).is_empty() => {
                Duty::Check(round.open_checks(&me)[0])
            }
            Phase::Closed if !round.outcomes.contains_key(&me) && !round.included().is_empty() => {
                Duty::Report
            }
            _ => Duty::Wait,
        }
    }

    async fn verify(&mut self) -> Result<(), VerifierError> {
        loop {
            self.follower.sync().await?;
            let done = match self.duty() {
                Duty::Join => self.join().await?,
                Duty::Draw => Box::pin(self.draw()).await?,
                Duty::Check(commit) => self.check(commit).await?,
                Duty::Report => self.report().await?,
                Duty::Wait => false,
                Duty::Stop => return Ok(()),
            };
            if !done {
                self.follower.wait().await;
            }
        }
    }

    async fn join(&mut self) -> Result<bool, VerifierError> {
        let draw_key = Some(self.draw_key.public());
        let join = Join {
            role: Role::Verifier,
            seen: self.follower.state().size(),
            draw_key,
            recovery: self.recovery,
        };
        match self.follower.submit(&Event::Join(join)).await {
            Submission::Accepted { .. } => Ok(true),
            Submission::Refused { reason } => {
                // The copy may only have been behind; refused again with nothing new is final.
                if self.follower.sync().await? > 0 {
                    return Ok(true);
                }
                Err(VerifierError::NotAdmitted { reason })
            }
            Submission::Unreachable => Ok(false),
        }
    }

    async fn draw(&mut self) -> Result<bool, VerifierError> {
        let Some(log) = self.follower.state().sealed_log() else { return Ok(false) };
        let proof = self.draw_key.draw(&log);
        self.sample(&proof).await?;
        Ok(self.taken(&Event::Challenge(Challenge { round: log.round, proof })).await)
    }

    async fn taken(&self, event: &Event) -> bool {
        match self.follower.submit(event).await {
            Submission::Accepted { index } => {
                tracing::info!(index, kind = event.kind(), "entry");
                true
            }
            Submission::Refused { reason } => {
                tracing::warn!(kind = event.kind(), reason, "not taken");
                false
            }
            Submission::Unreachable => false,
        }
    }

    async fn check(&mut self, index: u64) -> Result<bool, VerifierError> {
        let state = self.follower.state().clone();
        let Some(round) = state.round() else { return Ok(false) };
        let Some((member, record)) = round.commit_at(index) else { return Ok(false) };
        tracing::info!(round = round.open.round, member = %member.short(), "replaying");
        let (finding, evidence, deviation) = if self.cheat == Some(Cheat::Stamp) {
            (Finding::Pass, None, stamped(state.manifest()))
        } else {
            match Box::pin(self.settle(round, *member, record)).await? {
                Some(finding) => (finding, None, None),
                None => self.find(round, *member, record).await?,
            }
        };
        tracing::info!(round = round.open.round, member = %member.short(), ?finding, ?deviation, "replayed");
        let verdict = Verdict { round: round.open.round, commit: index, finding, deviation };
        if let Some(evidence) = evidence {
            self.keep_evidence(&verdict, evidence).await;
        }
        Ok(self.taken(&Event::Verdict(verdict)).await)
    }

    /// Replays a commit, and before it the late work whose buffer it starts from: whoever answers for the one answers for the
    /// other.
    async fn find(
        &mut self,
        round: &Round,
        member: MemberId,
        record: &CommitRecord,
    ) -> Result<Found, VerifierError> {
        if let Some(late) = &record.late {
            let found = self.find_one(&late.round, member, &late.commit, Some(late.restored)).await?;
            if found.0 != Finding::Pass {
                tracing::warn!(member = %member.short(), index = late.index, finding = ?found.0, "late work is not what it was said to be");
                return Ok(found);
            }
        }
        self.find_one(round, member, &record.commit, None).await
    }

    async fn find_one(
        &mut self,
        round: &Round,
        member: MemberId,
        commit: &Commit,
        restored: Option<BlobRef>,
    ) -> Result<Found, VerifierError> {
        let bare = |finding| Ok((finding, None, None));
        let unavailable = Finding::Inconclusive(Obstacle::InputsUnavailable);
        let manifest = self.follower.state().manifest().clone();
        // What the member itself has to hand out: when it does not, that is its fault.
        let patience = f64::from(manifest.terms.deadlines.verification_s) * WITHHELD_AFTER;
        let learnt = needs_learnt(&manifest);
        let after = learnt.then_some(commit.feedback_out);
        let mine = [Some(commit.contribution), Some(commit.trace), commit.feedback_in, after];
        self.store.pin("replay", mine.iter().flatten().map(|blob| blob.digest));
        let holder = [member];
        for blob in mine.into_iter().flatten() {
            let fetch = self.network.fetch_from(blob, &holder, Urgency::Now);
            match tokio::time::timeout(Duration::from_secs_f64(patience), fetch).await {
                Ok(Ok(())) => {}
                // Its own doing: the blob is not as long as it said.
                Ok(Err(error @ (FetchError::SizeMismatch { .. } | FetchError::TooLarge { .. }))) => {
                    tracing::warn!(member = %member.short(), %error, "a committed blob is refused");
                    return bare(disproved(DivergentPart::Malformed, commit));
                }
                // The verifier's own trouble: a full disk, say.
                Ok(Err(error)) => return Err(ReplicaError::from(error).into()),
                // Only somebody whom the coordinator reaches and this verifier reaches too can be said to withhold.
                Err(_) if self.hears(&member) => return bare(disproved(DivergentPart::Withheld, commit)),
                Err(_) => return bare(unavailable),
            }
        }
        let Some(work) = round.work_of(&member) else {
            return bare(unavailable);
        };
        // What everybody has: when it cannot be had, nobody is blamed.
        let inputs = async {
            let packs = self.inputs.packs(&manifest, round.open.stage, work).await?;
            let start = self.weights.at(round.open.start_state, self.inputs.config()).await?.clone();
            let precedent = self.inputs.precedent(round).await?;
            Ok::<_, ReplicaError>((packs, start, precedent))
        };
        let (packs, start, precedent) = match self.follower.while_unchanged(round_of, inputs).await {
            Ok(Some(inputs)) => inputs,
            Ok(None) => return bare(unavailable),
            Err(error) => {
                tracing::warn!(%error, "a replay lacks its inputs");
                return bare(unavailable);
            }
        };
        let read = |blob: BlobRef| self.store.read(&blob.digest, blob.bytes);
        let replay = Replay {
            config: self.inputs.config().clone(),
            round: round.clone(),
            work: work.clone(),
            start,
            packs,
            trace: read(commit.trace)?,
            learnt: if learnt {
                Some((read(commit.contribution)?, read(commit.feedback_out)?))
            } else {
                None
            },
            feedback_in: commit.feedback_in.map(read).transpose()?,
            precedent,
            commit: commit.clone(),
            restored,
            manifest,
        };
        let cheat = self.cheat;
        let found = tokio::task::spawn_blocking(move || {
            let Replayed { finding, deviation, trace } = replay.run_as(cheat)?;
            let evidence = match &finding {
                // late work is not what the verdict is about, and of the class fast no step settles anything
                Finding::Fail(accusation) if replay.restored.is_none() && !needs_learnt(&replay.manifest) => {
                    Evidence::gather(&replay, accusation, trace.as_ref())?
                }
                _ => None,
            };
            Ok::<_, ExecutionError>((finding, evidence, deviation))
        });
        let found = found.await.map_err(|_| VerifierError::Panicked)?;
        found.or_else(|error| {
            tracing::warn!(%error, "a replay failed");
            bare(unavailable)
        })
    }

    /// Whether this verifier is connected with the member and with the coordinator at this moment.
    fn hears(&self, member: &MemberId) -> bool {
        let connected = self.network.connected();
        connected.contains(member) && connected.contains(&self.follower.coordinator())
    }

    async fn report(&mut self) -> Result<bool, VerifierError> {
        let state = self.follower.state().clone();
        let Some(round) = state.round() else { return Ok(false) };
        let next = self.weights.advance(state.manifest(), self.inputs.config(), round);
        let Some(next) = self.follower.while_unchanged(round_of, next).await? else { return Ok(true) };
        Ok(self.taken(&Event::Outcome(Outcome { round: round.open.round, state: next })).await)
    }
}
