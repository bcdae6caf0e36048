//! Who is right: members and accusers who lie in every way that leaves something to judge.

#![allow(clippy::unwrap_used, reason = "helpers of a test are part of the test")]

use std::ops::ControlFlow;

use talkoot_execution::{Arithmetic, Executed, Job, compare, execute, execute_steps, layout_of};
use talkoot_protocol::{
    assignment::Work,
    digest::{BlobRef, Digest},
    event::{Commit, DivergentPart, Finding, RoundOpen, Seat},
    identity::Keypair,
    manifest::{Bindings, DatasetBinding, InnerState, Manifest, ModuleGroup, MomentFormat, Terms},
    run::Round,
};
use talkoot_trainer::{
    batch::Pack, config::ModelConfig, contribution::ErrorFeedback, presets::demo_model, snapshot::Snapshot,
    state::State,
};

use super::{Accounts, Case, Question, Ruling, Undecidable};
use crate::cheat::Cheat;

const STEPS: u32 = 5;

/// A round of one member, with a digest of the state every second step.
struct World {
    manifest: Manifest,
    config: ModelConfig,
    round: Round,
    start: State,
    packs: Vec<Pack>,
}

impl World {
    fn new(inner_state: InnerState) -> Self {
        let mut terms =
            Terms::from_toml(include_str!("../../../protocol/core/src/manifest/example.toml")).unwrap();
        terms.contribution.inner_state = inner_state;
        terms.contribution.k = 512;
        terms.verification.digest_interval = Some(2);
        terms.stages[0].trainable = vec![ModuleGroup::Language];
        let config = demo_model(64);
        let packs = (0..8).map(|at| Pack {
            tokens: vec![5 + at, 6, 7, 8 + at],
            labels: vec![-100, 6, 7, 8 + i64::from(at)],
            sample_lengths: vec![4],
            images: vec![],
        });
        let bindings = Bindings {
            operator: Keypair::from_seed([9; 32]).id(),
            log_key: "example.org/run+00000000+AA==".to_owned(),
            config: BlobRef::of(b"config"),
            tokenizer: BlobRef::of(b"tokenizer"),
            initial_state: BlobRef::of(b"state"),
            datasets: vec![DatasetBinding { index: BlobRef::of(b"index"), packs: 8, periods: None }],
        };
        let member = Keypair::from_seed([1; 32]).id();
        let steps = (0..u64::from(STEPS)).map(|step| vec![step % 8, (step + 3) % 8]).collect();
        let open = RoundOpen {
            round: 3,
            stage: 0,
            start_state: BlobRef::of(b"state"),
            seats: vec![Seat { member, steps: STEPS }],
        };
        let round =
            Round { first_step: 2, ..Round::of(open, vec![Work { member, steps, positions: Vec::new() }]) };
        let start = State::initial(&config, 1);
        Self { manifest: Manifest { terms, bindings }, config, round, start, packs: packs.collect() }
    }

    fn job<'a>(&'a self, work: &'a Work, start: &'a State, feedback_in: Option<&'a [u8]>) -> Job<'a> {
        Job {
            manifest: &self.manifest,
            config: &self.config,
            round: &self.round,
            work,
            steps: STEPS,
            start,
            feedback_in,
            precedent: &[],
            arithmetic: Arithmetic::Exact,
        }
    }

    fn work(&self) -> &Work {
        &self.round.work[0]
    }

    fn done(&self, work: &Work, start: &State) -> Executed {
        execute(&self.job(work, start, None), &self.packs, &mut |_, _| ControlFlow::Continue(())).unwrap()
    }

    fn honest(&self) -> Executed {
        self.done(self.work(), &self.start)
    }

    /// What a member does that learns something else in one step.
    fn poisoned(&self, step: usize) -> Executed {
        let mut work = self.work().clone();
        work.steps[step] = vec![7, 7];
        self.done(&work, &self.start)
    }

    fn commit(&self, executed: &Executed) -> Commit {
        executed.commit(&self.job(self.work(), &self.start, None), None, 1)
    }

