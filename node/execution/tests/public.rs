//! Contributions with public moments: the same everywhere, gated alike by everybody.

#![allow(clippy::unwrap_used, reason = "helpers of a test are part of the test")]

mod support;

use support::{STEPS, blobs, member, world};
use talkoot_execution::{Arithmetic, Job, codec_settings, encode_end, execute_steps, layout_of, moments_of};
use talkoot_protocol::{
    event::Commit,
    identity::{Keypair, MemberId},
    manifest::{Gates, InnerState},
    real::Real,
};
use talkoot_trainer::moments::{MomentFormat, Moments};

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
fn a_run_that_holds_moments_in_eight_bits_begins_with_such_and_executes_in_parts() {
    let mut world = world(InnerState::Public, None);
    let before = world.first_round();
    let plain = world.moments(&before).unwrap();
    world.manifest.terms.stages[0].optimizer.moments =
        Some(talkoot_protocol::manifest::MomentFormat::EightBit);
    let moments = world.moments(&before).unwrap();
    assert_ne!(moments, plain, "the manifest decides");
    assert_eq!(moments, plain.held_as(MomentFormat::EightBit));
    assert_eq!(moments.clone().held_as(MomentFormat::EightBit), moments, "held once is held for ever");

    let round = world.round(1, Some(world.precedent(&before)));
    let blobs = blobs(&before);
    let (_, whole) = world.contribute(&round, member(1), &blobs);
    let work = round.work_of(&member(1)).unwrap();
    let job = Job {
        manifest: &world.manifest,
        config: &world.config,
        round: &round,
        work,
        steps: STEPS,
        start: &world.start,
        feedback_in: None,
        precedent: &blobs,
        arithmetic: Arithmetic::Exact,
    };
    // the state before any step is the one that the trace begins with, and the rest follows from one between two steps
    let begin = execute_steps(&job, None, 0, &world.packs).unwrap();
    assert_eq!(begin.trace.digests[0], whole.trace.digests[0]);
    let first = execute_steps(&job, None, 1, &world.packs).unwrap();
    let rest = execute_steps(&job, Some((1, &first.end)), STEPS as usize, &world.packs).unwrap();
    assert_eq!(rest.trace.digests.last(), whole.trace.digests.last());
    let end = encode_end(&job, &rest.end, whole.trace.clone()).unwrap();
    assert_eq!((end.contribution, end.feedback_out), (whole.contribution, whole.feedback_out));
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
    type Change = fn(&mut (MemberId, Commit, Vec<u8>));
    let changes: [Change; 4] = [
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
