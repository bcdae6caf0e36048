//! Canaries: who stamps is found by them alone, and nobody else is hurt.

#![allow(clippy::unwrap_used, reason = "helpers of a test are part of the test")]

mod world;

use talkoot_protocol::{
    event::{
        Commit, Event, Exclusion, ExclusionReason, Finding, Join, Late, Leave, Opening, Role, RoundClose,
        Verdict,
    },
    identity::Keypair,
    manifest::VerificationClass,
    real::Real,
    run::{Opened, Phase, RuleError},
};
use world::{World, failed, keys, manifest};

/// Members of the run; with half of the commits canaries, some are and some are not in every round that is tried.
const MEMBERS: u8 = 6;

fn verifier(number: u8) -> Keypair {
    Keypair::from_seed([20 + number; 32])
}

/// A run with canaries, its first round sealed, everybody checked by each of `verifiers`.
fn sealed(verifiers: u8, confirmations: u32) -> (World, Vec<Keypair>, Vec<Keypair>) {
    let operator = Keypair::from_seed([9; 32]);
    let mut manifest = manifest(&operator);
    let rules = &mut manifest.terms.verification;
    (rules.canaries, rules.rate, rules.probation) = (Some(Real::new(0.5)), Real::new(1.0), 100);
    (rules.min_verifiers, rules.confirmations) = (confirmations, Some(confirmations));
    manifest.validate().unwrap();
    let mut world = World::with(operator, manifest);
    let trainers = keys(MEMBERS);
    for key in &trainers {
        world.join(key, Role::Trainer);
    }
    let verifiers: Vec<Keypair> = (0..verifiers).map(verifier).collect();
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

fn is_canary(world: &World, key: &Keypair) -> bool {
    world.drawn(key).is_canary(0.5)
}

/// The first member that drew a canary, or the first that did not.
fn first(world: &World, trainers: &[Keypair], canary: bool) -> Keypair {
    trainers.iter().find(|key| is_canary(world, key) == canary).unwrap().clone()
}

fn index_of(world: &World, key: &Keypair) -> u64 {
    world.state.round().unwrap().commits[&key.id()].index
}

/// Draws, and judges every commit: as it is, or that it passes.
fn judge_all(world: &mut World, key: &Keypair, trainers: &[Keypair], stamps: bool) {
    for commit in world.draw(key) {
        let round = world.state.round().unwrap();
        let (number, member) = (round.open.round, *round.commit_at(commit).unwrap().0);
        let author = trainers.iter().find(|key| key.id() == member).unwrap();
        let finding = if is_canary(world, author) && !stamps { failed() } else { Finding::Pass };
        let verdict = Verdict { round: number, commit, finding, deviation: None };
        world.say(key, &Event::Verdict(verdict)).unwrap();
    }
}

fn open_all(world: &mut World, trainers: &[Keypair]) {
    for key in trainers {
        world.open(key).unwrap();
    }
}

fn excluded(world: &World, key: &Keypair) -> bool {
    world.state.members()[&key.id()].excluded.is_some()
}

#[test]
fn a_stamping_verifier_is_out_by_a_canary_alone_and_an_honest_one_is_not() {
    for stamps in [true, false] {
        let (mut world, trainers, verifiers) = sealed(1, 1);
        judge_all(&mut world, &verifiers[0], &trainers, stamps);
        assert_eq!(world.conduct(), 0, "nothing is settled before commits are opened");
        open_all(&mut world, &trainers);
        world.conduct();
        assert_eq!(excluded(&world, &verifiers[0]), stamps);
        assert!(trainers.iter().all(|key| !excluded(&world, key)), "a canary is no lie of its member's");
        assert_eq!(world.phase(), Phase::Closed);
    }
}

#[test]
fn a_canary_enters_nothing_and_leaves_nothing_behind() {
    let (mut world, trainers, verifiers) = sealed(1, 1);
    let (canary, plain) = (first(&world, &trainers, true), first(&world, &trainers, false));
    judge_all(&mut world, &verifiers[0], &trainers, false);
    open_all(&mut world, &trainers);
    world.conduct();
    let round = world.state.round().unwrap();
    let (_, close) = round.close.as_ref().unwrap();
    let canaries = trainers.iter().filter(|key| round.opened[&key.id()] == Opened::Canary).count();
    assert!(canaries > 0 && canaries < trainers.len(), "{canaries}: nothing to tell apart");
    assert_eq!(close.excluded.len(), canaries);
    assert!(close.excluded.iter().all(|exclusion| exclusion.reason == ExclusionReason::Canary));
    assert_eq!(world.state.totals().canaries, canaries as u64);
    let member = |key: &Keypair| &world.state.members()[&key.id()];
    assert_eq!((member(&canary).feedback, member(&canary).streak), (None, 0), "as before the round");
    assert!(member(&plain).feedback.is_some());
    assert_eq!(member(&plain).streak, 1);
}

#[test]
fn an_operator_cannot_let_a_canary_in_nor_give_another_reason() {
    let (mut world, trainers, verifiers) = sealed(1, 1);
    let (canary, plain) = (first(&world, &trainers, true), first(&world, &trainers, false));
    judge_all(&mut world, &verifiers[0], &trainers, false);
    let operator = world.operator.clone();
    let all: Vec<u64> =
        world.state.round().unwrap().seal.as_ref().unwrap().commits.iter().map(|c| c.1).collect();
    let close = |included: Vec<u64>, excluded: Vec<Exclusion>| {
        Event::RoundClose(RoundClose { round: 0, included, excluded })
    };
    let unopened = world.say(&operator, &close(all.clone(), Vec::new())).unwrap_err().to_string();
    assert!(unopened.contains("have not opened their commits"), "{unopened}");
    open_all(&mut world, &trainers);
    let let_in = world.say(&operator, &close(all.clone(), Vec::new())).unwrap_err().to_string();
    assert!(let_in.contains("commits that were opened and are no canaries"), "{let_in}");

    let (known, seen) = (index_of(&world, &canary), index_of(&world, &plain));
    let split = |reason_of: &dyn Fn(u64) -> Option<ExclusionReason>| {
        let out =
            all.iter().filter_map(|commit| Some(Exclusion { commit: *commit, reason: reason_of(*commit)? }));
        let out: Vec<Exclusion> = out.collect();
        let inside = all.iter().copied().filter(|commit| reason_of(*commit).is_none()).collect();
        close(inside, out)
    };
    let due = |commit: u64| {
        let round = world.state.round().unwrap();
        round.opened(commit).unwrap().was_due().then_some(ExclusionReason::Canary)
    };
    let accused = |commit: u64| match due(commit) {
        Some(_) if commit == known => {
            let round = world.state.round().unwrap();
            round.failure_of(commit).map(|failure| ExclusionReason::FailedCheck(failure.index))
        }
        other => other,
    };
    let blamed = split(&accused);
    let missed = split(&|commit| if commit == seen { Some(ExclusionReason::NotOpened) } else { due(commit) });
    let hidden = split(&|commit| if commit == seen { Some(ExclusionReason::Canary) } else { due(commit) });
    let right = split(&due);
    for (wrong, field) in [(blamed, "verdict"), (missed, "not opened"), (hidden, "canary")] {
        let error = world.say(&operator, &wrong).unwrap_err();
        assert!(
            matches!(&error, RuleError::Mismatch { field: got, .. } if *got == field),
            "{field}: {error}"
        );
    }
    world.say(&operator, &right).unwrap();
}

#[test]
fn what_a_stamp_gave_a_canary_is_taken_back() {
    let (mut world, trainers, verifiers) = sealed(1, 1);
    let canary = first(&world, &trainers, true);
    judge_all(&mut world, &verifiers[0], &trainers, true);
    assert_eq!(world.state.members()[&canary.id()].streak, 1);
    world.open(&canary).unwrap();
    assert_eq!(world.state.members()[&canary.id()].streak, 0);
}

#[test]
fn who_was_outvoted_about_a_canary_was_right() {
    let (mut world, trainers, verifiers) = sealed(3, 2);
    judge_all(&mut world, &verifiers[0], &trainers, false);
    judge_all(&mut world, &verifiers[1], &trainers, true);
    judge_all(&mut world, &verifiers[2], &trainers, true);
    open_all(&mut world, &trainers);
    world.conduct();
    let out: Vec<bool> = verifiers.iter().map(|key| excluded(&world, key)).collect();
    assert_eq!(out, [false, true, true]);
}

#[test]
fn a_lie_is_not_excused_by_a_draw_that_did_not_ask_for_it() {
    let (mut world, trainers, verifiers) = sealed(1, 1);
    let liar = first(&world, &trainers, false);
    let lie = index_of(&world, &liar);
    for commit in world.draw(&verifiers[0]) {
        let finding = if commit == lie { failed() } else { Finding::Pass };
        let verdict = Verdict { round: 0, commit, finding, deviation: None };
        world.say(&verifiers[0], &Event::Verdict(verdict)).unwrap();
    }
    assert_eq!(world.conduct(), 0);
    world.open(&liar).unwrap();
    world.conduct();
    assert!(excluded(&world, &liar));
}

#[test]
fn a_canary_that_was_due_and_not_sent_does_not_enter_and_frames_nobody() {
    let operator = Keypair::from_seed([9; 32]);
    let (mut world, trainers, verifiers) = {
        let mut manifest = manifest(&operator);
        let rules = &mut manifest.terms.verification;
        (rules.canaries, rules.rate, rules.probation) = (Some(Real::new(0.5)), Real::new(1.0), 100);
        let mut world = World::with(operator, manifest);
        let trainers = keys(MEMBERS);
        for key in &trainers {
            world.join(key, Role::Trainer);
        }
        world.join(&verifier(0), Role::Verifier);
        world.conduct();
        (world, trainers, vec![verifier(0)])
    };
    let shirker = first(&world, &trainers, true);
    let honest = Commit {
        moments: Some(talkoot_protocol::digest::Digest::of(b"the true ones")),
        ..world.commit_of(&shirker)
    };
    world.around.archived.insert(honest.contribution.digest);
    world.say(&shirker, &Event::Commit(honest)).unwrap();
    for key in trainers.iter().filter(|key| key.id() != shirker.id()) {
        world.commit(key);
    }
    world.conduct();
    // Honest work passes, as it should: its verifier must not fall over it.
    for commit in world.draw(&verifiers[0]) {
        let round = world.state.round().unwrap();
        let member = *round.commit_at(commit).unwrap().0;
        let author = trainers.iter().find(|key| key.id() == member).unwrap();
        let canary = is_canary(&world, author) && member != shirker.id();
        let finding = if canary { failed() } else { Finding::Pass };
        let verdict = Verdict { round: 0, commit, finding, deviation: None };
        world.say(&verifiers[0], &Event::Verdict(verdict)).unwrap();
    }
    open_all(&mut world, &trainers);
    world.conduct();
    assert!(!excluded(&world, &verifiers[0]) && !excluded(&world, &shirker));
    let round = world.state.round().unwrap();
    assert_eq!(round.opened[&shirker.id()], Opened::Shirked);
    let index = round.commits[&shirker.id()].index;
    let (_, close) = round.close.as_ref().unwrap();
    assert!(close.excluded.iter().any(|e| e.commit == index && e.reason == ExclusionReason::Canary));
}

#[test]
fn nobody_opens_before_verifiers_are_done_and_who_never_does_is_left_out() {
    let (mut world, trainers, verifiers) = sealed(1, 1);
    let (silent, canary) = (first(&world, &trainers, false), first(&world, &trainers, true));
    let early = world.open(&silent).unwrap_err();
    assert!(matches!(early, RuleError::TooEarly { kind: "opening", .. }), "{early}");
    judge_all(&mut world, &verifiers[0], &trainers, false);
    let others: Vec<&Keypair> =
        trainers.iter().filter(|key| ![silent.id(), canary.id()].contains(&key.id())).collect();
    for key in &others {
        world.open(key).unwrap();
    }
    assert!(matches!(world.open(others[0]), Err(RuleError::AlreadySaid { .. })));
    assert_eq!(world.conduct(), 0, "two are awaited");
    // Verification and outcome deadlines: 60 and 30 s.
    world.around.now_ms += 90_000;
    world.conduct();
    let round = world.state.round().unwrap();
    let reason = |key: &Keypair| {
        let index = round.commits[&key.id()].index;
        let (_, close) = round.close.as_ref().unwrap();
        close.excluded.iter().find(|exclusion| exclusion.commit == index).map(|exclusion| exclusion.reason)
    };
    assert_eq!(reason(&silent), Some(ExclusionReason::NotOpened));
    assert!(
        matches!(reason(&canary), Some(ExclusionReason::FailedCheck(_))),
        "it said nothing in its favour"
    );
    assert!(!excluded(&world, &silent) && excluded(&world, &canary));
}

#[test]
fn nobody_waits_for_the_opening_of_who_has_left() {
    let (mut world, trainers, verifiers) = sealed(1, 1);
    let gone = first(&world, &trainers, false);
    world.say(&gone, &Event::Leave(Leave { seen: world.state.size() })).unwrap();
    judge_all(&mut world, &verifiers[0], &trainers, false);
    for key in trainers.iter().filter(|key| key.id() != gone.id()) {
        world.open(key).unwrap();
    }
    world.conduct();
    assert_eq!(world.phase(), Phase::Closed);
    let index = index_of(&world, &gone);
    let (_, close) = world.state.round().unwrap().close.as_ref().unwrap();
    let reason = close.excluded.iter().find(|exclusion| exclusion.commit == index).unwrap().reason;
    assert_eq!(reason, ExclusionReason::NotOpened);
}

#[test]
fn a_verifier_that_is_never_done_holds_up_nobody_and_gains_nothing_by_looking_at_openings() {
    let (mut world, trainers, verifiers) = sealed(1, 1);
    let drawn = world.draw(&verifiers[0]);
    world.around.now_ms += 60_000;
    let (plain, canary) = (first(&world, &trainers, false), first(&world, &trainers, true));
    world.open(&plain).unwrap();
    world.open(&canary).unwrap();
    let pass = |commit| Verdict { round: 0, commit, finding: Finding::Pass, deviation: None };
    let (seen, known) = (index_of(&world, &plain), index_of(&world, &canary));
    assert!(drawn.contains(&seen) && drawn.contains(&known));
    world.say(&verifiers[0], &Event::Verdict(pass(seen))).unwrap();
    assert_eq!(world.state.members()[&plain.id()].streak, 0, "a pass after the opening earns no trust");
    let late = Verdict { finding: failed(), ..pass(known) };
    let refused = world.say(&verifiers[0], &Event::Verdict(late)).unwrap_err();
    assert!(refused.to_string().contains("one that the verifier drew"), "{refused}");
}

#[test]
fn runs_say_whether_they_have_canaries_and_members_keep_to_it() {
    let (mut world, trainers, _) = sealed(1, 1);
    let newcomer = Keypair::from_seed([77; 32]);
    let join = Join { role: Role::Trainer, seen: world.state.size(), draw_key: None, recovery: None };
    let refused = world.say(&newcomer, &Event::Join(join)).unwrap_err().to_string();
    assert!(refused.contains("in a run with canaries a trainer has to name its draw key"), "{refused}");
    let other = Opening {
        round: 0,
        proof: world
            .state
            .canary_draw()
            .unwrap()
            .prove(&talkoot_protocol::challenge::DrawKey::of(&trainers[1])),
    };
    world.around.now_ms += 60_000;
    let forged = world.say(&trainers[0], &Event::Opening(other)).unwrap_err();
    assert!(matches!(forged, RuleError::Draw(_)), "{forged}");

    let mut plain = World::new();
    for key in &trainers {
        plain.join(key, Role::Trainer);
    }
    plain.join(&verifier(0), Role::Verifier);
    plain.conduct();
    let given = talkoot_protocol::digest::Digest::of(b"moments");
    let commit = Commit { moments: Some(given), ..plain.commit_of(&trainers[0]) };
    let late = Late { commit: commit.clone(), restored: commit.feedback_out };
    let refused = plain.say(&trainers[0], &Event::Commit(commit)).unwrap_err().to_string();
    assert!(refused.contains("whether moments are there"), "{refused}");
    assert!(plain.say(&trainers[0], &Event::Late(Box::new(late))).is_err());

    let mut terms = plain.state.manifest().terms.clone();
    terms.verification.canaries = Some(Real::new(0.0));
    assert!(terms.validate().unwrap_err().to_string().contains("`verification.canaries` is 0"));
    terms.verification.canaries = Some(Real::new(0.1));
    terms.validate().unwrap();
    terms.verification.class = VerificationClass::Fast;
    assert!(terms.validate().unwrap_err().to_string().contains("absent in the class fast"));
}