    /// What an accuser says of `commit` whose own replay is `replay`, and both accounts.
    fn accounts(&self, commit: &Commit, claimed: &[u8], replay: &Executed) -> Accounts {
        let Finding::Fail(accusation) = compare(commit, claimed, replay) else {
            panic!("there is nothing to accuse of")
        };
        let replayed = accusation.trace.map(|_| replay.trace.to_bytes());
        Accounts { commit: commit.clone(), claimed: claimed.to_vec(), accusation, replayed, interval: 2 }
    }

    /// Judges with the state that both name, as the accuser's bundle would have it.
    fn judge(&self, accounts: &Accounts) -> (Question, Ruling) {
        let question = accounts.question().unwrap();
        let job = self.job(self.work(), &self.start, None);
        let state = accounts.agreed_state(&question).map(|digest| {
            let agreed = match question {
                Question::Steps { agreed, .. } => agreed.unwrap(),
                Question::End { agreed } => agreed,
                Question::Form => unreachable!("nothing is executed"),
            };
            let state = execute_steps(&job, None, agreed, &self.packs).unwrap().end;
            assert_eq!(
                Digest::of(&state.to_bytes()),
                digest,
                "both name the state that honest steps lead to"
            );
            state
        });
        let case = Case { job, packs: &self.packs, accounts, state: state.as_ref() };
        (question, case.judge(&question).unwrap())
    }

    fn of_member(&self, executed: &Executed, replay: &Executed) -> (Question, Ruling) {
        self.judge(&self.accounts(&self.commit(executed), &executed.trace.to_bytes(), replay))
    }
}

/// Only the member lied, and this is how.
fn member_lied(ruling: &Ruling, how: &str) {
    assert_eq!(ruling.accuser, None, "{ruling:?}");
    let told = ruling.member.as_deref().unwrap_or_else(|| panic!("nobody lied: {ruling:?}"));
    assert!(told.contains(how), "{told}");
}

/// Only the accuser lied, and this is how.
fn accuser_lied(ruling: &Ruling, how: &str) {
    assert_eq!(ruling.member, None, "{ruling:?}");
    let told = ruling.accuser.as_deref().unwrap_or_else(|| panic!("nobody lied: {ruling:?}"));
    assert!(told.contains(how), "{told}");
}

#[test]
fn a_member_that_lies_in_one_step_is_convicted_by_the_steps_around_it() {
    let world = World::new(InnerState::Fresh);
    let truth = world.honest();
    for (step, from, until) in [(0, 0, 2), (1, 0, 2), (2, 2, 4), (3, 2, 4), (4, 4, 5)] {
        let (question, ruling) = world.of_member(&world.poisoned(step), &truth);
        assert_eq!(question, Question::Steps { agreed: Some(from), until }, "step {step}");
        assert_eq!(ruling.executed, until - from);
        member_lied(&ruling, &format!("of its step {}", step + 1));
    }
}

#[test]
fn with_a_digest_after_every_step_one_step_settles_it() {
    let mut world = World::new(InnerState::Fresh);
    world.manifest.terms.verification.digest_interval = Some(1);
    let (truth, lie) = (world.honest(), world.poisoned(3));
    let mut accounts = world.accounts(&world.commit(&lie), &lie.trace.to_bytes(), &truth);
    accounts.interval = 1;
    let (question, ruling) = world.judge(&accounts);
    assert_eq!((question.to_string().as_str(), ruling.executed), ("inner step 4", 1));
    member_lied(&ruling, "of its step 4");
}

#[test]
fn a_false_accusation_falls_back_on_the_accuser() {
    let world = World::new(InnerState::Fresh);
    let (truth, mut made_up) = (world.honest(), world.honest());
    Cheat::Accuse.falsify(&mut made_up);
    let (question, ruling) = world.of_member(&truth, &made_up);
    assert_eq!(question, Question::Steps { agreed: Some(2), until: 4 });
    accuser_lied(&ruling, "the loss of its step 3");
}

