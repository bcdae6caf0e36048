//! Whole runs in milliseconds: the conductor and the fold with invented members, and a ledger to replay.

#![allow(clippy::unwrap_used, reason = "helpers of a test are part of the test")]

mod world;

use std::collections::BTreeMap;

use talkoot_protocol::{
    challenge::DrawKey,
    conductor::next_event,
    digest::{BlobRef, Digest},
    event::{
        Challenge, Commit, Deviation, Divergence, DivergentPart, Event, ExclusionReason, Finding, Join, Late,
        Leave, Outcome, Role, Verdict,
    },
    identity::Keypair,
    manifest::{Tolerance, VerificationClass},
    real::Real,
    run::{Judgement, Phase, RuleError, RunState},
};
use world::{World, failed, keys, manifest, next_round, run, tribunal};

#[test]
fn an_honest_run_ends_and_replays_to_the_same_state() {
    let mut world = World::new();
    let trainers = keys(3);
    let verifier = Keypair::from_seed([20; 32]);
    for key in &trainers {
        world.join(key, Role::Trainer);
    }
    world.join(&verifier, Role::Verifier);
    run(&mut world, &trainers, &verifier, None);
    assert_eq!(world.state.progress().next_round, 3);
    assert_eq!(world.state.totals().included, 9);
    assert_eq!(world.state.totals().failed, 0);
    // Probation is two checks, so that at least those were made of everybody.
    assert!(world.state.totals().passed >= 6);

    let mut replayed = RunState::begin(&world.log[0]).unwrap();
    for entry in &world.log[1..] {
        replayed.apply(entry).unwrap();
    }
    assert_eq!(format!("{replayed:?}"), format!("{:?}", world.state));
}

#[test]
fn a_liar_is_excluded_and_the_run_ends_without_it() {
    let mut world = World::new();
    let trainers = keys(3);
    let verifier = Keypair::from_seed([20; 32]);
    for key in &trainers {
        world.join(key, Role::Trainer);
    }
    world.join(&verifier, Role::Verifier);
    let liar = trainers[1].id();
    run(&mut world, &trainers, &verifier, Some(liar));
    assert!(world.state.members()[&liar].excluded.is_some());
    assert_eq!(world.state.totals().failed, 1);
    assert_eq!(world.state.totals().included, 6, "nothing of the liar, everything of the others");
    let again =
        Event::Join(Join { role: Role::Trainer, seen: world.state.size(), draw_key: None, recovery: None });
    assert!(matches!(world.say(&trainers[1].clone(), &again), Err(RuleError::AfterTheEnd { .. })));
}

#[test]
fn work_of_a_vanished_member_is_dealt_again() {
    let mut world = World::new();
    let trainers = keys(3);
    let verifier = Keypair::from_seed([20; 32]);
    for key in &trainers {
        world.join(key, Role::Trainer);
    }
    world.join(&verifier, Role::Verifier);
    world.conduct();
    let lost = world.state.round().unwrap().work_of(&trainers[2].id()).unwrap().steps.concat();
    world.commit(&trainers[0]);
    world.commit(&trainers[1]);
    world.around.present.remove(&trainers[2].id());
    assert_eq!(world.conduct(), 0, "somebody may be out of reach for a moment");
    world.around.now_ms += 20_000;
    assert_eq!(world.conduct(), 1);
    assert_eq!(world.phase(), Phase::Sealed);
    for commit in world.draw(&verifier) {
        let verdict = Verdict { round: 0, commit, finding: Finding::Pass, deviation: None };
        world.say(&verifier, &Event::Verdict(verdict)).unwrap();
    }
    world.conduct();
    for key in &trainers[..2] {
        world.report(key);
    }
    world.conduct();
    assert_eq!(world.phase(), Phase::Training);
    let dealt: Vec<u64> =
        world.state.round().unwrap().work.iter().flat_map(|work| work.steps.concat()).collect();
    assert!(lost.iter().all(|pack| dealt.contains(pack)), "{lost:?} are among {dealt:?}");
}

