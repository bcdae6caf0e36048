//! From the first weights to the last: every aggregation computed again, and a share of the training.

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use talkoot_dataset::manifest::DatasetManifest;
use talkoot_execution::{Packs, aggregate, open_packs, parse_config};
use talkoot_protocol::{
    digest::{BlobRef, Digest},
    event::{Commit, Finding},
    identity::MemberId,
    manifest::Manifest,
    run::{CommitRecord, LateRecord, Opened, Round},
};
use talkoot_trainer::{config::ModelConfig, state::State};

use super::{
    Blobs, Options,
    blobs::Absent,
    report::{Lie, Report, Unchecked},
};
use crate::replay::{Replay, needs_learnt};

/// The weights as the auditor computes them, and what it needs for replays.
pub(super) struct States {
    blobs: Blobs,
    /// None when it cannot be read; then there is nothing to compute with, which is reported once.
    config: Option<ModelConfig>,
    weights: Option<(BlobRef, State)>,
    packs: BTreeMap<u32, OnceLock<Option<Arc<Packs>>>>,
    replay: f64,
    seed: u64,
}

/// A round to replay contributions of, and what it started from.
#[derive(Clone, Copy)]
struct Case<'a> {
    manifest: &'a Manifest,
    config: &'a ModelConfig,
    round: &'a Round,
    start: &'a State,
}

impl States {
    pub(super) fn new(manifest: &Manifest, options: &Options, report: &mut Report) -> Self {
        let blobs = options.blobs.clone();
        let config = blobs
            .read(&manifest.bindings.config)
            .and_then(|bytes| parse_config(&bytes).map_err(|_| Absent::Damaged))
            .map_err(|absent| {
                let what = "the weights and contributions of every round".to_owned();
                report.unchecked(unchecked(&manifest.bindings.config, what, &absent));
            })
            .ok();
        let stages = 0..u32::try_from(manifest.terms.stages.len()).unwrap_or(0);
        Self {
            blobs,
            config,
            weights: None,
            packs: stages.map(|stage| (stage, OnceLock::new())).collect(),
            replay: options.replay,
            seed: options.seed,
        }
    }

    /// Checks a settled round: replays some of its contributions, then computes the state that follows and compares
    /// it with `claimed`.
    pub(super) fn settle(
        &mut self,
        manifest: &Manifest,
        round: &Round,
        claimed: BlobRef,
        report: &mut Report,
    ) {
        let number = round.open.round;
        let Some(config) = self.config.clone() else { return };
        let start = match self.start(&round.open.start_state, &config) {
            Ok(start) => start,
            Err(absent) => {
                let what = format!("the weights of round {number}");
                report.unchecked(unchecked(&round.open.start_state, what, &absent));
                return;
            }
        };
        for (member, record) in &round.commits {
            if self.is_chosen(record.index) {
                self.replay_one(
                    &Case { manifest, config: &config, round, start: &start },
                    *member,
                    record,
                    report,
                );
            }
        }
        for (member, late) in &round.late {
            if self.is_chosen(late.index) {
                let case = Case { manifest, config: &config, round: &late.round, start: &start };
                self.replay_late(&case, *member, late, report);
            }
        }
        self.aggregate(manifest, &config, round, start, claimed, report);
    }

    /// The weights that a round starts from: those that the round before led to, or else the archived blob.
    fn start(&mut self, wanted: &BlobRef, config: &ModelConfig) -> Result<State, Absent> {
        match self.weights.take() {
            Some((held, state)) if held == *wanted => Ok(state),
            _ => {
                let bytes = self.blobs.read(wanted)?;
                State::from_safetensors(&bytes, config).map_err(|_| Absent::Damaged)
            }
        }
    }

    fn aggregate(
        &mut self,
        manifest: &Manifest,
        config: &ModelConfig,
        round: &Round,
        start: State,
        claimed: BlobRef,
        report: &mut Report,
    ) {
        let number = round.open.round;
        let mut contributions: Vec<(MemberId, &Commit, Vec<u8>)> = Vec::new();
        for (member, CommitRecord { commit, .. }) in round.included() {
            match self.blobs.read(&commit.contribution) {
                Ok(bytes) => contributions.push((*member, commit, bytes)),
                Err(absent) => {
                    let what = format!("the aggregation of round {number}");
                    report.unchecked(unchecked(&commit.contribution, what, &absent));
                    return;
                }
            }
        }
        let computed = if contributions.is_empty() {
            Ok(start)
        } else {
            aggregate(manifest, config, round.open.stage, &start, &contributions).map(|result| result.state)
        };
        report.counts.aggregations += 1;
        match computed {
            Ok(state) => {
                let blob = BlobRef::of(&state.to_safetensors());
                if blob != claimed {
                    report.lie(Lie::State {
                        round: number,
                        claimed: claimed.digest.to_string(),
                        computed: blob.digest.to_string(),
                    });
                }
                self.weights = Some((blob, state));
            }
            Err(error) => report.lie(Lie::State {
                round: number,
                claimed: claimed.digest.to_string(),
                computed: format!("nothing: {error}"),
            }),
        }
    }