/// A lie in the first step that the accuser tells too, and a false accusation of the last one.
#[test]
fn an_accuser_in_league_with_a_member_does_not_clear_it_by_a_step() {
    let world = World::new(InnerState::Fresh);
    let mut own = world.work().clone();
    own.steps[0] = vec![7, 7];
    let poisoned = world.done(&own, &world.start);
    let mut friendly = world.done(&own, &world.start);
    friendly.trace.steps[4].loss += 0.5;
    let commit = world.commit(&poisoned);
    let accounts = world.accounts(&commit, &poisoned.trace.to_bytes(), &friendly);
    let question = accounts.question().unwrap();
    let Question::Steps { agreed: Some(agreed), .. } = question else {
        panic!("both name a state before the last step: {question:?}")
    };
    // what the two hand out: a state that the lie led to
    let theirs = Job { work: &own, ..world.job(&own, &world.start, None) };
    let state = execute_steps(&theirs, None, agreed, &world.packs).unwrap().end;
    assert_eq!(accounts.agreed_state(&question), Some(Digest::of(&state.to_bytes())));
    let job = world.job(world.work(), &world.start, None);
    let case = Case { job, packs: &world.packs, accounts: &accounts, state: Some(&state) };
    let ruling = case.judge(&question).unwrap();
    accuser_lied(&ruling, "the loss of its step 5");
    assert_eq!(ruling.confirms(&accounts.accusation), None, "and nothing follows for the member");

    // where the member lied, the accusation is confirmed, without a trace that the confirming verifier does not have
    let (late, honest) = (world.poisoned(4), world.honest());
    let accounts = world.accounts(&world.commit(&late), &late.trace.to_bytes(), &honest);
    let ruling = world.judge(&accounts).1;
    let Some(Finding::Fail(said)) = ruling.confirms(&accounts.accusation) else {
        panic!("the member lied: {ruling:?}")
    };
    assert_eq!((said.what, said.trace), (accounts.accusation.what, None));
}

#[test]
fn both_can_lie() {
    let world = World::new(InnerState::Fresh);
    let mut made_up = world.honest();
    Cheat::Accuse.falsify(&mut made_up);
    let (_, ruling) = world.of_member(&world.poisoned(2), &made_up);
    assert!(ruling.member.is_some() && ruling.accuser.is_some(), "{ruling:?}");
}

#[test]
fn a_lie_in_the_trace_alone_is_pinned_too() {
    let world = World::new(InnerState::Fresh);
    let truth = world.honest();
    let mut flattering = world.honest();
    flattering.trace.steps[2].loss -= 1.0;
    member_lied(&world.of_member(&flattering, &truth).1, "the loss of its step 3");
    let mut counting = world.honest();
    counting.trace.steps[3].learned_tokens += 1;
    member_lied(&world.of_member(&counting, &truth).1, "its step 4 has 8 tokens");
    let mut elsewhere = world.honest();
    elsewhere.trace.digests[1] = Digest::of(b"a state that it would have liked");
    member_lied(&world.of_member(&elsewhere, &truth).1, "the training state after its step 2");
}

#[test]
fn another_start_state_is_told_without_a_step() {
    let world = World::new(InnerState::Fresh);
    let elsewhere = world.done(world.work(), &State::initial(&world.config, 2));
    let (question, ruling) = world.of_member(&elsewhere, &world.honest());
    assert_eq!((question, ruling.executed), (Question::Steps { agreed: None, until: 0 }, 0));
    member_lied(&ruling, "the training state before its first step");
}

