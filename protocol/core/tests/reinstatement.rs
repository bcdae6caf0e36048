//! Who was excluded may come back once, where the manifest says so, and begins anew.

#![allow(clippy::unwrap_used, reason = "helpers of a test are part of the test")]

mod world;

use talkoot_protocol::{
    event::{Event, Finding, Join, Role},
    identity::Keypair,
    run::{Phase, RuleError},
};
use world::{World, failed, keys, manifest, next_round, tribunal};

/// A run of three trainers that lets the excluded come back after two rounds; the third lies in round 0 and is excluded.
fn with_an_excluded_liar(reinstate_after: Option<u32>) -> (World, Vec<Keypair>, Keypair) {
    let operator = Keypair::from_seed([9; 32]);
    let mut manifest = manifest(&operator);
    manifest.terms.verification.reinstate_after = reinstate_after;
    manifest.terms.stages[0].rounds = 9;
    let mut world = World::with(operator, manifest);
    let (trainers, verifier) = (keys(3), Keypair::from_seed([20; 32]));
    for key in &trainers {
        world.join(key, Role::Trainer);
    }
    world.join(&verifier, Role::Verifier);
    world.conduct();
    lie_once(&mut world, &trainers, &verifier);
    (world, trainers, verifier)
}

/// A round in which the last of `trainers` is found to have lied, up to the opening of the next.
fn lie_once(world: &mut World, trainers: &[Keypair], verifier: &Keypair) {
    for key in trainers {
        world.commit(key);
    }
    world.conduct();
    let lie = world.commit_by(&trainers[trainers.len() - 1]);
    for commit in world.draw(verifier) {
        let finding = if commit == lie { failed() } else { Finding::Pass };
        world.judge(verifier, commit, finding).unwrap();
    }
    world.conduct();
    for key in &trainers[..trainers.len() - 1] {
        world.report(key);
    }
    world.around.present.remove(&trainers[trainers.len() - 1].id());
    world.conduct();
    assert_eq!(world.phase(), Phase::Training);
}

fn rejoin(world: &World) -> Event {
    Event::Join(Join { role: Role::Trainer, seen: world.state.size(), draw_key: None, recovery: None })
}

#[test]
fn an_excluded_trainer_comes_back_when_its_time_is_over_and_begins_anew() {
    let (mut world, trainers, verifier) = with_an_excluded_liar(Some(2));
    let (good, liar) = (&trainers[..2], &trainers[2]);
    let penalty = world.state.members()[&liar.id()].excluded.unwrap();
    let early = world.say(liar, &rejoin(&world)).unwrap_err();
    let first = match early {
        RuleError::Excluded { may_return: Some(first), .. } => first,
        other => panic!("{other}"),
    };
    assert!(early.to_string().ends_with(&format!("and may join again from round {first} on")), "{early}");
    while world.state.progress().next_round < first {
        assert!(world.say(liar, &rejoin(&world)).is_err(), "not before round {first}");
        for key in good {
            world.commit(key);
        }
        world.conduct();
        next_round(&mut world, good, &verifier);
    }
    assert_eq!(world.state.round().unwrap().open.round, 2, "two rounds without it");
    let old = Join { role: Role::Trainer, seen: penalty, draw_key: None, recovery: None };
    let replayed = world.say(liar, &Event::Join(old)).unwrap_err().to_string();
    assert!(replayed.contains("older than its penalty"), "{replayed}");
    world.say(liar, &rejoin(&world)).unwrap();
    let member = &world.state.members()[&liar.id()];
    assert_eq!((member.excluded, member.streak, member.feedback), (None, 0, None));
    world.around.present.insert(liar.id());
    for key in good {
        world.commit(key);
    }
    world.conduct();
    next_round(&mut world, good, &verifier);
    assert_eq!(world.commit_of(liar).feedback_in, None);
    // and the second time is the last
    lie_once(&mut world, &trainers, &verifier);
    let late = world.say(liar, &rejoin(&world)).unwrap_err();
    assert!(matches!(late, RuleError::Excluded { may_return: None, .. }), "{late}");
    assert!(late.to_string().ends_with("for good"), "{late}");
}

#[test]
fn without_the_term_and_for_a_verifier_an_exclusion_is_for_good() {
    let (mut world, trainers, _) = with_an_excluded_liar(None);
    let refused = world.say(&trainers[2], &rejoin(&world)).unwrap_err();
    assert!(matches!(refused, RuleError::Excluded { may_return: None, .. }), "{refused}");

    let (mut world, trainers, verifiers) = tribunal();
    let commit = world.commit_by(&trainers[0]);
    world.judge(&verifiers[0], commit, failed()).unwrap();
    world.judge(&verifiers[1], commit, Finding::Pass).unwrap();
    world.judge(&verifiers[2], commit, Finding::Pass).unwrap();
    world.conduct();
    let accuser = &world.state.members()[&verifiers[0].id()];
    assert!(accuser.excluded.is_some());
    assert_eq!(accuser.may_return, None);
}
