//! What a verifier does about a failure: it keeps the evidence of its own, and settles those of others by a step.

use std::time::Duration;

use talkoot_execution::{Arithmetic, Job};
use talkoot_network::Urgency;
use talkoot_protocol::{
    assignment::Work,
    digest::BlobRef,
    entry::Statement,
    event::{Commit, Divergence, Event, Finding, Verdict},
    identity::MemberId,
    run::{CommitRecord, Round},
};
use talkoot_replica::ReplicaError;
use talkoot_trainer::snapshot::Snapshot;

use super::{Verifier, VerifierError};
use crate::dispute::{self, Accounts, Case, Evidence, Question, Ruling};

/// Share of the manifest's verification deadline that a settlement waits for one blob; then the whole is replayed.
const PATIENCE: f64 = 0.1;

impl Verifier {
    /// Publishes what only this verifier has, and keeps a bundle by which anybody can judge `verdict`. Without one the verdict
    /// stands as well.
    pub(super) async fn keep_evidence(&self, verdict: &Verdict, evidence: Evidence) {
        let place = (verdict.round, verdict.commit);
        let event = Event::Verdict(verdict.clone());
        let statement = Statement::sign(self.follower.state().run(), self.follower.key(), &event).to_bytes();
        let (folder, ledger) = (self.dir.join("disputes"), self.follower.ledger().to_owned());
        let store = self.store.clone();
        let kept = tokio::task::spawn_blocking(move || {
            let mut own = Vec::new();
            for bytes in &evidence.published {
                own.push(store.put(bytes).map_err(std::io::Error::other)?.digest);
            }
            store.pin("evidence", own);
            dispute::keep(&folder, place, &ledger, &statement, &evidence, &store)
        });
        match kept.await {
            Ok(Ok(path)) => {
                tracing::info!(path = %path.display(), "evidence is kept; `talkoot audit --dispute` judges it");
            }
            Ok(Err(error)) => tracing::warn!(%error, "no evidence is kept"),
            Err(error) => tracing::warn!(%error, "no evidence is kept"),
        }
    }

    /// What another's accusation comes to, found by executing what the two disagree on. None when that does not show that the
    /// member lied: only a whole replay can acquit, as accuser and member may agree on a lie that came before.
    ///
    /// # Errors
    ///
    /// [`VerifierError`] when the ledger cannot be followed or the store fails.
    pub(super) async fn settle(
        &mut self,
        round: &Round,
        member: MemberId,
        record: &CommitRecord,
    ) -> Result<Option<Finding>, VerifierError> {
        let me = self.follower.id();
        let drawn = round.draws.get(&me).is_some_and(|draws| draws.contains(&record.index));
        let accusation = round.verdicts.iter().find_map(|verdict| match &verdict.finding {
            Finding::Fail(accusation) if verdict.commit == record.index && accusation.trace.is_some() => {
                Some((verdict.verifier, accusation.clone()))
            }
            _ => None,
        });
        let Some((accuser, accusation)) = accusation.filter(|_| !drawn) else { return Ok(None) };
        let Some(ruling) = self.rule(round, member, &record.commit, accuser, &accusation).await? else {
            return Ok(None);
        };
        tracing::info!(member = %member.short(), accuser = %accuser.short(), ?ruling, "an accusation is settled by a step");
        Ok(ruling.confirms(&accusation))
    }

    async fn rule(
        &mut self,
        round: &Round,
        member: MemberId,
        commit: &Commit,
        accuser: MemberId,
        accusation: &Divergence,
    ) -> Result<Option<Ruling>, VerifierError> {
        let manifest = self.follower.state().manifest().clone();
        let Some(counterclaim) = accusation.trace else { return Ok(None) };
        let Some(claimed) = self.soon(commit.trace, member).await? else { return Ok(None) };
        let Some(replayed) = self.soon(counterclaim, accuser).await? else { return Ok(None) };
        let accounts = Accounts {
            commit: commit.clone(),
            claimed,
            accusation: accusation.clone(),
            replayed: Some(replayed),
            interval: manifest.terms.verification.digest_interval(),
        };
        let Ok(question) = accounts.question() else { return Ok(None) };
        let config = self.inputs.config().clone();
        let Some((stage, _)) = manifest.stage(round.open.stage) else { return Ok(None) };
        let Ok(layout) = talkoot_execution::layout_of(&config, stage) else { return Ok(None) };
        let mut state = None;
        if let Some(digest) = accounts.agreed_state(&question) {
            let blob = BlobRef { digest, bytes: Snapshot::bytes_of(&layout) };
            let Some(bytes) = self.soon(blob, accuser).await? else { return Ok(None) };
            let Ok(snapshot) = Snapshot::from_bytes(&bytes, &layout) else { return Ok(None) };
            state = Some(snapshot);
        }
        let mut feedback_in = None;
        if let Some(blob) = commit.feedback_in.filter(|_| question.needs_feedback()) {
            let Some(bytes) = self.soon(blob, member).await? else { return Ok(None) };
            feedback_in = Some(bytes);
        }
        let Some(work) = round.work_of(&member).cloned() else { return Ok(None) };
        let needed =
            Work { steps: work.steps.get(question.steps()).unwrap_or_default().to_vec(), ..work.clone() };
        let inputs = async {
            let packs = self.inputs.packs(&manifest, round.open.stage, &needed).await?;
            let start = self.weights.at(round.open.start_state, self.inputs.config()).await?.clone();
            let precedent = match question {
                Question::Steps { agreed: None, .. } => self.inputs.precedent(round).await?,
                _ => Vec::new(),
            };
            Ok::<_, ReplicaError>((packs, start, precedent))
        };
        let inputs = self.follower.while_unchanged(super::round_of, inputs).await;
        let Ok(Some((packs, start, precedent))) = inputs else { return Ok(None) };
        let round = round.clone();
        let judged = tokio::task::spawn_blocking(move || {
            let job = Job {
                manifest: &manifest,
                config: &config,
                round: &round,
                work: &work,
                steps: accounts.commit.steps,
                start: &start,
                feedback_in: feedback_in.as_deref(),
                precedent: &precedent,
                arithmetic: Arithmetic::Exact,
            };
            let packs = packs.as_ref();
            Case { job, packs, accounts: &accounts, state: state.as_ref() }.judge(&question)
        });
        Ok(judged
            .await
            .map_err(|_| VerifierError::Panicked)?
            .inspect_err(|error| {
                tracing::warn!(%error, "a dispute cannot be settled by a step");
            })
            .ok())
    }

    /// A blob that one member has, when it comes soon.
    async fn soon(&self, blob: BlobRef, holder: MemberId) -> Result<Option<Vec<u8>>, VerifierError> {
        let deadline = f64::from(self.follower.state().manifest().terms.deadlines.verification_s);
        let holders = [holder];
        let fetch = self.network.fetch_from(blob, &holders, Urgency::Now);
        match tokio::time::timeout(Duration::from_secs_f64(deadline * PATIENCE), fetch).await {
            Ok(Ok(())) => Ok(Some(self.store.read(&blob.digest, blob.bytes)?)),
            Ok(Err(_)) | Err(_) => Ok(None),
        }
    }
}