    /// Whether a commit is among those that are executed again.
    fn is_chosen(&self, index: u64) -> bool {
        let hash = Digest::of(&[self.seed.to_le_bytes(), index.to_le_bytes()].concat());
        let mut word = [0; 8];
        word.copy_from_slice(&hash.as_bytes()[..8]);
        let unit = (u64::from_le_bytes(word) >> 11) as f64 / (1u64 << 53) as f64;
        unit < self.replay
    }

    fn replay_one(&self, case: &Case<'_>, member: MemberId, record: &CommitRecord, report: &mut Report) {
        if let Some(finding) = self.execute(case, member, record.index, &record.commit, None, report) {
            report.counts.replayed += 1;
            self.judge(case.round, member, record, &finding, report);
        }
    }

    /// Executes a commit again; nothing when what it needs is not here, which is reported.
    fn execute(
        &self,
        case: &Case<'_>,
        member: MemberId,
        index: u64,
        commit: &Commit,
        restored: Option<BlobRef>,
        report: &mut Report,
    ) -> Option<Finding> {
        let Case { manifest, config, round, start } = *case;
        let number = round.open.round;
        let Some(packs) = self.packs_of(manifest, round.open.stage) else {
            let index = manifest.stage(round.open.stage).map(|(_, data)| data.index);
            if let Some(index) = index {
                let what = format!("replays of stage {}", round.open.stage);
                report.unchecked(unchecked(&index, what, &Absent::Missing));
            }
            return None;
        };
        // Buffers are archived for contributions that a verifier drew; without one there is nothing to start from.
        let feedback_in = commit.feedback_in.map(|blob| self.blobs.read(&blob)).transpose().ok()?;
        let trace = match self.blobs.read(&commit.trace) {
            Ok(trace) => trace,
            Err(absent) => {
                let what = format!("the replay of entry {index} in round {number}");
                report.unchecked(unchecked(&commit.trace, what, &absent));
                return None;
            }
        };
        let precedent = match self.precedent(round) {
            Ok(precedent) => precedent,
            Err((blob, absent)) => {
                let what = format!("the moments that round {number} started from");
                report.unchecked(unchecked(&blob, what, &absent));
                return None;
            }
        };
        let learnt = if needs_learnt(manifest) {
            // As with the buffer before: kept for contributions that a verifier drew.
            Some((self.blobs.read(&commit.contribution).ok()?, self.blobs.read(&commit.feedback_out).ok()?))
        } else {
            None
        };
        let work = round.work_of(&member)?;
        let replay = Replay {
            manifest: manifest.clone(),
            config: config.clone(),
            round: round.clone(),
            work: work.clone(),
            start: start.clone(),
            packs,
            commit: commit.clone(),
            trace,
            learnt,
            feedback_in,
            precedent,
            restored,
        };
        match replay.run() {
            Ok(finding) => Some(finding),
            Err(error) => {
                // Shards that are not here: nobody's lie.
                if let Some((_, data)) = manifest.stage(round.open.stage) {
                    let what = format!("the replay of entry {index} in round {number} ({error})");
                    report.unchecked(unchecked(&data.index, what, &Absent::Missing));
                }
                None
            }
        }
    }

    /// Replays work that missed its seal. It is a lie only when a commit went on from it.
    fn replay_late(&self, case: &Case<'_>, member: MemberId, late: &LateRecord, report: &mut Report) {
        let Some(finding) = self.execute(case, member, late.index, &late.commit, Some(late.restored), report)
        else {
            return;
        };
        report.counts.replayed += 1;
        if finding != Finding::Pass {
            report.lie(Lie::Contribution {
                round: case.round.open.round,
                commit: late.index,
                member: member.to_string(),
                finding: describe(&finding),
            });
        }
    }

