//! Whole runs in milliseconds: the conductor and the fold with invented members, and a ledger to replay.

#![allow(clippy::unwrap_used, reason = "helpers of a test are part of the test")]

use std::collections::BTreeMap;

use talkoot_protocol::{
    challenge::DrawKey,
    conductor::{Surroundings, next_event},
    digest::{BlobRef, Digest},
    entry::{Entry, Statement},
    event::{
        Challenge, Commit, Divergence, DivergentPart, Event, ExclusionReason, Finding, Join, Late, Leave,
        Outcome, Revoke, Role, Rotate, Verdict,
    },
    identity::{Keypair, MemberId},
    manifest::{Bindings, DatasetBinding, Manifest, Terms},
    run::{Judgement, Phase, RuleError, RunState},
};

struct World {
    operator: Keypair,
    state: RunState,
    log: Vec<Vec<u8>>,
    around: Surroundings,
}

fn manifest(operator: &Keypair) -> Manifest {
    let terms = Terms::from_toml(include_str!("../src/manifest/example.toml")).unwrap();
    let datasets =
        vec![DatasetBinding { index: BlobRef::of(b"index"), packs: 50, periods: None }; terms.stages.len()];
    Manifest {
        terms,
        bindings: Bindings {
            operator: operator.id(),
            log_key: "example.org/run+00000000+AA==".to_owned(),
            config: BlobRef::of(b"config"),
            tokenizer: BlobRef::of(b"tokenizer"),
            initial_state: BlobRef::of(b"state"),
            datasets,
        },
    }
}

impl World {
    fn new() -> Self {
        let operator = Keypair::from_seed([9; 32]);
        let manifest = manifest(&operator);
        Self::with(operator, manifest)
    }

    fn with(operator: Keypair, manifest: Manifest) -> Self {
        let run = manifest.id();
        let statement = Statement::sign(run, &operator, &Event::Manifest(Box::new(manifest)));
        let first = Entry::new(0, 1_000, statement).to_bytes();
        let around = Surroundings { now_ms: 1_000, ..Surroundings::default() };
        Self { operator, state: RunState::begin(&first).unwrap(), log: vec![first], around }
    }

    fn say(&mut self, key: &Keypair, event: &Event) -> Result<u64, RuleError> {
        self.around.now_ms += 1;
        let index = self.state.size();
        let statement = Statement::sign(self.state.run(), key, event);
        let bytes = Entry::new(index, self.around.now_ms, statement).to_bytes();
        let before = format!("{:?}", self.state);
        match self.state.apply(&bytes) {
            Ok(_) => {
                self.log.push(bytes);
                Ok(index)
            }
            Err(error) => {
                assert_eq!(before, format!("{:?}", self.state), "a refused entry changes nothing");
                Err(error)
            }
        }
    }

    fn conduct(&mut self) -> usize {
        let mut said = 0;
        while let Some(event) = next_event(&self.state, &self.around) {
            let operator = self.operator.clone();
            self.say(&operator, &event).expect("the conductor keeps the rules");
            said += 1;
        }
        said
    }

    fn join(&mut self, key: &Keypair, role: Role) {
        let draw_key = (role == Role::Verifier).then(|| DrawKey::of(key).public());
        self.say(key, &Event::Join(Join { role, seen: self.state.size(), draw_key, recovery: None }))
            .unwrap();
        self.around.present.insert(key.id());
    }

    fn commit_of(&self, key: &Keypair) -> Commit {
        let round = self.state.round().unwrap();
        let work = round.work_of(&key.id()).unwrap();
        let steps = u32::try_from(work.steps.len()).unwrap();
        let name = format!("{} {}", round.open.round, key.id());
        let feedback = self.state.members()[&key.id()].feedback;
        Commit {
            round: round.open.round,
            start_state: round.open.start_state.digest,
            work: work.digest(steps),
            steps,
            contribution: BlobRef::of(format!("contribution {name}").as_bytes()),
            trace: BlobRef::of(format!("trace {name}").as_bytes()),
            feedback_in: feedback.filter(|(stage, _)| *stage == round.open.stage).map(|(_, blob)| blob),
            feedback_out: BlobRef::of(format!("feedback {name}").as_bytes()),
            tokens: 100,
            loss_first_micronats: 2_000_000,
            loss_last_micronats: 1_900_000,
            train_ms: 1_000,
        }
    }

    fn commit(&mut self, key: &Keypair) {
        let commit = self.commit_of(key);
        self.around.archived.insert(commit.contribution.digest);
        self.say(key, &Event::Commit(commit)).unwrap();
    }

    fn draw(&mut self, key: &Keypair) -> Vec<u64> {
        let log = self.state.sealed_log().unwrap();
        let proof = DrawKey::of(key).draw(&log);
        self.say(key, &Event::Challenge(Challenge { round: log.round, proof })).unwrap();
        self.state.round().unwrap().open_checks(&key.id())
    }

