//! A little world to execute rounds in: a tiny model, eight packs, three members.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::{ops::ControlFlow, sync::Arc};

use talkoot_cuda::device::Device;
use talkoot_execution::{
    Arithmetic, Engine, Executed, Job, aggregate, codec_settings, execute, execute_on, layout_of, moments_of,
};
use talkoot_protocol::{
    assignment::Work,
    digest::BlobRef,
    event::{Commit, RoundOpen, Seat},
    identity::{Keypair, MemberId},
    manifest::{Bindings, DatasetBinding, Gates, InnerState, Manifest, Terms},
    run::{Precedent, Round},
};
use talkoot_trainer::{
    batch::Pack,
    config::ModelConfig,
    contribution::{ErrorFeedback, Origin, encode},
    moments::Moments,
    presets::demo_model,
    state::State,
};

pub(crate) const STEPS: u32 = 3;

pub(crate) struct World {
    pub(crate) manifest: Manifest,
    pub(crate) config: ModelConfig,
    pub(crate) start: State,
    pub(crate) packs: Vec<Pack>,
}

pub(crate) fn world(inner_state: InnerState, gates: Option<Gates>) -> World {
    let mut terms =
        Terms::from_toml(include_str!("../../../../protocol/core/src/manifest/example.toml")).unwrap();
    terms.contribution.inner_state = inner_state;
    terms.contribution.k = 512;
    terms.aggregation.gates = gates;
    terms.stages[0].trainable = vec![talkoot_protocol::manifest::ModuleGroup::Language];
    let config = demo_model(64);
    let packs = (0..8).map(|at| Pack {
        tokens: vec![5 + at, 6, 7, 8 + at],
        labels: vec![-100, 6, 7, 8 + i64::from(at)],
        sample_lengths: vec![4],
        images: vec![],
    });
    let start = State::initial(&config, 1);
    let bindings = Bindings {
        operator: Keypair::from_seed([9; 32]).id(),
        log_key: "example.org/run+00000000+AA==".to_owned(),
        config: BlobRef::of(b"config"),
        tokenizer: BlobRef::of(b"tokenizer"),
        initial_state: BlobRef::of(b"state"),
        datasets: vec![DatasetBinding { index: BlobRef::of(b"index"), packs: 8, periods: None }],
    };
    let manifest = Manifest { terms, bindings };
    manifest.validate().unwrap();
    World { manifest, config, start, packs: packs.collect() }
}

pub(crate) fn member(number: u8) -> MemberId {
    Keypair::from_seed([number; 32]).id()
}

impl World {
    pub(crate) fn round(&self, number: u64, precedent: Option<Arc<Precedent>>) -> Round {
        let mut members: Vec<MemberId> = (1..=3).map(member).collect();
        members.sort(); // as seats stand
        let seats: Vec<Seat> = members.into_iter().map(|member| Seat { member, steps: STEPS }).collect();
        let work = seats.iter().zip(0u64..).map(|(seat, at)| Work {
            member: seat.member,
            steps: (0..u64::from(STEPS)).map(|step| vec![(at + step) % 8, (at + step + 3) % 8]).collect(),
            positions: Vec::new(),
        });
        let open =
            RoundOpen { round: number, stage: 0, start_state: BlobRef::of(b"state"), seats: seats.clone() };
        Round { first_step: number * u64::from(STEPS), precedent, ..Round::of(open, work.collect()) }
    }

    pub(crate) fn job<'a>(&'a self, round: &'a Round, who: MemberId, precedent: &'a [Vec<u8>]) -> Job<'a> {
        Job {
            manifest: &self.manifest,
            config: &self.config,
            round,
            work: round.work_of(&who).unwrap(),
            steps: STEPS,
            start: &self.start,
            feedback_in: None,
            precedent,
            arithmetic: Arithmetic::Exact,
        }
    }

    pub(crate) fn contribute(
        &self,
        round: &Round,
        who: MemberId,
        precedent: &[Vec<u8>],
    ) -> (Commit, Executed) {
        let job = self.job(round, who, precedent);
        let executed = execute(&job, &self.packs, &mut |_, _| ControlFlow::Continue(())).unwrap();
        (executed.commit(&job, None, 1), executed)
    }

    /// A round of three honest members.
    pub(crate) fn first_round(&self) -> Vec<(MemberId, Commit, Vec<u8>)> {
        let round = self.round(0, None);
        let mut all: Vec<_> = (1..=3)
            .map(|at| {
                let (commit, executed) = self.contribute(&round, member(at), &[]);
                (member(at), commit, executed.contribution)
            })
            .collect();
        all.sort_by_key(|(member, ..)| *member);
        all
    }

    pub(crate) fn precedent(&self, contributions: &[(MemberId, Commit, Vec<u8>)]) -> Arc<Precedent> {
        Arc::new(Precedent {
            round: 0,
            first_step: 0,
            contributions: contributions.iter().map(|(m, commit, _)| (*m, commit.clone())).collect(),
        })
    }

    pub(crate) fn moments(&self, contributions: &[(MemberId, Commit, Vec<u8>)]) -> Option<Moments> {
        let round = self.round(1, Some(self.precedent(contributions)));
        moments_of(&self.manifest, &self.config, &round, &blobs(contributions)).unwrap()
    }

    pub(crate) fn dropped(&self, contributions: &[(MemberId, Commit, Vec<u8>)]) -> Vec<(MemberId, String)> {
        let list: Vec<(MemberId, &Commit, Vec<u8>)> =
            contributions.iter().map(|(m, commit, blob)| (*m, commit, blob.clone())).collect();
        let found = aggregate(&self.manifest, &self.config, 0, &self.start, &list).unwrap();
        found.dropped.into_iter().map(|dropped| (dropped.member, dropped.reason)).collect()
    }

    /// What a member would send whose pseudo-gradient is everywhere `value`.
    pub(crate) fn forged(&self, commit: &Commit, who: MemberId, value: f32) -> Vec<u8> {
        let layout = layout_of(&self.config, &self.manifest.terms.stages[0]).unwrap();
        let delta: Vec<Vec<f32>> =
            layout.tensors().iter().map(|(_, elements)| vec![value; *elements as usize]).collect();
        let delta: Vec<&[f32]> = delta.iter().map(Vec::as_slice).collect();
        let origin = Origin {
            round: commit.round,
            member: *who.as_bytes(),
            steps: commit.steps,
            tokens: commit.tokens,
        };
        let settings = codec_settings(&self.manifest.terms.contribution);
        encode(&settings, &layout, &origin, &delta, &mut ErrorFeedback::zero(&layout)).unwrap()
    }
}

pub(crate) fn blobs(contributions: &[(MemberId, Commit, Vec<u8>)]) -> Vec<Vec<u8>> {
    contributions.iter().map(|(.., blob)| blob.clone()).collect()
}

/// What comes of a job on an engine, and which steps were seen.
pub(crate) fn watched<D: Device>(world: &World, engine: &Engine<D>, job: &Job<'_>) -> (Executed, Vec<usize>) {
    let mut seen = Vec::new();
    let mut on_step = |step, _: &_| {
        seen.push(step);
        ControlFlow::Continue(())
    };
    let executed = execute_on(engine, job, &world.packs, &mut on_step).unwrap();
    (executed, seen)
}

/// All that a member commits to is the same.
pub(crate) fn assert_same(ours: &Executed, expected: &Executed) {
    assert_eq!(ours.contribution, expected.contribution);
    assert_eq!(ours.trace, expected.trace);
    assert_eq!(ours.feedback_out, expected.feedback_out);
}
