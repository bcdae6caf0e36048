//! A member's key may change, be taken back and end; what the member did and earned stays its own.

#![allow(clippy::unwrap_used, reason = "helpers of a test are part of the test")]

mod world;

use talkoot_protocol::{
    challenge::DrawKey,
    digest::{BlobRef, Digest},
    event::{Challenge, Event, Finding, Join, Leave, Outcome, Revoke, Role, Rotate},
    identity::{Keypair, MemberId},
    run::{Phase, RuleError},
};
use world::{World, failed, keys, next_round};

/// A run of three trainers with one verifier; the first trainer has named a recovery key. One round is done.
fn with_recovery() -> (World, Vec<Keypair>, Keypair, Keypair) {
    let mut world = World::new();
    let (trainers, verifier) = (keys(3), Keypair::from_seed([20; 32]));
    let recovery = Keypair::from_seed([40; 32]);
    for (at, key) in trainers.iter().enumerate() {
        let recovery = (at == 0).then(|| recovery.id());
        let join = Join { role: Role::Trainer, seen: world.state.size(), draw_key: None, recovery };
        world.say(key, &Event::Join(join)).unwrap();
        world.around.present.insert(key.id());
    }
    world.join(&verifier, Role::Verifier);
    world.conduct();
    for key in &trainers {
        world.commit(key);
    }
    world.conduct();
    next_round(&mut world, &trainers, &verifier);
    (world, trainers, verifier, recovery)
}

impl World {
    fn rotate(&mut self, by: &Keypair, old: MemberId, new: &Keypair) -> Result<u64, RuleError> {
        let draw_key = self.state.members().get(&old).and_then(|member| member.draw_key);
        let draw_key = draw_key.map(|_| DrawKey::of(new).public());
        self.say(by, &Event::Rotate(Rotate::new(&self.state.run(), old, new, draw_key)))
    }
}

#[test]
fn a_rotated_member_goes_on_as_it_was_and_its_old_key_signs_nothing_more() {
    let (mut world, trainers, verifier, _) = with_recovery();
    let (old, new) = (&trainers[1], Keypair::from_seed([50; 32]));
    let before = world.state.members()[&old.id()].clone();
    assert!(before.streak > 0 && before.feedback.is_some());
    let index = world.rotate(old, old.id(), &new).unwrap();
    let after = world.state.members()[&new.id()].clone();
    assert_eq!((after.streak, after.feedback, after.sealed), (before.streak, before.feedback, before.sealed));
    assert_eq!(world.state.heir(old.id()), new.id());
    // a good commit, signed too late
    let commit = Event::Commit(world.commit_of(old));
    let refused = world.say(old, &commit).unwrap_err();
    assert_eq!(refused, RuleError::RetiredKey { kind: "commit", author: old.id(), index });
    let back =
        Event::Join(Join { role: Role::Trainer, seen: world.state.size(), draw_key: None, recovery: None });
    assert!(matches!(world.say(old, &back), Err(RuleError::RetiredKey { kind: "join", .. })));
    // nobody waits for the old key; the new one has a seat in the next round, and goes on from the buffer that it inherited
    assert!(!world.state.awaited().contains(&old.id()));
    world.around.present.remove(&old.id());
    world.around.present.insert(new.id());
    world.commit(&trainers[0]);
    world.commit(&trainers[2]);
    world.around.now_ms += 20_000;
    world.conduct();
    next_round(&mut world, &[trainers[0].clone(), trainers[2].clone()], &verifier);
    assert_eq!(world.commit_of(&new).feedback_in, before.feedback.map(|(_, blob)| blob));
    world.commit(&new);
}

#[test]
fn who_lied_before_rotating_is_excluded_under_the_new_name() {
    let (mut world, trainers, verifier, _) = with_recovery();
    let (old, new) = (&trainers[1], Keypair::from_seed([50; 32]));
    for key in &trainers {
        world.commit(key);
    }
    world.conduct();
    world.rotate(old, old.id(), &new).unwrap();
    let lie = world.commit_by(old);
    let drawn = world.draw(&verifier);
    assert!(drawn.contains(&lie), "probation: everything is drawn");
    world.judge(&verifier, lie, failed()).unwrap();
    assert!(world.state.unpunished().contains_key(&new.id()), "{:?}", world.state.unpunished());
    world.conduct();
    assert!(world.state.members()[&new.id()].excluded.is_some());
    // and one that rotates when the check has failed already
    let (mut world, trainers, verifier, _) = with_recovery();
    for key in &trainers {
        world.commit(key);
    }
    world.conduct();
    let lie = world.commit_by(&trainers[1]);
    world.draw(&verifier);
    world.judge(&verifier, lie, failed()).unwrap();
    world.rotate(&trainers[1], trainers[1].id(), &new).unwrap();
    world.conduct();
    assert!(world.state.members()[&new.id()].excluded.is_some());
    let again = world.rotate(&new, new.id(), &Keypair::from_seed([51; 32])).unwrap_err();
    assert!(matches!(again, RuleError::Excluded { .. }), "{again}");
}

