//! Contributions with public moments: the same everywhere, gated alike by everybody.

#![allow(clippy::unwrap_used, reason = "helpers of a test are part of the test")]

use std::{collections::BTreeMap, ops::ControlFlow, sync::Arc};

use talkoot_execution::{Executed, Job, aggregate, codec_settings, execute, layout_of, moments_of};
use talkoot_protocol::{
    assignment::Work,
    digest::BlobRef,
    event::{Commit, RoundOpen, Seat},
    identity::{Keypair, MemberId},
    manifest::{Bindings, DatasetBinding, Gates, InnerState, Manifest, Terms},
    real::Real,
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

const STEPS: u32 = 3;

struct World {
    manifest: Manifest,
    config: ModelConfig,
    start: State,
    packs: Vec<Pack>,
}

fn world(inner_state: InnerState, gates: Option<Gates>) -> World {
    let mut terms =
        Terms::from_toml(include_str!("../../../protocol/core/src/manifest/example.toml")).unwrap();
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

fn member(number: u8) -> MemberId {
    Keypair::from_seed([number; 32]).id()
}

impl World {
    fn round(&self, number: u64, precedent: Option<Arc<Precedent>>) -> Round {
        let mut members: Vec<MemberId> = (1..=3).map(member).collect();
        members.sort(); // as seats stand
        let seats: Vec<Seat> = members.into_iter().map(|member| Seat { member, steps: STEPS }).collect();
        let work = seats.iter().zip(0u64..).map(|(seat, at)| Work {
            member: seat.member,
            steps: (0..u64::from(STEPS)).map(|step| vec![(at + step) % 8, (at + step + 3) % 8]).collect(),
            positions: Vec::new(),
        });
        Round {
            work: work.collect(),
            open: RoundOpen {
                round: number,
                stage: 0,
                start_state: BlobRef::of(b"state"),
                seats: seats.clone(),
            },
            open_ms: 0,
            first_step: number * u64::from(STEPS),
            precedent,
            confirmations: 1,
            commits: BTreeMap::new(),
            late: BTreeMap::new(),
            seal: None,
            draws: BTreeMap::new(),
            verdicts: Vec::new(),
            close: None,
            outcomes: BTreeMap::new(),
        }
    }

    fn contribute(&self, round: &Round, who: MemberId, precedent: &[Vec<u8>]) -> (Commit, Executed) {
        let job = Job {
            manifest: &self.manifest,
            config: &self.config,
            round,
            work: round.work_of(&who).unwrap(),
            steps: STEPS,
            start: &self.start,
            feedback_in: None,
            precedent,
        };
        let executed = execute(&job, &self.packs, &mut |_, _| ControlFlow::Continue(())).unwrap();
        (executed.commit(&job, None, 1), executed)
    }

    /// A round of three honest members.
    fn first_round(&self) -> Vec<(MemberId, Commit, Vec<u8>)> {
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

    fn precedent(&self, contributions: &[(MemberId, Commit, Vec<u8>)]) -> Arc<Precedent> {
        Arc::new(Precedent {
            round: 0,
            first_step: 0,
            contributions: contributions.iter().map(|(m, commit, _)| (*m, commit.clone())).collect(),
        })
    }

    fn moments(&self, contributions: &[(MemberId, Commit, Vec<u8>)]) -> Option<Moments> {
        let round = self.round(1, Some(self.precedent(contributions)));
        moments_of(&self.manifest, &self.config, &round, &blobs(contributions)).unwrap()
    }

    fn dropped(&self, contributions: &[(MemberId, Commit, Vec<u8>)]) -> Vec<(MemberId, String)> {
        let list: Vec<(MemberId, &Commit, Vec<u8>)> =
            contributions.iter().map(|(m, commit, blob)| (*m, commit, blob.clone())).collect();
        let found = aggregate(&self.manifest, &self.config, 0, &self.start, &list).unwrap();
        found.dropped.into_iter().map(|dropped| (dropped.member, dropped.reason)).collect()
    }

    /// What a member would send whose pseudo-gradient is everywhere `value`.
    fn forged(&self, commit: &Commit, who: MemberId, value: f32) -> Vec<u8> {
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

fn blobs(contributions: &[(MemberId, Commit, Vec<u8>)]) -> Vec<Vec<u8>> {
    contributions.iter().map(|(.., blob)| blob.clone()).collect()
}

#[test]
fn a_replay_with_the_same_precedent_gives_the_same_bytes_and_another_precedent_others() {
    let world = world(InnerState::Public, None);
    let before = world.first_round();
    let round = world.round(1, Some(world.precedent(&before)));
    let (commit, executed) = world.contribute(&round, member(1), &blobs(&before));
    let (again, replayed) = world.contribute(&round, member(1), &blobs(&before));
    assert_eq!((&commit, &executed.contribution), (&again, &replayed.contribution));

    let fewer = world.round(1, Some(world.precedent(&before[..2])));
    let (_, other) = world.contribute(&fewer, member(1), &blobs(&before[..2]));
    assert_ne!(other.contribution, executed.contribution, "the moments of all three count");
    let (_, fresh) = world.contribute(&world.round(1, None), member(1), &[]);
    assert_ne!(fresh.trace, executed.trace, "moments change the steps themselves");
    // The first step's loss comes before any update, so that moments cannot change it.
    assert_eq!(fresh.trace.steps[0], executed.trace.steps[0]);
}

#[test]
fn public_moments_hold_every_trained_parameter_and_something_moved() {
    let world = world(InnerState::Public, None);
    let moments = world.moments(&world.first_round()).unwrap();
    let layout = layout_of(&world.config, &world.manifest.terms.stages[0]).unwrap();
    let names: Vec<&String> = layout.tensors().iter().map(|(name, _)| name).collect();
    assert_eq!(moments.tensors.keys().collect::<Vec<_>>(), names);
    assert_eq!(moments.steps, Moments::SETTLED);
    for (name, (first, second)) in &moments.tensors {
        assert!(second.iter().all(|v| *v >= 0.0 && v.is_finite()), "{name}");
        assert!(first.iter().zip(second).all(|(m, v)| m.abs() <= v.sqrt() + 1e-4), "{name}");
    }
    let moved = |(first, _): &(Vec<f32>, Vec<f32>)| first.iter().any(|m| *m != 0.0);
    assert!(moments.tensors.values().any(moved));
}

#[test]
fn one_who_lies_about_moments_moves_none_of_them() {
    let world = world(InnerState::Public, None);
    let honest = world.first_round();
    let mut lied = honest.clone();
    // The same pseudo-gradient with moments of something else: the end of another blob.
    let (.., blob) = &mut lied[0];
    let settings = codec_settings(&world.manifest.terms.contribution);
    let layout = layout_of(&world.config, &world.manifest.terms.stages[0]).unwrap();
    let opened = talkoot_trainer::contribution::Contribution::open(blob, &settings, &layout).unwrap();
    let own = opened.factors().unwrap().len();
    blob.truncate(blob.len() - own);
    blob.extend(vec![0xff; own]);
    let reasons = world.dropped(&lied);
    assert_eq!(reasons.len(), 1, "{reasons:?}");
    assert_eq!(reasons[0].0, lied[0].0);
    assert!(reasons[0].1.contains("second moments") || reasons[0].1.contains("code"), "{}", reasons[0].1);
    assert_eq!(world.moments(&lied), world.moments(&honest[1..]), "who is left out has no say");
}

#[test]
fn runs_take_the_version_that_their_inner_state_needs_and_no_other() {
    let (public, fresh) = (world(InnerState::Public, None), world(InnerState::Fresh, None));
    let (with, without) = (public.first_round(), fresh.first_round());
    assert!(public.dropped(&with).is_empty() && fresh.dropped(&without).is_empty());
    for (_, reason) in public.dropped(&without) {
        assert!(reason.contains("without the second moments that the run needs"), "{reason}");
    }
    let surplus = fresh.dropped(&with);
    assert_eq!(surplus.len(), 3);
    assert!(surplus[0].1.contains("with second moments that the run has no use for"), "{}", surplus[0].1);
}

#[test]
fn what_speaks_of_another_round_member_or_work_does_not_enter() {
    let world = world(InnerState::Fresh, None);
    let honest = world.first_round();
    assert_eq!(world.dropped(&honest), []);
    let changes: [fn(&mut (MemberId, Commit, Vec<u8>)); 4] = [
        |(_, commit, _)| commit.round += 1,
        |(member, ..)| *member = Keypair::from_seed([77; 32]).id(),
        |(_, commit, _)| commit.steps -= 1,
        |(_, commit, _)| commit.tokens += 1,
    ];
    for change in changes {
        let mut lied = honest.clone();
        change(&mut lied[1]);
        let reasons = world.dropped(&lied);
        assert_eq!(reasons.len(), 1, "{reasons:?}");
        assert_eq!(reasons[0].0, lied[1].0);
        assert!(reasons[0].1.contains("speaks of another round, member"), "{}", reasons[0].1);
    }
}

#[test]
fn a_loud_contribution_and_a_copy_do_not_pass_the_gates() {
    let gates = Gates { norm_low: Real::new(0.2), norm_high: Real::new(3.0), overlap: Real::new(0.9) };
    let gated = world(InnerState::Fresh, Some(gates));
    let open = world(InnerState::Fresh, None);
    let honest = gated.first_round();
    assert_eq!(gated.dropped(&honest), []);

    let mut loud = honest.clone();
    loud[1].2 = gated.forged(&loud[1].1, loud[1].0, 5.0);
    let reasons = gated.dropped(&loud);
    assert_eq!(reasons.len(), 1);
    assert_eq!(reasons[0].0, loud[1].0);
    assert!(reasons[0].1.contains("of the median"), "{}", reasons[0].1);
    assert_eq!(open.dropped(&loud), [], "without gates it enters");

    let mut copied = honest.clone();
    // The first's pseudo-gradient under the second's name: the header's member, 72 bytes in.
    let mut blob = honest[0].2.clone();
    blob[64..96].copy_from_slice(copied[1].0.as_bytes());
    copied[1].1.tokens = honest[0].1.tokens;
    copied[1].2 = blob;
    let reasons = gated.dropped(&copied);
    assert_eq!(reasons.len(), 1);
    assert!(reasons[0].1.contains("100 % of its entries are those of"), "{}", reasons[0].1);
    assert_eq!(reasons[0].0, copied[1].0, "the later in the order of the seal");
}

#[test]
fn a_missing_blob_of_the_precedent_is_named() {
    let world = world(InnerState::Public, None);
    let before = world.first_round();
    let round = world.round(1, Some(world.precedent(&before)));
    let error = moments_of(&world.manifest, &world.config, &round, &blobs(&before[..2])).unwrap_err();
    assert_eq!(error.to_string(), "the round's moments come from 3 contributions, 2 are there");
}
