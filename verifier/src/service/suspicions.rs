//! Cheap signals about contributions that the draw leaves alone: what is odd is executed again.

use std::{sync::Arc, time::Duration};

use talkoot_execution::{ExecutionError, Look, Signals};
use talkoot_protocol::{
    assignment::Work,
    event::{Event, Signal, Suspicion},
    identity::MemberId,
    run::Round,
};
use talkoot_trainer::state::State;

use super::Verifier;

/// A contribution of the round whose bytes are here.
struct Here {
    index: u64,
    blob: Vec<u8>,
}

impl Verifier {
    /// Measures the contributions of `members`, which have been fetched, and suspects the oddest, if one is odd: a verifier may
    /// suspect one a round. `seed` is unforeseeable, so that nobody trains on the packs that it chooses. Who takes longer than
    /// `patience` is left alone, and so is everybody after.
    pub(super) async fn suspect(
        &mut self,
        round: &Round,
        members: &[MemberId],
        start: State,
        seed: u64,
        patience: Duration,
    ) {
        // Said before, when the draw behind it did not reach the log.
        if round.suspicions.contains_key(&self.follower.id()) {
            return;
        }
        let start = Arc::new(start);
        let number = round.open.round;
        let mut seen: Vec<(MemberId, u64, Signals)> = Vec::new();
        for member in members {
            let measured = self.measure(round, *member, Arc::clone(&start), seed);
            match tokio::time::timeout(patience, measured).await {
                Ok(Ok((index, signals))) => {
                    tracing::info!(round = number, member = %member.short(), ?signals, "second signals");
                    seen.push((*member, index, signals));
                }
                Ok(Err(reason)) => {
                    tracing::info!(round = number, member = %member.short(), reason, "no second signals");
                }
                // Its thread goes on with weights of its own: no second one beside it.
                Err(_) => {
                    tracing::info!(round = number, member = %member.short(), "second signals took too long");
                    break;
                }
            }
        }
        let all: Vec<Signals> = seen.iter().map(|(.., signals)| *signals).collect();
        let odd = seen.iter().filter_map(|(member, index, signals)| {
            let signal = signals.oddity(&all)?;
            tracing::warn!(round = number, member = %member.short(), ?signal, ?signals, "this contribution is odd");
            Some((*index, signal, signals.assigned))
        });
        // Of a copy and what it copies the later is the likelier lie; of those that do not help, the one that does harm.
        let worst = odd.min_by(|(index, signal, gain), (other_index, other, other_gain)| {
            let rank = |signal: &Signal| u8::from(*signal != Signal::Overlap);
            rank(signal).cmp(&rank(other)).then(match signal {
                Signal::Overlap => other_index.cmp(index),
                Signal::Gain | Signal::Norm => gain.total_cmp(other_gain),
            })
        });
        if let Some((commit, signal, _)) = worst {
            self.taken(&Event::Suspicion(Suspicion { round: number, commit, signal })).await;
        }
    }

    async fn measure(
        &mut self,
        round: &Round,
        member: MemberId,
        start: Arc<State>,
        seed: u64,
    ) -> Result<(u64, Signals), String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let manifest = self.follower.state().manifest().clone();
        let config = self.inputs.config().clone();
        let stage = round.open.stage;
        let work = round.work_of(&member).ok_or("it has no seat")?.clone();
        let mine = self.here(round, &member).ok_or("its contribution is not here")?;
        let others = round.commits.keys().filter(|other| **other != member);
        let others: Vec<Here> = others.filter_map(|other| self.here(round, other)).collect();
        // Only the packs that are looked at are fetched.
        let look = Look {
            manifest: &manifest,
            config: &config,
            stage,
            start: &start,
            work: &work,
            contribution: &mine.blob,
            others: &[],
            seed,
        };
        let (assigned, random) = look.packs().map_err(|error| text(&error))?;
        let needed = Work { steps: vec![assigned, random], ..work.clone() };
        let packs = self.inputs.packs(&manifest, stage, &needed).await.map_err(|error| text(&error))?;
        let measured = tokio::task::spawn_blocking(move || {
            let others: Vec<&[u8]> = others.iter().map(|other| other.blob.as_slice()).collect();
            let look = Look {
                manifest: &manifest,
                config: &config,
                stage,
                start: &start,
                work: &work,
                contribution: &mine.blob,
                others: &others,
                seed,
            };
            Ok::<_, ExecutionError>((mine.index, look.measure(&*packs)?))
        });
        measured.await.map_err(|error| text(&error))?.map_err(|error| text(&error))
    }

    /// The contribution of a member, when it has been fetched.
    fn here(&self, round: &Round, member: &MemberId) -> Option<Here> {
        let record = round.commits.get(member)?;
        let blob = record.commit.contribution;
        let blob = self.store.read(&blob.digest, blob.bytes).ok()?;
        Some(Here { index: record.index, blob })
    }
}
