//! The class `fast`: another arithmetic passes, a lie does not, and what has to be exact stays exact.

#![allow(clippy::unwrap_used, reason = "helpers of a test are part of the test")]

mod support;

use std::ops::ControlFlow;

use support::{World, member, world};
use talkoot_execution::{
    Arithmetic, Claimed, Comparison, Distances, Executed, Job, Learnt, Yardstick, check, codec_settings,
    execute, layout_of,
};
use talkoot_protocol::{
    digest::{BlobRef, Digest},
    event::{Commit, DivergentPart, Finding},
    manifest::{InnerState, Tolerance, VerificationClass},
    real::Real,
    run::Round,
};
use talkoot_trainer::{
    contribution::{Contribution, ErrorFeedback, Origin, encode_with},
    moments::{Factors, matrix_shapes},
    trace::{StepRecord, points},
};

/// Far beyond what a library's products move this little model, and far below any of the lies here.
fn fast(inner_state: InnerState) -> World {
    let mut world = world(inner_state, None);
    world.manifest.terms.verification.class = VerificationClass::Fast;
    let real = Real::new;
    world.manifest.terms.verification.tolerance = Some(Tolerance {
        distance: real(0.01),
        angle: real(1e-4),
        tensor_distance: real(0.05),
        tensor_angle: real(1e-3),
        loss: real(1e-4),
        gradient_norm: real(1e-3),
        moments: real(0.5),
    });
    world.manifest.validate().unwrap();
    world
}

fn run(job: &Job<'_>, world: &World) -> Executed {
    execute(job, &world.packs, &mut |_, _| ControlFlow::Continue(())).unwrap()
}

fn claimed<'a>(executed: &'a Executed, trace: &'a [u8]) -> Claimed<'a> {
    Claimed { trace, contribution: Some(&executed.contribution), feedback_out: Some(&executed.feedback_out) }
}

fn checked(job: &Job<'_>, commit: &Commit, said: &Executed, replay: &Executed) -> Comparison {
    check(job, commit, claimed(said, &said.trace.to_bytes()), replay).unwrap()
}

fn what(comparison: &Comparison) -> (DivergentPart, Option<u32>) {
    match &comparison.finding {
        Finding::Fail(divergence) => (divergence.what, divergence.first_step),
        other => panic!("{other:?}"),
    }
}

/// What a member would commit to that has learnt `delta` and tells the trace of `of`.
fn forged(world: &World, job: &Job<'_>, of: &Executed, delta: &[Vec<f32>]) -> Executed {
    let layout = layout_of(&world.config, &world.manifest.terms.stages[0]).unwrap();
    let settings = codec_settings(&world.manifest.terms.contribution);
    let opened = Contribution::open(&of.contribution, &settings, &layout).unwrap();
    let factors = opened
        .factors()
        .map(|bytes| Factors::from_bytes(bytes, &matrix_shapes(&world.config, &layout)).unwrap());
    let mut feedback = ErrorFeedback::zero(&layout);
    let origin = Origin {
        round: job.round.open.round,
        member: *job.work.member.as_bytes(),
        steps: job.steps,
        tokens: of.tokens,
    };
    let slices: Vec<&[f32]> = delta.iter().map(Vec::as_slice).collect();
    let contribution =
        encode_with(&settings, &layout, &origin, &slices, factors.as_ref(), &mut feedback).unwrap();
    Executed {
        contribution,
        feedback_out: feedback.to_bytes(),
        trace: of.trace.clone(),
        tokens: of.tokens,
        moments: None,
    }
}

/// The whole pseudo-gradient of somebody who started from an empty buffer.
fn learnt(world: &World, executed: &Executed) -> Vec<Vec<f32>> {
    let layout = layout_of(&world.config, &world.manifest.terms.stages[0]).unwrap();
    let settings = codec_settings(&world.manifest.terms.contribution);
    let mut sum = ErrorFeedback::from_bytes(&executed.feedback_out, &layout).unwrap();
    sum.give_back(&executed.contribution, &settings, &layout).unwrap();
    sum.tensors().to_vec()
}

fn first_round(world: &World) -> Round {
    world.round(0, None)
}

