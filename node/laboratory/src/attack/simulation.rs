//! The run itself: the real fold and conductor, driven as coordinator, members and verifiers would.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use rand::{RngExt as _, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use talkoot_ledger::{Log, LogError, SignerKey, note::KeyError};
use talkoot_protocol::{
    canary::Drawn,
    challenge::{DrawKey, check_probability},
    conductor::{Surroundings, next_event},
    digest::{BlobRef, Digest},
    entry::{Entry, Statement},
    event::{
        self, Challenge, Commit, Divergence, DivergentPart, Event, Finding, Join, Opening, Role, Verdict,
    },
    identity::{Keypair, MemberId},
    manifest::{Bindings, DatasetBinding, Manifest, ManifestError, Terms},
    real::Real,
    run::{Member, Phase, RuleError, RunState},
};

use super::{
    cast::{Attacker, Verifiers},
    outcome::{KindOutcome, Outcome},
};

/// The terms of the run, but for what a scenario says.
const TERMS: &str = include_str!("terms.toml");

/// Origin of a simulated log, before its seed.
const ORIGIN: &str = "attack.invalid";

/// An accusing verifier lies about one in so many.
const ACCUSES_ONE_IN: u32 = 20;

/// What is to be simulated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scenario {
    /// Honest members.
    pub honest: usize,
    /// Attackers, so many of each kind.
    pub attackers: Vec<(Attacker, usize)>,
    /// Verifiers.
    pub verifiers: Verifiers,
    /// Rounds.
    pub rounds: u32,
    /// Passed checks in a row below which everything is checked.
    pub probation: u32,
    /// Floor of the probability of a check.
    pub rate: f64,
    /// Verifiers that have to find the same before anybody is excluded.
    pub confirmations: u32,
    /// Probability that a commit is a canary; 0 for a run without them.
    #[serde(default)]
    pub canaries: f64,
    /// Everything that is drawn follows from it, keys included.
    pub seed: u64,
}

/// Why a simulation came to no end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttackError {
    /// The scenario makes no run.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A statement broke a rule, so that the simulation is wrong or the rules are.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// The log cannot be written.
    #[error("the simulated run's log: {0}")]
    Log(#[from] LogError),
    /// The log's key cannot be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Nobody had anything to say.
    #[error("the simulated run stands still in round {round}: too few members or verifiers are left")]
    Stuck {
        /// The round.
        round: u64,
    },
}

/// Somebody with an identity.
struct Person {
    key: Keypair,
    /// Which kind of attacker, by its place in the scenario; none when honest.
    kind: Option<usize>,
    rounds: u64,
    lies: u64,
}

/// What is counted of a kind of attacker.
#[derive(Default)]
struct Count {
    identities: usize,
    lies: u64,
    entered: u64,
    expected: f64,
    variance: f64,
    until_caught: Vec<u64>,
}

/// A run under way.
struct Simulation<'a> {
    scenario: &'a Scenario,
    dice: ChaCha8Rng,
    operator: Keypair,
    state: RunState,
    around: Surroundings,
    people: BTreeMap<MemberId, Person>,
    verifiers: Vec<Keypair>,
    /// Entries that the log does not hold yet, where there is a log.
    unwritten: Option<Vec<Vec<u8>>>,
    /// Lies of the current round, by ledger index of the commit.
    lies: BTreeSet<u64>,
    /// Canaries of the current round, likewise.
    canaries: BTreeSet<u64>,
    counts: Vec<Count>,
    names: u64,
    honest: u64,
    checks: u64,
    falsely_excluded: u64,
    /// Lying ones, honest ones.
    verifiers_excluded: [u64; 2],
    /// Rounds until each lying one was excluded.
    until_excluded: Vec<u64>,
    cost_by_round: Vec<f64>,
}

impl Scenario {
    /// Simulates it. `on_round` hears of each round that is done.
    ///
    /// # Errors
    ///
    /// [`AttackError`] when the scenario makes no run.
    pub fn run(&self, on_round: impl FnMut(u64)) -> Result<Outcome, AttackError> {
        self.simulate(None, on_round)
    }