    fn report(&mut self, key: &Keypair) {
        let round = self.state.round().unwrap().open.round;
        // As long as the initial state, as all states of one model are.
        let state = BlobRef { digest: Digest::of(&round.to_be_bytes()), bytes: 5 };
        self.around.archived.insert(state.digest);
        let _ = self.say(key, &Event::Outcome(Outcome { round, state }));
    }

    fn phase(&self) -> Phase {
        self.state.phase()
    }
}

fn failed() -> Finding {
    Finding::Fail(Divergence {
        what: DivergentPart::Step,
        replayed: BlobRef::of(b"the truth"),
        first_step: Some(0),
        claimed_micronats: Some(1),
        replayed_micronats: Some(2),
        trace: Some(BlobRef::of(b"the true trace")),
    })
}

fn keys(count: u8) -> Vec<Keypair> {
    (1..=count).map(|i| Keypair::from_seed([i; 32])).collect()
}

/// Runs to the end; `liar` fails every check that is drawn.
fn run(world: &mut World, trainers: &[Keypair], verifier: &Keypair, liar: Option<MemberId>) {
    for _ in 0..40 {
        world.conduct();
        match world.phase() {
            Phase::Training => {
                for key in trainers {
                    if world.state.awaited().contains(&key.id()) {
                        world.commit(key);
                    }
                }
            }
            Phase::Sealed => {
                for commit in world.draw(verifier) {
                    let round = world.state.round().unwrap();
                    let lied = liar == Some(*round.commit_at(commit).unwrap().0);
                    let finding = if lied { failed() } else { Finding::Pass };
                    let round = round.open.round;
                    world.say(verifier, &Event::Verdict(Verdict { round, commit, finding })).unwrap();
                }
            }
            Phase::Closed => {
                for key in trainers {
                    world.report(key);
                }
            }
            Phase::Between => panic!("nobody is missing"),
            Phase::Ended => return,
        }
    }
    panic!("the run does not end");
}

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
        let verdict = Verdict { round: 0, commit, finding: Finding::Pass };
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

/// Takes a sealed round to its end and opens the next one.
fn next_round(world: &mut World, trainers: &[Keypair], verifier: &Keypair) {
    let round = world.state.round().unwrap().open.round;
    for commit in world.draw(verifier) {
        world.say(verifier, &Event::Verdict(Verdict { round, commit, finding: Finding::Pass })).unwrap();
    }
    world.conduct();
    for key in trainers {
        world.report(key);
    }
    world.conduct();
    assert_eq!(world.phase(), Phase::Training);
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
        let verdict = Verdict { round: 0, commit: *commit, finding: Finding::Pass };
        world.say(&verifier, &Event::Verdict(verdict)).unwrap();
    }
    let fail = Verdict { round: 0, commit: drawn[0], finding: failed() };
    let verdict = world.say(&verifier, &Event::Verdict(fail.clone())).unwrap();
    assert!(matches!(world.say(&verifier, &Event::Verdict(fail)), Err(RuleError::AlreadySaid { .. })));
    assert!(
        matches!(world.say(&operator, &close), Err(RuleError::Excluded { .. })),
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
        let verdict = Verdict { round: 0, commit, finding: Finding::Pass };
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

/// A sealed round of three trainers and three verifiers where two have to agree.
fn tribunal() -> (World, Vec<Keypair>, Vec<Keypair>) {
    let operator = Keypair::from_seed([9; 32]);
    let mut manifest = manifest(&operator);
    manifest.terms.verification.min_verifiers = 3;
    manifest.terms.verification.confirmations = Some(2);
    manifest.validate().unwrap();
    let mut world = World::with(operator, manifest);
    let (trainers, verifiers) = (keys(3), [20, 21, 22].map(|seed| Keypair::from_seed([seed; 32])).to_vec());
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
    for key in &verifiers {
        world.draw(key);
    }
    (world, trainers, verifiers)
}

impl World {
    fn judge(&mut self, verifier: &Keypair, commit: u64, finding: Finding) -> Result<u64, RuleError> {
        let round = self.state.round().unwrap().open.round;
        self.say(verifier, &Event::Verdict(Verdict { round, commit, finding }))
    }

    fn commit_by(&self, key: &Keypair) -> u64 {
        self.state.round().unwrap().commits[&key.id()].index
    }

    /// Everybody else passes what is open.
    fn pass_the_rest(&mut self, verifiers: &[Keypair]) {
        for key in verifiers {
            for commit in self.state.round().unwrap().open_checks(&key.id()) {
                self.judge(key, commit, Finding::Pass).unwrap();
            }
        }
    }
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
