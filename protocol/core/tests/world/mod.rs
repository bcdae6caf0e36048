//! A run in milliseconds: the conductor and the fold with invented members, and a ledger to replay.

#![allow(dead_code, reason = "each test binary uses its part")]

use talkoot_protocol::{
    canary::Drawn,
    challenge::DrawKey,
    conductor::{Surroundings, next_event},
    digest::{BlobRef, Digest},
    entry::{Entry, Statement},
    event::{
        Challenge, Commit, Divergence, DivergentPart, Event, Finding, Join, Opening, Outcome, Role, Verdict,
    },
    identity::{Keypair, MemberId},
    manifest::{Bindings, DatasetBinding, Manifest, Terms},
    run::{Phase, RuleError, RunState},
};

pub(crate) struct World {
    pub(crate) operator: Keypair,
    pub(crate) state: RunState,
    pub(crate) log: Vec<Vec<u8>>,
    pub(crate) around: Surroundings,
}

pub(crate) fn manifest(operator: &Keypair) -> Manifest {
    let terms = Terms::from_toml(include_str!("../../src/manifest/example.toml")).unwrap();
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
    pub(crate) fn new() -> Self {
        let operator = Keypair::from_seed([9; 32]);
        let manifest = manifest(&operator);
        Self::with(operator, manifest)
    }

    pub(crate) fn with(operator: Keypair, manifest: Manifest) -> Self {
        let run = manifest.id();
        let statement = Statement::sign(run, &operator, &Event::Manifest(Box::new(manifest)));
        let first = Entry::new(0, 1_000, statement).to_bytes();
        let around = Surroundings { now_ms: 1_000, ..Surroundings::default() };
        Self { operator, state: RunState::begin(&first).unwrap(), log: vec![first], around }
    }

    pub(crate) fn say(&mut self, key: &Keypair, event: &Event) -> Result<u64, RuleError> {
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

    pub(crate) fn conduct(&mut self) -> usize {
        let mut said = 0;
        while let Some(event) = next_event(&self.state, &self.around) {
            let operator = self.operator.clone();
            self.say(&operator, &event).expect("the conductor keeps the rules");
            said += 1;
        }
        said
    }

    pub(crate) fn join(&mut self, key: &Keypair, role: Role) {
        let canaries = self.state.manifest().terms.verification.canaries.is_some();
        let draw_key = (role == Role::Verifier || canaries).then(|| DrawKey::of(key).public());
        self.say(key, &Event::Join(Join { role, seen: self.state.size(), draw_key, recovery: None }))
            .unwrap();
        self.around.present.insert(key.id());
    }

    pub(crate) fn commit_of(&self, key: &Keypair) -> Commit {
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
            moments: self.moments_of(key),
        }
    }

    /// What an honest member gives as the digest of its moments: a false one when it drew a canary.
    fn moments_of(&self, key: &Keypair) -> Option<Digest> {
        let rate = self.state.manifest().terms.verification.canaries?;
        let drawn = self.drawn(key);
        let moments =
            if drawn.is_canary(rate.get()) { drawn.false_moments() } else { Digest::of(b"moments") };
        Some(moments)
    }

    /// What a member drew for the round.
    pub(crate) fn drawn(&self, key: &Keypair) -> Drawn {
        let (draw, key) = (self.state.canary_draw().unwrap(), DrawKey::of(key));
        draw.check(&key.public(), &draw.prove(&key)).unwrap()
    }

    pub(crate) fn open(&mut self, key: &Keypair) -> Result<u64, RuleError> {
        let draw = self.state.canary_draw().unwrap();
        let opening = Opening { round: draw.round, proof: draw.prove(&DrawKey::of(key)) };
        self.say(key, &Event::Opening(opening))
    }

    pub(crate) fn commit(&mut self, key: &Keypair) {
        let commit = self.commit_of(key);
        self.around.archived.insert(commit.contribution.digest);
        self.say(key, &Event::Commit(commit)).unwrap();
    }

    pub(crate) fn draw(&mut self, key: &Keypair) -> Vec<u64> {
        let log = self.state.sealed_log().unwrap();
        let proof = DrawKey::of(key).draw(&log);
        self.say(key, &Event::Challenge(Challenge { round: log.round, proof })).unwrap();
        self.state.round().unwrap().open_checks(&key.id())
    }

    pub(crate) fn report(&mut self, key: &Keypair) {
        let round = self.state.round().unwrap().open.round;
        // As long as the initial state, as all states of one model are.
        let state = BlobRef { digest: Digest::of(&round.to_be_bytes()), bytes: 5 };
        self.around.archived.insert(state.digest);
        let _ = self.say(key, &Event::Outcome(Outcome { round, state }));
    }

    pub(crate) fn judge(
        &mut self,
        verifier: &Keypair,
        commit: u64,
        finding: Finding,
    ) -> Result<u64, RuleError> {
        let round = self.state.round().unwrap().open.round;
        self.say(verifier, &Event::Verdict(Verdict { round, commit, finding, deviation: None }))
    }

    pub(crate) fn commit_by(&self, key: &Keypair) -> u64 {
        self.state.round().unwrap().commits[&key.id()].index
    }

    /// Everybody else passes what is open.
    pub(crate) fn pass_the_rest(&mut self, verifiers: &[Keypair]) {
        for key in verifiers {
            for commit in self.state.round().unwrap().open_checks(&key.id()) {
                self.judge(key, commit, Finding::Pass).unwrap();
            }
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.state.phase()
    }
}

pub(crate) fn failed() -> Finding {
    Finding::Fail(Divergence {
        what: DivergentPart::Step,
        replayed: BlobRef::of(b"the truth"),
        first_step: Some(0),
        claimed_micronats: Some(1),
        replayed_micronats: Some(2),
        trace: Some(BlobRef::of(b"the true trace")),
    })
}

pub(crate) fn keys(count: u8) -> Vec<Keypair> {
    (1..=count).map(|i| Keypair::from_seed([i; 32])).collect()
}

/// Runs to the end; `liar` fails every check that is drawn.
pub(crate) fn run(world: &mut World, trainers: &[Keypair], verifier: &Keypair, liar: Option<MemberId>) {
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
                    world
                        .say(verifier, &Event::Verdict(Verdict { round, commit, finding, deviation: None }))
                        .unwrap();
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

/// Takes a sealed round to its end and opens the next one.
pub(crate) fn next_round(world: &mut World, trainers: &[Keypair], verifier: &Keypair) {
    let round = world.state.round().unwrap().open.round;
    for commit in world.draw(verifier) {
        world
            .say(
                verifier,
                &Event::Verdict(Verdict { round, commit, finding: Finding::Pass, deviation: None }),
            )
            .unwrap();
    }
    world.conduct();
    for key in trainers {
        world.report(key);
    }
    world.conduct();
    assert_eq!(world.phase(), Phase::Training);
}