    /// Simulates it, and leaves its ledger in `dir`: the log that a coordinator would have written, with a signed checkpoint
    /// after each phase of a round. What the ledger names as blobs does not exist.
    ///
    /// # Errors
    ///
    /// As [`Scenario::run`]; [`AttackError::Log`] when there is a log in `dir`, or it cannot be written.
    pub fn record(&self, dir: &Path, on_round: impl FnMut(u64)) -> Result<Outcome, AttackError> {
        let mut log = Log::create(dir, &self.origin(), &self.log_secret())?;
        self.simulate(Some(&mut log), on_round)
    }

    fn simulate(
        &self,
        mut log: Option<&mut Log>,
        mut on_round: impl FnMut(u64),
    ) -> Result<Outcome, AttackError> {
        let mut simulation = Simulation::new(self, log.is_some())?;
        simulation.populate()?;
        while simulation.state.phase() != Phase::Ended {
            simulation.advance()?;
            if let (Some(log), Some(entries)) = (&mut log, &mut simulation.unwritten) {
                log.append(&std::mem::take(entries))?;
            }
            on_round(simulation.state.progress().next_round);
        }
        Ok(simulation.outcome())
    }

    fn origin(&self) -> String {
        format!("{ORIGIN}/{}", self.seed)
    }

    fn log_secret(&self) -> [u8; 32] {
        self.secret("log", 0).seed()
    }

    fn manifest(&self, operator: &Keypair) -> Result<Manifest, AttackError> {
        let mut terms = Terms::from_toml(TERMS)?;
        terms.stages[0].rounds = self.rounds;
        terms.verification.probation = self.probation;
        terms.verification.rate = Real::new(self.rate);
        terms.verification.confirmations = Some(self.confirmations);
        terms.verification.min_verifiers = self.confirmations;
        terms.verification.canaries = (self.canaries > 0.0).then(|| Real::new(self.canaries));
        let manifest = Manifest {
            terms,
            bindings: Bindings {
                operator: operator.id(),
                log_key: SignerKey::log(&self.origin(), &self.log_secret())?.verifier().to_string(),
                config: BlobRef::of(b"config"),
                tokenizer: BlobRef::of(b"tokenizer"),
                initial_state: BlobRef::of(b"state"),
                datasets: vec![DatasetBinding {
                    index: BlobRef::of(b"index"),
                    packs: 1 << 20,
                    periods: None,
                }],
            },
        };
        manifest.validate()?;
        Ok(manifest)
    }

    fn secret(&self, whose: &str, number: u64) -> Keypair {
        let text = format!("talkoot attack {} {whose} {number}", self.seed);
        Keypair::from_seed(*Digest::of(text.as_bytes()).as_bytes())
    }
}

impl<'a> Simulation<'a> {
    fn new(scenario: &'a Scenario, recorded: bool) -> Result<Self, AttackError> {
        let operator = scenario.secret("operator", 0);
        let manifest = scenario.manifest(&operator)?;
        let run = manifest.id();
        let statement = Statement::sign(run, &operator, &Event::Manifest(Box::new(manifest)));
        let first = Entry::new(0, 1_000, statement).to_bytes();
        let Verifiers { honest, stamping, accusing } = scenario.verifiers;
        Ok(Self {
            scenario,
            dice: ChaCha8Rng::seed_from_u64(scenario.seed),
            operator,
            state: RunState::begin(&first)?,
            around: Surroundings { now_ms: 1_000, ..Surroundings::default() },
            people: BTreeMap::new(),
            verifiers: (0..(honest + stamping + accusing) as u64)
                .map(|at| scenario.secret("verifier", at))
                .collect(),
            unwritten: recorded.then(|| vec![first]),
            lies: BTreeSet::new(),
            canaries: BTreeSet::new(),
            counts: scenario.attackers.iter().map(|_| Count::default()).collect(),
            names: 0,
            honest: 0,
            checks: 0,
            falsely_excluded: 0,
            verifiers_excluded: [0; 2],
            until_excluded: Vec::new(),
            cost_by_round: Vec::new(),
        })
    }