/// A world in which the first two of three trainers have committed, the third was too late, and its work is told.
fn one_is_late() -> (World, Vec<Keypair>, Keypair, Late) {
    let mut world = World::new();
    let trainers = keys(3);
    let verifier = Keypair::from_seed([20; 32]);
    for key in &trainers {
        world.join(key, Role::Trainer);
    }
    world.join(&verifier, Role::Verifier);
    world.conduct();
    let late = Late { commit: world.commit_of(&trainers[2]), restored: BlobRef::of(b"restored") };
    world.commit(&trainers[0]);
    world.commit(&trainers[1]);
    let event = Event::Late(Box::new(late.clone()));
    let early = world.say(&trainers[2], &event);
    assert!(
        matches!(early, Err(RuleError::WrongPhase { kind: "late", phase: Phase::Training })),
        "{early:?}"
    );
    world.around.present.remove(&trainers[2].id());
    world.around.now_ms += 20_000;
    world.conduct();
    assert_eq!(world.phase(), Phase::Sealed);
    world.around.present.insert(trainers[2].id());
    world.say(&trainers[2], &event).unwrap();
    (world, trainers, verifier, late)
}

#[test]
fn what_came_too_late_is_carried_by_the_next_commit_and_checked_with_it() {
    let (mut world, trainers, verifier, late) = one_is_late();
    let id = trainers[2].id();
    assert_eq!(world.state.members()[&id].feedback, Some((0, late.restored)));
    let again = world.say(&trainers[2], &Event::Late(Box::new(late.clone())));
    assert!(matches!(again, Err(RuleError::AlreadySaid { kind: "late", .. })), "{again:?}");
    let committed = world.say(&trainers[0], &Event::Late(Box::new(late.clone())));
    assert!(committed.is_err(), "who committed was not late: {committed:?}");
    next_round(&mut world, &trainers, &verifier);

    let old = late.commit.feedback_in;
    let mut forgetful = world.commit_of(&trainers[2]);
    assert_eq!(forgetful.feedback_in, Some(late.restored));
    forgetful.feedback_in = Some(old.unwrap_or(late.commit.feedback_out));
    assert!(
        world.say(&trainers[2], &Event::Commit(forgetful)).is_err(),
        "neither the old buffer nor another"
    );
    for key in &trainers {
        world.commit(key);
    }
    let record = &world.state.round().unwrap().commits[&id];
    let carried = record.late.as_ref().expect("who checks the commit sees the late work");
    assert_eq!((carried.commit.clone(), carried.restored), (late.commit.clone(), late.restored));
    assert_eq!(carried.round.work_of(&id).unwrap().digest(late.commit.steps), late.commit.work);
    assert!(world.state.round().unwrap().commits[&trainers[0].id()].late.is_none());
    world.conduct();
    assert!(world.state.members()[&id].late.is_none(), "carried once");
}

#[test]
fn late_work_is_bound_by_the_rules_of_a_commit_and_by_its_round() {
    let (mut world, trainers, verifier, late) = one_is_late();
    next_round(&mut world, &trainers, &verifier);
    let old = world.say(&trainers[2], &Event::Late(Box::new(late.clone())));
    assert!(matches!(old, Err(RuleError::WrongPhase { .. })), "the next round is open: {old:?}");
    // late a second time in a row, on top of what nobody has checked yet
    let second = Late { commit: world.commit_of(&trainers[2]), restored: BlobRef::of(b"restored twice") };
    world.commit(&trainers[0]);
    world.commit(&trainers[1]);
    world.around.present.remove(&trainers[2].id());
    world.around.now_ms += 20_000;
    world.conduct();
    let refused = world.say(&trainers[2], &Event::Late(Box::new(second.clone())));
    assert!(matches!(refused, Err(RuleError::AlreadySaid { .. })), "{refused:?}");
    let mut boasting = second.clone();
    (boasting.commit.feedback_in, boasting.commit.tokens) = (None, u64::MAX);
    let refused = world.say(&trainers[2], &Event::Late(Box::new(boasting)));
    assert!(matches!(refused, Err(RuleError::Mismatch { field: "tokens", .. })), "{refused:?}");
    let mut from_zero = second;
    from_zero.commit.feedback_in = None;
    world.say(&trainers[2], &Event::Late(Box::new(from_zero))).unwrap();
}

