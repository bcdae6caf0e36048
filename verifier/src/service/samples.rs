//! A look at contributions that the draw leaves alone: some chunks of error feedback, from the members that made it.

use std::{ops::Range, time::Duration};

use talkoot_execution::{Sample, Sampling};
use talkoot_network::{RangesError, Urgency};
use talkoot_protocol::{
    challenge::{Draw, DrawProof},
    digest::BlobRef,
    event::{DivergentPart, Event, Verdict},
    identity::MemberId,
    run::{CommitRecord, Round},
};
use talkoot_trainer::state::State;

use super::{Verifier, VerifierError};
use crate::replay::disproved;

/// Chunks that are looked at of every contribution.
const CHUNKS: u32 = 8;

/// Share of the manifest's verification deadline that all looks of a round may take together: replays need the rest.
const PATIENCE: f64 = 0.2;

/// Pause before a member is asked again for what it does not show yet.
const AGAIN: Duration = Duration::from_millis(300);

impl Verifier {
    /// Looks at the sealed contributions that `proof` does not draw, and accuses those that are no encoder's work. Before the draw
    /// is told: until then the round waits for this verifier.
    ///
    /// Which chunks is as unforeseeable as the draw, as it follows from it. What does not come in time is left alone.
    ///
    /// # Errors
    ///
    /// [`VerifierError`] when the ledger cannot be followed.
    pub(super) async fn sample(&mut self, proof: &DrawProof) -> Result<(), VerifierError> {
        let state = self.follower.state().clone();
        let me = self.follower.id();
        let Ok((draw, drawn)) = state.draws_of(&me, proof) else { return Ok(()) };
        let Some(round) = state.round() else { return Ok(()) };
        let said = |index: u64| {
            round.verdicts.iter().any(|verdict| verdict.verifier == me && verdict.commit == index)
        };
        let left =
            round.commits.iter().filter(|(_, record)| !drawn.contains(&record.index) && !said(record.index));
        let left: Vec<(&MemberId, &CommitRecord)> = left.collect();
        if left.is_empty() {
            return Ok(());
        }
        let patience = f64::from(state.manifest().terms.deadlines.verification_s) * PATIENCE;
        let start = self.weights.at(round.open.start_state, self.inputs.config());
        let Ok(Ok(start)) = tokio::time::timeout(Duration::from_secs_f64(patience), start).await else {
            return Ok(());
        };
        let start = start.clone();
        let number = round.open.round;
        let patience = Duration::from_secs_f64(patience / left.len() as f64);
        for (member, record) in left {
            let look = self.look(round, &draw, *member, record, &start);
            match tokio::time::timeout(patience, look).await {
                Ok(Ok(None)) => {
                    tracing::info!(round = number, member = %member.short(), "samples of the error feedback may be honest work");
                }
                Ok(Ok(Some(reason))) => {
                    tracing::warn!(round = number, member = %member.short(), reason, "samples of the error feedback disprove the contribution");
                    let finding = disproved(DivergentPart::Codec, &record.commit);
                    let verdict = Verdict { round: number, commit: record.index, finding, deviation: None };
                    self.taken(&Event::Verdict(verdict)).await;
                }
                Ok(Err(reason)) => {
                    tracing::info!(round = number, member = %member.short(), reason, "no samples of the error feedback");
                }
                Err(_) => {
                    tracing::info!(round = number, member = %member.short(), "samples of the error feedback did not come in time");
                }
            }
        }
        Ok(())
    }

    /// What samples of one contribution disprove, in words.
    async fn look(
        &self,
        round: &Round,
        draw: &Draw,
        member: MemberId,
        record: &CommitRecord,
        start: &State,
    ) -> Result<Option<String>, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let (manifest, config) = (self.follower.state().manifest(), self.inputs.config());
        let commit = &record.commit;
        let sampling = Sampling { manifest, config, round, start, commit };
        if !sampling.lengths_fit().map_err(|error| text(&error))? {
            return Ok(Some("a buffer that it names has not the length of an error feedback".to_owned()));
        }
        let chunks = sampling.chunks().map_err(|error| text(&error))?;
        let mut numbers: Vec<u64> = (0..CHUNKS).map(|at| draw.sample(record.index, at, chunks)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let mut places = Vec::with_capacity(numbers.len());
        for chunk in &numbers {
            places.extend(sampling.place(*chunk).map_err(|error| text(&error))?);
        }
        let after = self.stretches(commit.feedback_out, &places, member).await?;
        let before = match commit.feedback_in {
            Some(blob) => self.stretches(blob, &places, member).await?.into_iter().map(Some).collect(),
            None => vec![None; after.len()],
        };
        let contribution = commit.contribution;
        let holders = [member];
        let fetched = self.network.fetch_from(contribution, &holders, Urgency::Now).await;
        fetched.map_err(|error| text(&error))?;
        let contribution =
            self.store.read(&contribution.digest, contribution.bytes).map_err(|error| text(&error))?;
        let samples = numbers.into_iter().zip(before).zip(after);
        let samples: Vec<Sample> =
            samples.map(|((chunk, before), after)| Sample { chunk, before, after }).collect();
        sampling.look(&contribution, &samples).map_err(|error| text(&error))
    }

    /// Stretches of a blob, asked for again until they come: a member shows its blobs when it has heard of the seal.
    async fn stretches(
        &self,
        blob: BlobRef,
        places: &[Range<u64>],
        member: MemberId,
    ) -> Result<Vec<Vec<u8>>, String> {
        loop {
            match self.network.fetch_ranges(blob, places, member).await {
                Ok(stretches) => return Ok(stretches),
                Err(RangesError::Unavailable { .. }) => tokio::time::sleep(AGAIN).await,
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}