    fn populate(&mut self) -> Result<(), AttackError> {
        for _ in 0..self.scenario.honest {
            self.join(None)?;
        }
        for kind in 0..self.scenario.attackers.len() {
            for _ in 0..self.scenario.attackers[kind].1 {
                self.join(Some(kind))?;
            }
        }
        for key in self.verifiers.clone() {
            let draw_key = Some(DrawKey::of(&key).public());
            let join = Join { role: Role::Verifier, seen: self.state.size(), draw_key, recovery: None };
            self.say(&key, &Event::Join(join))?;
            self.around.present.insert(key.id());
        }
        Ok(())
    }

    fn join(&mut self, kind: Option<usize>) -> Result<(), AttackError> {
        let key = self.scenario.secret("member", self.names);
        self.names += 1;
        let draw_key = (self.scenario.canaries > 0.0).then(|| DrawKey::of(&key).public());
        let join = Join { role: Role::Trainer, seen: self.state.size(), draw_key, recovery: None };
        self.say(&key, &Event::Join(join))?;
        self.around.present.insert(key.id());
        if let Some(kind) = kind {
            self.counts[kind].identities += 1;
        }
        self.people.insert(key.id(), Person { key, kind, rounds: 0, lies: 0 });
        Ok(())
    }

    fn say(&mut self, key: &Keypair, event: &Event) -> Result<u64, RuleError> {
        let statement = Statement::sign(self.state.run(), key, event);
        self.enter(statement)
    }

    fn enter(&mut self, statement: Statement) -> Result<u64, RuleError> {
        self.around.now_ms += 1;
        let index = self.state.size();
        let bytes = Entry::new(index, self.around.now_ms, statement).to_bytes();
        self.state.apply(&bytes)?;
        if let Some(unwritten) = &mut self.unwritten {
            unwritten.push(bytes);
        }
        Ok(index)
    }

    /// One phase of a round, and what the operator has to say after it.
    fn advance(&mut self) -> Result<(), AttackError> {
        let before = self.state.size();
        let operator = self.operator.clone();
        while let Some(event) = next_event(&self.state, &self.around) {
            self.say(&operator, &event)?;
            match event {
                Event::Penalty(penalty) => self.excluded(penalty.member)?,
                Event::RoundClose(_) => self.closed(),
                _ => {}
            }
        }
        match self.state.phase() {
            Phase::Training => self.train()?,
            Phase::Sealed => self.verify()?,
            Phase::Closed => self.settle()?,
            Phase::Between | Phase::Ended => {}
        }
        if self.state.size() == before && self.state.phase() != Phase::Ended {
            return Err(AttackError::Stuck { round: self.state.progress().next_round });
        }
        Ok(())
    }

    fn train(&mut self) -> Result<(), AttackError> {
        self.lies.clear();
        self.canaries.clear();
        let awaited = self.state.awaited();
        let state = &self.state;
        let people = &self.people;
        // Signing is most of the work, and each signature stands alone.
        let rate = self.scenario.canaries;
        let statements: Vec<(MemberId, Digest, bool, Statement)> = awaited
            .into_par_iter()
            .filter_map(|id| {
                let key = &people.get(&id)?.key;
                let mut commit = commit_of(state, &id)?;
                let drawn = (rate > 0.0).then(|| drawn(state, key)).flatten();
                let canary = drawn.as_ref().is_some_and(|drawn| drawn.is_canary(rate));
                commit.moments = drawn.map(|drawn| match canary {
                    true => drawn.false_moments(),
                    false => commit.trace.digest,
                });
                let contribution = commit.contribution.digest;
                Some((id, contribution, canary, Statement::sign(state.run(), key, &Event::Commit(commit))))
            })
            .collect();
        for (id, contribution, canary, statement) in statements {
            let index = self.enter(statement)?;
            if canary {
                self.canaries.insert(index);
            }
            self.around.archived.insert(contribution);
            let Some(person) = self.people.get_mut(&id) else { continue };
            let age = person.rounds;
            person.rounds += 1;
            let Some(kind) = person.kind else {
                self.honest += 1;
                continue;
            };
            if !self.scenario.attackers[kind].0.lies(age, &mut self.dice) {
                self.honest += 1;
                continue;
            }
            person.lies += 1;
            self.lies.insert(index);
            let streak = self.state.members().get(&id).map_or(0, |member| member.streak);
            let one = check_probability(streak, self.scenario.probation, self.scenario.rate);
            let honest = i32::try_from(self.scenario.verifiers.honest).unwrap_or(i32::MAX);
            let p = 1.0 - (1.0 - one).powi(honest);
            let count = &mut self.counts[kind];
            count.lies += 1;
            count.expected += p;
            count.variance += p * (1.0 - p);
        }
        Ok(())
    }