    /// Compares what a replay found with what was done about it.
    fn judge(
        &self,
        round: &Round,
        member: MemberId,
        record: &CommitRecord,
        finding: &Finding,
        report: &mut Report,
    ) {
        let included = round.included().iter().any(|(id, _)| **id == member);
        if included && *finding != Finding::Pass {
            report.lie(Lie::Contribution {
                round: round.open.round,
                commit: record.index,
                member: member.to_string(),
                finding: describe(finding),
            });
        }
        for verdict in round.verdicts.iter().filter(|verdict| verdict.commit == record.index) {
            let said_pass = verdict.finding == Finding::Pass;
            let conclusive = !matches!(verdict.finding, Finding::Inconclusive(_));
            report.counts.verdicts_checked += 1;
            // Who passed a canary was found by the run itself: the fold has seen to the penalty.
            if said_pass && round.opened(record.index) == Some(Opened::Canary) {
                continue;
            }
            if conclusive && said_pass != (*finding == Finding::Pass) {
                report.lie(Lie::FalseVerdict {
                    verdict: verdict.index,
                    verifier: verdict.verifier.to_string(),
                    said: describe(&verdict.finding),
                    finding: describe(finding),
                });
            }
        }
    }

    /// The contributions that a round's moments come from, or the first that cannot be read.
    fn precedent(&self, round: &Round) -> Result<Vec<Vec<u8>>, (BlobRef, Absent)> {
        let contributions = round.precedent.iter().flat_map(|precedent| &precedent.contributions);
        contributions
            .map(|(_, commit)| {
                self.blobs.read(&commit.contribution).map_err(|absent| (commit.contribution, absent))
            })
            .collect()
    }

    fn packs_of(&self, manifest: &Manifest, stage: u32) -> Option<Arc<Packs>> {
        let slot = self.packs.get(&stage)?;
        slot.get_or_init(|| {
            let (_, dataset) = manifest.stage(stage)?;
            let index = self.blobs.read(&dataset.index).ok()?;
            let shards = shards_of(&index);
            let blobs = self.blobs.clone();
            let packs = open_packs(&index, move |digest| blobs.locate(shards.get(digest)?).ok());
            packs.ok().map(Arc::new)
        })
        .clone()
    }
}

/// The shards of a data set by their names; none when the bytes are no manifest, which opening it says.
fn shards_of(manifest: &[u8]) -> BTreeMap<Digest, BlobRef> {
    let Ok(manifest) = DatasetManifest::from_bytes(manifest) else { return BTreeMap::new() };
    manifest.index.shards.iter().map(|shard| (shard.blob.digest, shard.blob)).collect()
}

fn unchecked(blob: &BlobRef, needed_for: String, absent: &Absent) -> Unchecked {
    let reason = match absent {
        Absent::OutOfReach(reason) => Some(reason.clone()),
        Absent::Missing | Absent::Damaged => None,
    };
    let damaged = *absent == Absent::Damaged;
    Unchecked::Blob { digest: blob.digest.to_string(), needed_for, damaged, reason }
}

/// A finding in words.
pub fn describe(finding: &Finding) -> String {
    use talkoot_protocol::event::{DivergentPart, Obstacle};
    match finding {
        Finding::Pass => "the same".to_owned(),
        Finding::Inconclusive(Obstacle::InputsUnavailable) => {
            "inconclusive, inputs could not be had".to_owned()
        }
        Finding::Fail(divergence) => {
            let nats = |value: Option<u64>| {
                value.map_or_else(|| "?".to_owned(), |micro| format!("{:.6}", micro as f64 / 1e6))
            };
            match (divergence.what, divergence.first_step) {
                (DivergentPart::Step, Some(step)) => format!(
                    "inner step {} differs: claimed loss {}, replayed {}",
                    step + 1,
                    nats(divergence.claimed_micronats),
                    nats(divergence.replayed_micronats)
                ),
                (DivergentPart::Step, None) => "an inner step differs".to_owned(),
                (DivergentPart::Contribution, _) => {
                    "all steps agree, but the contribution is not what they lead to".to_owned()
                }
                (DivergentPart::Feedback, _) => "the error-feedback buffer differs".to_owned(),
                (DivergentPart::Malformed, _) => "the committed blobs are malformed".to_owned(),
                (DivergentPart::Summary, _) => {
                    "the commit tells other losses or tokens than its trace".to_owned()
                }
                (DivergentPart::Codec, _) => {
                    "sampled chunks of the error feedback are no encoder's work".to_owned()
                }
                (DivergentPart::Impossible, _) => {
                    "honest training of this seat diverges, so that there was nothing to commit".to_owned()
                }
                (DivergentPart::Encoding, _) => {
                    "the contribution is not the encoding of what it and its error feedback add up to"
                        .to_owned()
                }
                (DivergentPart::Distance, _) => {
                    "all steps agree within the tolerance, but what they are said to have led to does not"
                        .to_owned()
                }
                (DivergentPart::Moments, _) => "the optimiser's moments differ".to_owned(),
                (DivergentPart::Withheld, _) => "the member withheld what it had committed to".to_owned(),
            }
        }
    }
}