#[test]
fn each_rule_is_named_when_it_is_broken() {
    let mut world = World::new();
    let trainers = keys(3);
    let verifier = Keypair::from_seed([20; 32]);
    let stranger = Keypair::from_seed([30; 32]);
    let operator = world.operator.clone();
    for key in &trainers {
        world.join(key, Role::Trainer);
    }
    world.join(&verifier, Role::Verifier);

    let open = next_event(&world.state, &world.around).unwrap();
    assert!(matches!(world.say(&trainers[0], &open), Err(RuleError::NotTheOperator { .. })));
    let mut elsewhere = open;
    if let Event::RoundOpen(open) = &mut elsewhere {
        open.start_state = BlobRef::of(b"weights of its own");
    }
    let refused = world.say(&operator, &elsewhere);
    assert!(matches!(refused, Err(RuleError::Mismatch { field: "start_state", .. })), "{refused:?}");
    world.conduct();

    let good = world.commit_of(&trainers[0]);
    let commit = |change: fn(&mut Commit)| {
        let mut commit = good.clone();
        change(&mut commit);
        Event::Commit(commit)
    };
    let field = |error: Result<u64, RuleError>| match error {
        Err(RuleError::Mismatch { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    assert!(matches!(world.say(&stranger, &commit(|_| ())), Err(RuleError::NotAMember { .. })));
    assert_eq!(field(world.say(&trainers[0], &commit(|c| c.round = 7))), "round");
    assert_eq!(
        field(world.say(&trainers[0], &commit(|c| c.start_state = Digest::of(b"old")))),
        "start_state"
    );
    assert_eq!(field(world.say(&trainers[0], &commit(|c| c.steps = 99))), "steps");
    assert_eq!(field(world.say(&trainers[0], &commit(|c| c.steps = 2))), "work");
    assert_eq!(field(world.say(&trainers[0], &commit(|c| c.tokens = u64::MAX))), "tokens");
    assert_eq!(field(world.say(&trainers[1], &commit(|_| ()))), "work", "somebody else's work");
    assert_eq!(
        field(world.say(&trainers[0], &commit(|c| c.feedback_in = Some(BlobRef::of(b"made up"))))),
        "feedback_in"
    );
    assert_eq!(field(world.say(&trainers[0], &commit(|c| c.contribution.bytes = 1 << 40))), "contribution");
    world.commit(&trainers[0]);
    assert!(matches!(world.say(&trainers[0], &commit(|_| ())), Err(RuleError::AlreadySaid { .. })));

    let sealed = world.state.round().unwrap().commits.values().map(|record| record.index).collect();
    let seal = Event::Seal(talkoot_protocol::event::Seal { round: 0, commits: sealed });
    assert!(matches!(world.say(&operator, &seal), Err(RuleError::TooEarly { .. })));
    let hiding = Event::Seal(talkoot_protocol::event::Seal { round: 0, commits: Vec::new() });
    assert_eq!(field(world.say(&operator, &hiding)), "commits", "a logged commit cannot be left out");
    world.commit(&trainers[1]);
    world.commit(&trainers[2]);
    world.conduct();

    let other = DrawKey::of(&stranger).draw(&world.state.sealed_log().unwrap());
    let forged = Event::Challenge(Challenge { round: 0, proof: other });
    assert!(matches!(world.say(&verifier, &forged), Err(RuleError::Draw(_))));
    let close = Event::RoundClose(talkoot_protocol::event::RoundClose {
        round: 0,
        included: world.state.round().unwrap().commits.values().map(|record| record.index).collect(),
        excluded: Vec::new(),
    });
    assert!(matches!(world.say(&operator, &close), Err(RuleError::TooEarly { .. })), "no draw yet");
    let drawn = world.draw(&verifier);
    assert!(matches!(world.say(&operator, &close), Err(RuleError::TooEarly { .. })), "no verdict yet");
    for commit in &drawn[1..] {
        let verdict = Verdict { round: 0, commit: *commit, finding: Finding::Pass, deviation: None };
        world.say(&verifier, &Event::Verdict(verdict)).unwrap();
    }
    let fail = Verdict { round: 0, commit: drawn[0], finding: failed(), deviation: None };
    let verdict = world.say(&verifier, &Event::Verdict(fail.clone())).unwrap();
    assert!(matches!(world.say(&verifier, &Event::Verdict(fail)), Err(RuleError::AlreadySaid { .. })));
    assert!(
        matches!(world.say(&operator, &close), Err(RuleError::FoundFalse { .. })),
        "a friend cannot be spared"
    );
    let exclude = |commit: u64| {
        let failed = ExclusionReason::FailedCheck(verdict);
        let reason = if commit == drawn[0] { failed } else { ExclusionReason::NotRevealed };
        talkoot_protocol::event::Exclusion { commit, reason }
    };
    let commits = world.state.round().unwrap().seal.as_ref().unwrap().commits.clone();
    let nobody = Event::RoundClose(talkoot_protocol::event::RoundClose {
        round: 0,
        included: Vec::new(),
        excluded: commits.iter().map(|(_, commit)| exclude(*commit)).collect(),
    });
    match world.say(&operator, &nobody) {
        Err(RuleError::TooEarly { waiting, .. }) => {
            assert!(waiting.contains("still be revealed"), "{waiting}")
        }
        other => panic!("blobs may come until the deadline: {other:?}"),
    }
    world.conduct();
    assert_eq!(world.phase(), Phase::Closed);

    let wrong = Outcome { round: 0, state: BlobRef { digest: Digest::of(b"x"), bytes: 6 } };
    assert_eq!(field(world.say(&verifier, &Event::Outcome(wrong))), "state length");
    let leave = Event::Leave(Leave { seen: world.state.size() });
    assert!(matches!(world.say(&stranger, &leave), Err(RuleError::NotAMember { .. })));
}

#[test]
fn an_old_join_cannot_be_played_again_after_a_leave() {
    let mut world = World::new();
    let key = Keypair::from_seed([1; 32]);
    let join = Event::Join(Join { role: Role::Trainer, seen: 1, draw_key: None, recovery: None });
    world.say(&key, &join).unwrap();
    world.say(&key, &Event::Leave(Leave { seen: 2 })).unwrap();
    assert!(matches!(world.say(&key, &join), Err(RuleError::NotAdmitted { .. })));
    let fresh = Event::Join(Join { role: Role::Trainer, seen: 3, draw_key: None, recovery: None });
    world.say(&key, &fresh).unwrap();
}

#[test]
fn the_state_that_most_members_report_goes_on() {
    let mut world = World::new();
    let trainers = keys(3);
    let verifier = Keypair::from_seed([20; 32]);
    for key in &trainers {
        world.join(key, Role::Trainer);
    }
    world.join(&verifier, Role::Verifier);
    world.conduct();
    for key in &trainers {
        world.commit(key);
    }
    world.conduct();
    for commit in world.draw(&verifier) {
        let verdict = Verdict { round: 0, commit, finding: Finding::Pass, deviation: None };
        world.say(&verifier, &Event::Verdict(verdict)).unwrap();
    }
    world.conduct();
    let reports: BTreeMap<usize, &[u8]> = [(0, b"wrong".as_slice()), (1, b"right"), (2, b"right")].into();
    for (i, text) in reports {
        let state = BlobRef { digest: Digest::of(text), bytes: 5 };
        world.say(&trainers[i], &Event::Outcome(Outcome { round: 0, state })).unwrap();
        if i < 2 {
            assert_eq!(world.conduct(), 0);
        }
    }
    assert_eq!(world.conduct(), 0, "two of four voters are no majority");
    world.around.now_ms += 30_000;
    assert_eq!(world.conduct(), 1, "after the deadline the most votes decide");
    assert_eq!(world.state.state().digest, Digest::of(b"right"));
}

#[test]
fn one_accusation_excludes_nobody_and_two_do() {
    let (mut world, trainers, verifiers) = tribunal();
    let commit = world.commit_by(&trainers[0]);
    world.judge(&verifiers[0], commit, failed()).unwrap();
    assert_eq!(world.state.round().unwrap().judgement(commit), Judgement::Accused(world.state.size() - 1));
    assert!(world.state.unpunished().is_empty(), "one word is not enough");
    let second = world.judge(&verifiers[1], commit, failed()).unwrap();
    assert_eq!(world.state.round().unwrap().judgement(commit), Judgement::Failed(second));
    assert_eq!(world.state.unpunished().get(&trainers[0].id()), Some(&second));
    // The third stamps it, against two: it has lied.
    let stamp = world.judge(&verifiers[2], commit, Finding::Pass).unwrap();
    assert_eq!(world.state.unpunished().get(&verifiers[2].id()), Some(&stamp));
    world.conduct();
    world.pass_the_rest(&verifiers[..2]);
    world.conduct();
    let close = &world.state.round().unwrap().close.as_ref().unwrap().1;
    assert_eq!((close.included.len(), close.excluded.len()), (2, 1));
    assert!(world.state.members()[&trainers[0].id()].excluded.is_some());
    assert!(world.state.members()[&verifiers[2].id()].excluded.is_some());
}

#[test]
fn a_false_accusation_is_cleared_by_two_and_falls_back_on_the_accuser() {
    let (mut world, trainers, verifiers) = tribunal();
    let commit = world.commit_by(&trainers[0]);
    let accusation = world.judge(&verifiers[0], commit, failed()).unwrap();
    for key in &verifiers[1..] {
        assert!(world.state.round().unwrap().open_checks(&key.id()).contains(&commit), "all others look");
    }
    world.pass_the_rest(&verifiers);
    assert_eq!(world.state.round().unwrap().judgement(commit), Judgement::Cleared);
    assert_eq!(
        world.state.unpunished().clone().into_iter().collect::<Vec<_>>(),
        [(verifiers[0].id(), accusation)]
    );
    world.conduct();
    let close = &world.state.round().unwrap().close.as_ref().unwrap().1;
    assert_eq!((close.included.len(), close.excluded.len()), (3, 0), "the accused is in");
    assert_eq!(world.state.members()[&trainers[0].id()].excluded, None);
}

#[test]
fn what_nobody_confirms_is_left_out_and_nobody_is_blamed() {
    let (mut world, trainers, verifiers) = tribunal();
    let commit = world.commit_by(&trainers[0]);
    let accusation = world.judge(&verifiers[0], commit, failed()).unwrap();
    world.pass_the_rest(&verifiers[..1]);
    assert_eq!(world.conduct(), 0, "the others still have time to look");
    world.around.now_ms += 60_000;
    world.conduct();
    let close = &world.state.round().unwrap().close.as_ref().unwrap().1;
    assert_eq!(close.excluded.len(), 1);
    assert_eq!(close.excluded[0].reason, ExclusionReason::FailedCheck(accusation));
    assert!(world.state.members().values().all(|member| member.excluded.is_none()));
}

#[test]
fn samples_accuse_without_a_draw_and_a_replay_does_not() {
    let operator = Keypair::from_seed([9; 32]);
    let mut manifest = manifest(&operator);
    manifest.terms.verification.probation = 0;
    manifest.terms.verification.rate = talkoot_protocol::real::Real::new(0.0);
    let mut world = World::with(operator, manifest);
    let (trainers, verifier) = (keys(3), Keypair::from_seed([20; 32]));
    for key in &trainers {
        world.join(key, Role::Trainer);
    }
    world.join(&verifier, Role::Verifier);
    world.conduct();
    let sampled = Finding::Fail(Divergence {
        what: DivergentPart::Codec,
        replayed: BlobRef { digest: Digest::of(b"contribution"), bytes: 0 },
        first_step: None,
        claimed_micronats: None,
        replayed_micronats: None,
        trace: None,
    });
    world.commit(&trainers[0]);
    let commit = world.commit_by(&trainers[0]);
    let early = world.judge(&verifier, commit, sampled.clone()).unwrap_err();
    assert!(matches!(early, RuleError::WrongPhase { kind: "verdict", .. }), "{early}");
    for key in &trainers[1..] {
        world.commit(key);
    }
    world.conduct();
    let replayed = world.judge(&verifier, commit, failed()).unwrap_err().to_string();
    assert!(replayed.contains("one that the verifier drew"), "{replayed}");
    let stranger = world.judge(&trainers[1], commit, sampled.clone()).unwrap_err();
    assert!(matches!(stranger, RuleError::NotAMember { kind: "verdict", .. }), "{stranger}");
    let nothing = world.judge(&verifier, 0, sampled.clone()).unwrap_err().to_string();
    assert!(nothing.contains("a commit of the round"), "{nothing}");
    // before the draw is told, so that the round cannot close over it
    let verdict = world.judge(&verifier, commit, sampled).unwrap();
    assert_eq!(world.state.unpunished().get(&trainers[0].id()), Some(&verdict));
    assert!(world.draw(&verifier).is_empty(), "nothing is drawn in this run");
    world.conduct();
    let close = &world.state.round().unwrap().close.as_ref().unwrap().1;
    assert_eq!((close.included.len(), close.excluded.len()), (2, 1));
    assert!(world.state.members()[&trainers[0].id()].excluded.is_some());
}

#[test]
fn nobody_judges_twice_nor_what_is_none_of_its_business() {
    let (mut world, trainers, verifiers) = tribunal();
    let commit = world.commit_by(&trainers[0]);
    world.judge(&verifiers[0], commit, failed()).unwrap();
    let again = world.judge(&verifiers[0], commit, Finding::Pass).unwrap_err();
    assert!(matches!(again, RuleError::AlreadySaid { kind: "verdict", .. }), "{again}");
    let nothing = world.judge(&verifiers[1], 0, failed()).unwrap_err().to_string();
    assert!(nothing.contains("one that the verifier drew, or that another has accused"), "{nothing}");
}

#[test]
fn a_pass_of_the_class_fast_tells_how_far_it_was() {
    let operator = Keypair::from_seed([9; 32]);
    let mut manifest = manifest(&operator);
    let small = Real::new(0.001);
    manifest.terms.verification.class = VerificationClass::Fast;
    manifest.terms.verification.tolerance = Some(Tolerance {
        distance: small,
        angle: small,
        tensor_distance: small,
        tensor_angle: small,
        loss: small,
        gradient_norm: small,
        moments: Real::new(0.0),
    });
    let mut world = World::with(operator, manifest);
    let (trainers, verifier) = (keys(2), Keypair::from_seed([20; 32]));
    for key in &trainers {
        world.join(key, Role::Trainer);
    }
    world.join(&verifier, Role::Verifier);
    world.conduct();
    for key in &trainers {
        world.commit(key);
    }
    world.conduct();
    let drawn = world.draw(&verifier);
    let mut say = |commit: u64, finding: Finding, deviation: Option<Deviation>| {
        let verdict = Verdict { round: 0, commit, finding, deviation };
        world.say(&verifier, &Event::Verdict(verdict)).map_err(|error| error.to_string())
    };
    let at = |distance: u64, moments: u64| Deviation {
        distance,
        angle: 1_000,
        tensor_distance: 0,
        tensor_angle: 0,
        loss: 0,
        gradient_norm: 0,
        moments,
    };
    let untold = say(drawn[0], Finding::Pass, None).unwrap_err();
    assert!(untold.contains("deviation is None, but has to be present"), "{untold}");
    for beyond in [at(1_001, 0), at(0, 1)] {
        let error = say(drawn[0], Finding::Pass, Some(beyond)).unwrap_err();
        assert!(error.contains("within the tolerance"), "{error}");
    }
    say(drawn[0], Finding::Pass, Some(at(1_000, 0))).unwrap();
    say(drawn[1], failed(), Some(at(900_000, 5))).unwrap();

    let mut exact = World::new();
    for key in &trainers {
        exact.join(key, Role::Trainer);
    }
    exact.join(&verifier, Role::Verifier);
    exact.conduct();
    for key in &trainers {
        exact.commit(key);
    }
    exact.conduct();
    let commit = exact.draw(&verifier)[0];
    let verdict = Verdict { round: 0, commit, finding: Finding::Pass, deviation: Some(at(0, 0)) };
    let error = exact.say(&verifier, &Event::Verdict(verdict)).unwrap_err().to_string();
    assert!(error.contains("the class exact compares bytes"), "{error}");
}