    fn verify(&mut self) -> Result<(), AttackError> {
        let mut checks = 0;
        let active: Vec<(usize, Keypair)> = self
            .verifiers
            .iter()
            .enumerate()
            .filter(|(_, key)| self.state.members().get(&key.id()).is_some_and(Member::is_active))
            .map(|(at, key)| (at, key.clone()))
            .collect();
        for (_, key) in &active {
            let Some(log) = self.state.sealed_log() else { return Ok(()) };
            let proof = DrawKey::of(key).draw(&log);
            self.say(key, &Event::Challenge(Challenge { round: log.round, proof }))?;
        }
        // An accusation is work for those who had done theirs.
        loop {
            let before = checks;
            for (at, key) in &active {
                let Some(round) = self.state.round() else { return Ok(()) };
                let (number, open) = (round.open.round, round.open_checks(&key.id()));
                for commit in open {
                    checks += 1;
                    let finding = if self.fails(*at, commit) { failed() } else { Finding::Pass };
                    self.say(
                        key,
                        &Event::Verdict(Verdict { round: number, commit, finding, deviation: None }),
                    )?;
                }
            }
            if checks == before {
                break;
            }
        }
        self.open()?;
        self.checks += checks;
        let sealed = self.state.round().map_or(0, |round| round.commits.len());
        self.cost_by_round.push(checks as f64 / sealed.max(1) as f64);
        Ok(())
    }

    /// Everybody shows what it drew.
    fn open(&mut self) -> Result<(), AttackError> {
        let (state, people) = (&self.state, &self.people);
        let statements: Vec<Statement> = state
            .unopened()
            .into_par_iter()
            .filter_map(|id| {
                let key = &people.get(&id)?.key;
                let draw = state.canary_draw()?;
                let opening = Opening { round: draw.round, proof: draw.prove(&DrawKey::of(key)) };
                Some(Statement::sign(state.run(), key, &Event::Opening(opening)))
            })
            .collect();
        for statement in statements {
            self.enter(statement)?;
        }
        Ok(())
    }

    /// What the verifier in this place says of a commit.
    fn fails(&mut self, verifier: usize, commit: u64) -> bool {
        let lied = self.lies.contains(&commit) || self.canaries.contains(&commit);
        let Verifiers { honest, stamping, .. } = self.scenario.verifiers;
        match verifier {
            at if at < honest => lied,
            at if at < honest + stamping => false,
            _ => !lied && self.dice.random_range(0..ACCUSES_ONE_IN) == 0,
        }
    }

    /// A penalty was said: somebody is out.
    fn excluded(&mut self, member: MemberId) -> Result<(), AttackError> {
        self.around.present.remove(&member);
        let Some(person) = self.people.remove(&member) else {
            let place = self.verifiers.iter().position(|key| key.id() == member);
            let honest = place.is_some_and(|at| at < self.scenario.verifiers.honest);
            self.verifiers_excluded[usize::from(honest)] += 1;
            if !honest {
                self.until_excluded.push(self.state.progress().next_round);
            }
            return Ok(());
        };
        let Some(kind) = person.kind else {
            self.falsely_excluded += 1;
            return Ok(());
        };
        self.counts[kind].until_caught.push(person.lies);
        if self.scenario.attackers[kind].0 == Attacker::Whitewasher {
            // A run admits so many names and no more.
            match self.join(Some(kind)) {
                Err(AttackError::Rule(RuleError::NotAdmitted { .. })) => {}
                joined => joined?,
            }
        }
        Ok(())
    }

    /// The round is closed: lies that were included are in the weights.
    fn closed(&mut self) {
        let Some(round) = self.state.round() else { return };
        for (member, record) in round.included() {
            if self.lies.contains(&record.index)
                && let Some(kind) = self.people.get(member).and_then(|person| person.kind)
            {
                self.counts[kind].entered += 1;
            }
        }
    }

