//! A suspicion makes verifiers look, and look more often, and takes nothing from anybody.

#![allow(clippy::unwrap_used, reason = "helpers of a test are part of the test")]

mod world;

use talkoot_protocol::{
    challenge::DrawKey,
    event::{Event, Finding, Role, Signal, Suspicion},
    identity::Keypair,
    real::Real,
    run::{Phase, RuleError, WATCHED_ROUNDS},
};
use world::{World, failed, keys, manifest};

/// A sealed round of three trainers of whom nobody is drawn, and two verifiers.
fn undrawn(rate: f64) -> (World, Vec<Keypair>, Vec<Keypair>) {
    let operator = Keypair::from_seed([9; 32]);
    let mut manifest = manifest(&operator);
    let rules = &mut manifest.terms.verification;
    (rules.probation, rules.rate, rules.min_verifiers) = (0, Real::new(rate), 2);
    manifest.terms.stages[0].rounds = 100;
    let mut world = World::with(operator, manifest);
    let (trainers, verifiers) = (keys(3), [20, 21].map(|seed| Keypair::from_seed([seed; 32])).to_vec());
    for key in &trainers {
        world.join(key, Role::Trainer);
    }
    for key in &verifiers {
        world.join(key, Role::Verifier);
    }
    world.conduct();
    for key in &trainers {
        world.commit(key);
    }
    world.conduct();
    assert_eq!(world.phase(), Phase::Sealed);
    (world, trainers, verifiers)
}

fn suspect(world: &mut World, verifier: &Keypair, commit: u64) -> Result<u64, RuleError> {
    let round = world.state.round().unwrap().open.round;
    world.say(verifier, &Event::Suspicion(Suspicion { round, commit, signal: Signal::Gain }))
}

#[test]
fn what_one_verifier_suspects_all_execute_though_nobody_drew_it() {
    let (mut world, trainers, verifiers) = undrawn(0.0);
    let lie = world.commit_by(&trainers[1]);
    assert!(world.draw(&verifiers[0]).is_empty(), "nothing is drawn");
    suspect(&mut world, &verifiers[1], lie).unwrap();
    assert_eq!(world.state.round().unwrap().open_checks(&verifiers[0].id()), [lie]);
    assert_eq!(world.draw(&verifiers[1]), [lie], "who draws later, too");
    assert!(world.state.unpunished().is_empty(), "it blames nobody");
    let mut waiting = world.state.unfinished_verifiers();
    waiting.sort();
    assert_eq!(waiting.len(), 2, "the round waits for both");
    world.judge(&verifiers[0], lie, failed()).unwrap();
    assert!(world.state.unpunished().contains_key(&trainers[1].id()), "a replay does");
}

#[test]
fn who_is_suspected_for_no_reason_is_in_the_round_and_drawn_more_often_for_a_while() {
    let (mut world, trainers, verifiers) = undrawn(0.1);
    let commit = world.commit_by(&trainers[0]);
    suspect(&mut world, &verifiers[0], commit).unwrap();
    let drawn = verifiers.iter().flat_map(|key| world.draw(key).into_iter().map(move |at| (key, at)));
    let drawn: Vec<(&Keypair, u64)> = drawn.collect();
    for (key, commit) in drawn {
        world.judge(key, commit, Finding::Pass).unwrap();
    }
    world.conduct();
    let round = world.state.round().unwrap();
    assert_eq!(round.included().len(), 3);
    // How often each is drawn from now on, by many verifiers that might have drawn.
    let mut drawn = [[0u32; 2]; 2];
    let mut rounds = [0u32; 2];
    for number in 1..=WATCHED_ROUNDS * 2 {
        for key in &trainers {
            world.report(key);
        }
        world.conduct();
        assert_eq!(world.state.round().unwrap().open.round, number);
        for key in &trainers {
            world.commit(key);
        }
        world.conduct();
        let (suspected, other) = (world.commit_by(&trainers[0]), world.commit_by(&trainers[1]));
        let watched = usize::from(number <= WATCHED_ROUNDS);
        rounds[watched] += 1;
        for key in &verifiers {
            let log = world.state.sealed_log().unwrap();
            let (_, draws) = world.state.draws_of(&key.id(), &DrawKey::of(key).draw(&log)).unwrap();
            drawn[watched][0] += u32::from(draws.contains(&suspected));
            drawn[watched][1] += u32::from(draws.contains(&other));
            for commit in world.draw(key) {
                world.judge(key, commit, Finding::Pass).unwrap();
            }
        }
        world.conduct();
    }
    assert_eq!(rounds, [10, 10]);
    // Keys are fixed, so that the draws are: 20 of each kind, at 0.4 and at 0.1.
    assert!(drawn[1][0] >= 2 * drawn[1][1].max(1) && drawn[1][0] >= 5, "{drawn:?}");
    assert!(drawn[0][0] <= 5, "and no longer than that: {drawn:?}");
}

#[test]
fn a_verifier_suspects_once_a_round_and_only_what_can_still_be_looked_at() {
    let (mut world, trainers, verifiers) = undrawn(0.0);
    let commit = world.commit_by(&trainers[0]);
    let stranger = suspect(&mut world, &trainers[1].clone(), commit).unwrap_err();
    assert!(matches!(stranger, RuleError::NotAMember { wanted: "verifier", .. }), "{stranger}");
    let nothing = suspect(&mut world, &verifiers[0], 0).unwrap_err().to_string();
    assert!(nothing.contains("a commit of the round that its member has not opened"), "{nothing}");
    let old = Event::Suspicion(Suspicion { round: 7, commit, signal: Signal::Norm });
    assert!(matches!(world.say(&verifiers[0], &old), Err(RuleError::Mismatch { field: "round", .. })));
    suspect(&mut world, &verifiers[0], commit).unwrap();
    let other = world.commit_by(&trainers[1]);
    let again = suspect(&mut world, &verifiers[0], other).unwrap_err();
    assert!(matches!(again, RuleError::AlreadySaid { kind: "suspicion", .. }), "{again}");
    suspect(&mut world, &verifiers[1], other).unwrap();
    let (first, second) = (world.draw(&verifiers[0]), world.draw(&verifiers[1]));
    assert_eq!((first.len(), second.len()), (2, 2));
    for key in &verifiers {
        for commit in [commit, other] {
            world.judge(key, commit, Finding::Pass).unwrap();
        }
    }
    world.conduct();
    assert_eq!(world.phase(), Phase::Closed);
    let late = suspect(&mut world, &verifiers[0], commit).unwrap_err();
    assert!(matches!(late, RuleError::WrongPhase { .. }), "{late}");
}