#[test]
fn a_stolen_key_is_taken_back_with_the_recovery_key_and_begins_its_probation_anew() {
    let (mut world, trainers, _, recovery) = with_recovery();
    let (stolen, thief) = (&trainers[0], Keypair::from_seed([60; 32]));
    let not_its = world.rotate(&recovery, trainers[1].id(), &thief).unwrap_err().to_string();
    assert!(not_its.contains("only the key itself and the recovery key"), "{not_its}");
    // the thief is first
    world.rotate(stolen, stolen.id(), &thief).unwrap();
    let mine = Keypair::from_seed([61; 32]);
    let at_once = world.rotate(&recovery, thief.id(), &mine).unwrap_err().to_string();
    assert!(at_once.contains("rotated in this round already"), "{at_once}");
    world.say(&recovery, &Event::Revoke(Revoke { member: thief.id() })).unwrap();
    let commit = world.say(&thief, &Event::Leave(Leave { seen: 3 })).unwrap_err();
    assert!(matches!(commit, RuleError::RetiredKey { .. }), "{commit}");

    let (mut world, trainers, _, recovery) = with_recovery();
    assert!(world.state.members()[&trainers[0].id()].streak > 0);
    world.rotate(&recovery, trainers[0].id(), &mine).unwrap();
    let heir = &world.state.members()[&mine.id()];
    assert_eq!((heir.streak, heir.recovery), (0, Some(recovery.id())), "nobody knows who earned the streak");
}

#[test]
fn a_revoked_key_is_worth_nothing_and_stays_so() {
    let (mut world, trainers, _, recovery) = with_recovery();
    let stranger = Keypair::from_seed([70; 32]);
    let revoke = |key: &Keypair| Event::Revoke(Revoke { member: key.id() });
    let refused = world.say(&stranger, &revoke(&trainers[0])).unwrap_err();
    assert!(matches!(refused, RuleError::Succession { kind: "revoke", .. }), "{refused}");
    assert!(world.say(&trainers[1], &revoke(&trainers[0])).is_err(), "another member is a stranger too");
    let index = world.say(&recovery, &revoke(&trainers[0])).unwrap();
    let refused = world.say(&trainers[0], &Event::Leave(Leave { seen: world.state.size() })).unwrap_err();
    assert_eq!(refused, RuleError::RetiredKey { kind: "leave", author: trainers[0].id(), index });
    assert!(world.say(&recovery, &revoke(&trainers[0])).is_err(), "once");
    world.say(&trainers[1], &revoke(&trainers[1])).unwrap();
    assert!(!world.state.members()[&trainers[1].id()].is_active());
}

#[test]
fn a_rotation_needs_the_successors_consent_and_a_key_of_its_own() {
    let (mut world, trainers, _, recovery) = with_recovery();
    let (old, new) = (&trainers[0], Keypair::from_seed([50; 32]));
    let run = world.state.run();
    let good = Rotate::new(&run, old.id(), &new, None);
    let mut forged = good.clone();
    forged.consent = Rotate::new(&Digest::of(b"another run"), old.id(), &new, None).consent;
    let why = world.say(old, &Event::Rotate(forged)).unwrap_err().to_string();
    assert!(why.contains("the successor has not signed it"), "{why}");
    for taken in [&trainers[1], &recovery, &world.operator.clone()] {
        let why = world.rotate(old, old.id(), taken).unwrap_err().to_string();
        assert!(why.contains("has another part in this run"), "{why}");
    }
    let with_draw_key = Rotate::new(&run, old.id(), &new, Some(Digest::of(b"draw")));
    let why = world.say(old, &Event::Rotate(with_draw_key)).unwrap_err().to_string();
    assert!(why.contains("a new draw key comes with it when the member has one"), "{why}");
    world.say(old, &Event::Rotate(good)).unwrap();
    let next = Keypair::from_seed([51; 32]);
    let why = world.rotate(&new, new.id(), &next).unwrap_err().to_string();
    assert!(why.contains("rotated in this round already"), "names are not free: {why}");
}

#[test]
fn a_verifier_draws_once_whatever_key_it_has() {
    let (mut world, trainers, verifier, _) = with_recovery();
    let new = Keypair::from_seed([80; 32]);
    for key in &trainers {
        world.commit(key);
    }
    world.conduct();
    assert_eq!(world.phase(), Phase::Sealed);
    // it has seen what its draw would be, and does not like it
    world.rotate(&verifier, verifier.id(), &new).unwrap();
    let log = world.state.sealed_log().unwrap();
    let again = Event::Challenge(Challenge { round: log.round, proof: DrawKey::of(&new).draw(&log) });
    let why = world.say(&new, &again).unwrap_err().to_string();
    assert!(why.contains("draws from the next round on"), "{why}");
    assert!(world.state.unfinished_verifiers().is_empty(), "nobody waits for it in this round");
}

#[test]
fn who_rotates_has_one_voice() {
    let (mut world, trainers, verifier, _) = with_recovery();
    for key in &trainers {
        world.commit(key);
    }
    world.conduct();
    let round = world.state.round().unwrap().open.round;
    for commit in world.draw(&verifier) {
        world.judge(&verifier, commit, Finding::Pass).unwrap();
    }
    world.conduct();
    assert_eq!(world.phase(), Phase::Closed);
    let outcome = Event::Outcome(Outcome { round, state: BlobRef { digest: Digest::of(b"mine"), bytes: 5 } });
    world.say(&trainers[1], &outcome).unwrap();
    let new = Keypair::from_seed([50; 32]);
    world.rotate(&trainers[1], trainers[1].id(), &new).unwrap();
    assert!(matches!(world.say(&new, &outcome), Err(RuleError::AlreadySaid { kind: "outcome", .. })));
}

#[test]
fn the_round_that_an_opening_settles_is_still_there() {
    let (world, ..) = with_recovery();
    let settled = world.state.settled_round().unwrap();
    assert_eq!((settled.open.round, settled.phase(), settled.included().len()), (0, Phase::Closed, 3));
    assert_eq!(world.state.round().unwrap().open.round, 1);
}