    /// One verifier tells the next state, and everybody's time to object passes.
    fn settle(&mut self) -> Result<(), AttackError> {
        let Some(round) = self.state.round() else { return Ok(()) };
        if !round.outcomes.is_empty() {
            return Ok(());
        }
        let round = round.open.round;
        let next = BlobRef { digest: Digest::of(&round.to_be_bytes()), bytes: 5 };
        self.around.archived = BTreeSet::from([next.digest]);
        let speaker = self
            .verifiers
            .iter()
            .find(|key| self.state.members().get(&key.id()).is_some_and(Member::is_active));
        if let Some(key) = speaker.cloned() {
            self.say(&key, &Event::Outcome(event::Outcome { round, state: next }))?;
        }
        let wait = u64::from(self.state.manifest().terms.deadlines.outcome_s) * 1_000;
        self.around.now_ms += wait;
        Ok(())
    }

    fn outcome(self) -> Outcome {
        let kinds = self.scenario.attackers.iter().zip(self.counts).map(|((attacker, people), mut count)| {
            count.until_caught.sort_unstable();
            let caught = count.until_caught.len();
            let at = |share: f64| {
                count.until_caught.get(((caught as f64 * share) as usize).min(caught - 1)).copied()
            };
            let until = (caught > 0).then(|| [at(0.5).unwrap_or(0), at(0.95).unwrap_or(0)]);
            KindOutcome {
                kind: attacker.name(),
                people: *people,
                identities: count.identities,
                lies: count.lies,
                entered: count.entered,
                caught: caught as u64,
                expected: count.expected,
                deviation: count.variance.sqrt(),
                lies_until_caught: until,
            }
        });
        let kinds: Vec<KindOutcome> = kinds.collect();
        let contributions = self.honest + kinds.iter().map(|kind| kind.lies).sum::<u64>();
        Outcome {
            rounds: self.state.progress().next_round,
            contributions,
            honest: self.honest,
            checks: self.checks,
            cost: self.checks as f64 / contributions.max(1) as f64,
            cost_by_round: self.cost_by_round,
            falsely_excluded: self.falsely_excluded,
            falsely_excluded_per_million: self.falsely_excluded as f64 * 1e6 / self.honest.max(1) as f64,
            lying_verifiers_excluded: self.verifiers_excluded[0],
            honest_verifiers_excluded: self.verifiers_excluded[1],
            rounds_until_excluded: self.until_excluded,
            canaries: self.state.totals().canaries,
            kinds,
            entries: self.state.size(),
        }
    }
}

/// A commit that keeps every rule; what it names does not exist.
fn commit_of(state: &RunState, id: &MemberId) -> Option<Commit> {
    let round = state.round()?;
    let work = round.work_of(id)?;
    let steps = u32::try_from(work.steps.len()).ok()?;
    let name = format!("{} {id}", round.open.round);
    let feedback = state.members().get(id)?.feedback;
    Some(Commit {
        round: round.open.round,
        start_state: round.open.start_state.digest,
        work: work.digest(steps),
        steps,
        contribution: BlobRef::of(format!("contribution {name}").as_bytes()),
        trace: BlobRef::of(format!("trace {name}").as_bytes()),
        feedback_in: feedback.filter(|(stage, _)| *stage == round.open.stage).map(|(_, blob)| blob),
        feedback_out: BlobRef::of(format!("feedback {name}").as_bytes()),
        tokens: 16,
        loss_first_micronats: 2_000_000,
        loss_last_micronats: 1_900_000,
        train_ms: 1_000,
        moments: None,
    })
}

/// What a member drew for the round.
fn drawn(state: &RunState, key: &Keypair) -> Option<Drawn> {
    let (draw, key) = (state.canary_draw()?, DrawKey::of(key));
    draw.check(&key.public(), &draw.prove(&key)).ok()
}

fn failed() -> Finding {
    Finding::Fail(Divergence {
        what: DivergentPart::Step,
        replayed: BlobRef::of(b"the truth"),
        first_step: Some(0),
        claimed_micronats: Some(1),
        replayed_micronats: Some(2),
        trace: None,
    })
}