#[test]
fn what_follows_from_the_last_step_is_judged_without_a_step() {
    for (inner_state, moments) in [
        (InnerState::Fresh, None),
        (InnerState::Public, None),
        (InnerState::Public, Some(MomentFormat::EightBit)),
    ] {
        let mut world = World::new(inner_state);
        world.manifest.terms.stages[0].optimizer.moments = moments;
        let truth = world.honest();
        let honest = world.commit(&truth);
        let trace = truth.trace.to_bytes();
        let forged = Commit { contribution: BlobRef::of(b"something louder"), ..honest.clone() };
        let (question, ruling) = world.judge(&world.accounts(&forged, &trace, &truth));
        assert_eq!((question, ruling.executed), (Question::End { agreed: 5 }, 0));
        member_lied(&ruling, "its contribution is blob");
        let hoarded = Commit { feedback_out: BlobRef::of(b"something kept"), ..honest.clone() };
        member_lied(&world.judge(&world.accounts(&hoarded, &trace, &truth)).1, "its error feedback is blob");
        // the accuser's turn: the same steps, and another contribution made up
        let made_up = Executed { contribution: b"made up".to_vec(), ..world.honest() };
        accuser_lied(&world.judge(&world.accounts(&honest, &trace, &made_up)).1, "its contribution is blob");
        let made_up = Executed { feedback_out: b"made up".to_vec(), ..world.honest() };
        accuser_lied(
            &world.judge(&world.accounts(&honest, &trace, &made_up)).1,
            "others than they have to be",
        );
    }
}

#[test]
fn words_that_contradict_one_another_need_no_execution() {
    let world = World::new(InnerState::Fresh);
    let truth = world.honest();
    let honest = world.commit(&truth);
    let trace = truth.trace.to_bytes();
    let boasting = Commit { loss_last_micronats: 1, ..honest.clone() };
    member_lied(&world.judge(&world.accounts(&boasting, &trace, &truth)).1, "other losses or tokens");
    let garbled = Commit { trace: BlobRef::of(b"no trace"), ..honest.clone() };
    member_lied(&world.judge(&world.accounts(&garbled, b"no trace", &truth)).1, "none of its steps");
    // accusations of the same that are not so
    for what in [DivergentPart::Malformed, DivergentPart::Summary] {
        let mut accounts = world.accounts(&boasting, &trace, &truth);
        (accounts.commit, accounts.accusation.what) = (honest.clone(), what);
        let (question, ruling) = world.judge(&accounts);
        assert_eq!(question, Question::Form);
        accuser_lied(&ruling, "and they don't");
    }
    let mut accounts = world.accounts(&garbled, b"no trace", &truth);
    accounts.accusation.what = DivergentPart::Impossible;
    (accounts.commit, accounts.claimed, accounts.replayed) = (honest, trace, None);
    accuser_lied(&world.judge(&accounts).1, "ends in no number, and it does not");
}

#[test]
fn what_nobody_can_tell_afterwards_is_not_judged() {
    let world = World::new(InnerState::Fresh);
    let (truth, lie) = (world.honest(), world.poisoned(2));
    let mut accounts = world.accounts(&world.commit(&lie), &lie.trace.to_bytes(), &truth);
    accounts.replayed = None;
    assert_eq!(accounts.question(), Err(Undecidable::NoTrace));
    accounts.accusation.what = DivergentPart::Withheld;
    assert_eq!(accounts.question(), Err(Undecidable::Withheld));
}

/// What a judge is handed as the state before comes from the accuser. It is known by the digest that both named; and where the
/// learning rate stands is in it, so that not even that is somebody's word.
#[test]
fn the_state_before_is_of_one_step_of_one_stage() {
    let world = World::new(InnerState::Fresh);
    let job = world.job(world.work(), &world.start, None);
    let state = execute_steps(&job, None, 2, &world.packs).unwrap().end;
    let error = execute_steps(&job, Some((4, &state)), 5, &world.packs).unwrap_err().to_string();
    assert_eq!(error, "the training state is the one before step 4 of its stage, and not before step 6");
    let layout = layout_of(&world.config, &world.manifest.terms.stages[0]).unwrap();
    let bytes = state.to_bytes();
    assert_eq!(Snapshot::from_bytes(&bytes, &layout).unwrap(), state);
    assert_eq!(
        bytes.len() as u64,
        56 + 12 * ErrorFeedback::zero(&layout).tensors().iter().map(|t| t.len() as u64).sum::<u64>()
    );
}