#[test]
fn another_arithmetic_passes_with_its_distance_told_and_is_refused_in_the_class_exact() {
    let mut world = fast(InnerState::Public);
    let round = first_round(&world);
    let job = world.job(&round, member(1), &[]);
    let other = run(&Job { arithmetic: Arithmetic::Library, ..job }, &world);
    let replay = run(&job, &world);
    if other.feedback_out == replay.feedback_out {
        eprintln!("SKIPPED: the library's products happen to have the same bits here");
        return;
    }
    let commit = other.commit(&job, None, 1);
    let comparison = checked(&job, &commit, &other, &replay);
    assert_eq!(comparison.finding, Finding::Pass);
    let deviation = comparison.deviation.unwrap();
    assert!(deviation.distance > 0 && deviation.distance < 10_000, "{deviation:?}");
    world.manifest.terms.verification.class = VerificationClass::Exact;
    world.manifest.terms.verification.tolerance = None;
    let job = world.job(&round, member(1), &[]);
    let comparison = checked(&job, &commit, &other, &replay);
    assert!(matches!(comparison.finding, Finding::Fail(_)), "{comparison:?}");
}

#[test]
fn a_whole_pseudo_gradient_is_compared_as_selection_hangs_on_a_hair() {
    let world = fast(InnerState::Fresh);
    let round = first_round(&world);
    let job = world.job(&round, member(1), &[]);
    let replay = run(&job, &world);
    // A thousandth of noise: a few entries more or fewer are among the largest.
    let noisy: Vec<Vec<f32>> = learnt(&world, &replay)
        .into_iter()
        .enumerate()
        .map(|(tensor, values)| {
            let wobble = |at: usize| if (at * 7 + tensor).is_multiple_of(2) { 1.001 } else { 0.999 };
            values.into_iter().enumerate().map(|(at, value)| value * wobble(at)).collect()
        })
        .collect();
    let said = forged(&world, &job, &replay, &noisy);
    assert_ne!(said.contribution, replay.contribution, "what was sent differs");
    let yardstick = Yardstick::of(&world.manifest, &world.config, 0).unwrap();
    let of = |executed: &Executed| -> Distances {
        let claim = Learnt {
            contribution: &executed.contribution,
            feedback_out: &executed.feedback_out,
            steps: &executed.trace.steps,
        };
        let own = Learnt {
            contribution: &replay.contribution,
            feedback_out: &replay.feedback_out,
            steps: &replay.trace.steps,
        };
        yardstick.distances(claim, own, None).unwrap()
    };
    let found = of(&said);
    assert!((found.distance - 0.001).abs() < 1e-4, "{found:?}");
    assert_eq!(of(&replay), Distances::default());
    let commit = said.commit(&job, None, 1);
    assert_eq!(checked(&job, &commit, &said, &replay).finding, Finding::Pass);
}

#[test]
fn each_lie_is_named_by_what_it_cannot_hide() {
    let world = fast(InnerState::Public);
    let round = first_round(&world);
    let job = world.job(&round, member(1), &[]);
    let honest = run(&job, &world);
    let found = |said: &Executed| {
        let comparison = checked(&job, &said.commit(&job, None, 1), said, &honest);
        what(&comparison)
    };

    let mut half = run(&Job { steps: 2, ..job }, &world);
    let done = half.trace.steps[1];
    let StepRecord { tokens, learned_tokens, .. } = honest.trace.steps[2];
    half.trace.steps.push(StepRecord { tokens, learned_tokens, ..done });
    half.trace.digests.clone_from(&honest.trace.digests);
    half.tokens = honest.tokens;
    let half = forged(&world, &job, &half, &learnt(&world, &half));
    assert_eq!(found(&half), (DivergentPart::Step, Some(2)), "the third step's loss");

    let mut quiet = half;
    quiet.trace.clone_from(&honest.trace);
    assert_eq!(found(&quiet).0, DivergentPart::Distance, "with the right losses, had it known them");

    let mut other_work = job.work.clone();
    other_work.steps[2] = vec![1, 5];
    let mut other = run(&Job { work: &other_work, ..job }, &world);
    other.trace.clone_from(&honest.trace);
    other.tokens = honest.tokens;
    let other = forged(&world, &job, &other, &learnt(&world, &other));
    assert_eq!(found(&other).0, DivergentPart::Distance, "one step of other data");

    let push: Vec<Vec<f32>> = learnt(&world, &honest)
        .into_iter()
        .map(|values| values.into_iter().map(|value| value * 1.02).collect())
        .collect();
    assert_eq!(found(&forged(&world, &job, &honest, &push)).0, DivergentPart::Distance, "2 % more of it");

    let mut short = honest.clone();
    short.trace.steps.pop();
    short.trace.digests = points(2, short.trace.interval).map(|_| Digest::of(b"state")).collect();
    assert_eq!(found(&short).0, DivergentPart::Step, "a trace of fewer steps than the replay");
}

#[test]
fn a_contribution_is_exactly_the_encoding_of_what_it_claims_whatever_the_buffer_makes_up_for() {
    let world = fast(InnerState::Public);
    let round = first_round(&world);
    let job = world.job(&round, member(1), &[]);
    let honest = run(&job, &world);
    let layout = layout_of(&world.config, &world.manifest.terms.stages[0]).unwrap();
    let settings = codec_settings(&world.manifest.terms.contribution);

    // Noise is sent, and a buffer left so that both add up to what was really learnt.
    let noise: Vec<Vec<f32>> = layout
        .tensors()
        .iter()
        .map(|(_, elements)| (0..*elements).map(|at| ((at * 7919 % 101) as f32 - 50.0) * 1e-4).collect())
        .collect();
    let mut said = forged(&world, &job, &honest, &noise);
    let mut buffer = learnt(&world, &honest);
    let sent = Contribution::open(&said.contribution, &settings, &layout).unwrap();
    sent.visit(|view| {
        for (at, value) in view.positions.iter().zip(view.values) {
            buffer[view.chunk.tensor][view.chunk.start as usize + usize::from(*at)] -= value;
        }
    })
    .unwrap();
    let mut bytes = honest.feedback_out[..ErrorFeedback::HEADER_BYTES].to_vec();
    bytes.extend(buffer.iter().flatten().flat_map(|value| value.to_le_bytes()));
    said.feedback_out = bytes;
    let commit = said.commit(&job, None, 1);
    let comparison = checked(&job, &commit, &said, &honest);
    assert_eq!(what(&comparison).0, DivergentPart::Encoding);

    // Under another header: it would count for another round or member.
    let mut readdressed = honest.clone();
    readdressed.contribution[64] ^= 1;
    let commit = readdressed.commit(&job, None, 1);
    assert_eq!(what(&checked(&job, &commit, &readdressed, &honest)).0, DivergentPart::Encoding);

    let mut cut = honest.clone();
    cut.feedback_out.pop();
    let commit = cut.commit(&job, None, 1);
    assert_eq!(what(&checked(&job, &commit, &cut, &honest)).0, DivergentPart::Malformed);
}

#[test]
fn false_second_moments_and_a_boasting_summary_are_named() {
    let world = fast(InnerState::Public);
    let round = first_round(&world);
    let job = world.job(&round, member(1), &[]);
    let honest = run(&job, &world);
    let layout = layout_of(&world.config, &world.manifest.terms.stages[0]).unwrap();
    let settings = codec_settings(&world.manifest.terms.contribution);
    let opened = Contribution::open(&honest.contribution, &settings, &layout).unwrap();
    let mut factors =
        Factors::from_bytes(opened.factors().unwrap(), &matrix_shapes(&world.config, &layout)).unwrap();
    // A doubling: four codes.
    for parameter in &mut factors.0 {
        for code in parameter.rows.iter_mut().chain(&mut parameter.columns).filter(|code| **code > 0) {
            *code += 4;
        }
    }
    let delta = learnt(&world, &honest);
    let slices: Vec<&[f32]> = delta.iter().map(Vec::as_slice).collect();
    let mut feedback = ErrorFeedback::zero(&layout);
    let origin = *opened.header();
    let contribution =
        encode_with(&settings, &layout, &origin.origin, &slices, Some(&factors), &mut feedback).unwrap();
    let said = Executed { contribution, ..honest.clone() };
    let commit = said.commit(&job, None, 1);
    assert_eq!(what(&checked(&job, &commit, &said, &honest)).0, DivergentPart::Moments);

    let mut boasting = honest.commit(&job, None, 1);
    assert_eq!(checked(&job, &boasting, &honest, &honest).finding, Finding::Pass);
    boasting.loss_last_micronats -= 1;
    assert_eq!(what(&checked(&job, &boasting, &honest, &honest)).0, DivergentPart::Summary);
    assert_eq!(boasting.contribution, BlobRef::of(&honest.contribution));
}

#[test]
fn a_blob_that_the_class_needs_and_nobody_gave_is_the_verifiers_trouble() {
    let world = fast(InnerState::Fresh);
    let round = first_round(&world);
    let job = world.job(&round, member(1), &[]);
    let honest = run(&job, &world);
    let commit = honest.commit(&job, None, 1);
    let trace = honest.trace.to_bytes();
    let lacking = Claimed { contribution: None, ..claimed(&honest, &trace) };
    let error = check(&job, &commit, lacking, &honest).unwrap_err().to_string();
    assert!(error.contains("they are not here"), "{error}");
}
