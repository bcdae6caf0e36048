//! Accusations between real processes, settled by verifiers that did not draw the work: by one step where the member lied, by a
//! whole replay where the accuser did.

mod support;

use support::{Process, TERMS, World};
use talkoot_protocol::{
    event::Role,
    run::{Phase, RunState},
};

/// So little is drawn that somebody is left who did not draw what is accused: that all did happens once in ten thousand runs.
fn terms() -> String {
    TERMS
        .replace("rounds = 5", "rounds = 150")
        .replace("inner_steps = 2", "inner_steps = 5")
        .replace("rate = 0.5", "rate = 0.1\nconfirmations = 2\ndigest_interval = 1")
        .replace("min_verifiers = 1", "min_verifiers = 3")
        .replace("probation = 1", "probation = 0")
}

/// Starts verifiers by name, and waits for them.
fn verifiers(world: &World, honest: usize, more: &[(&str, &[&str])]) -> Vec<Process> {
    let names: Vec<String> = (0..honest).map(|number| format!("honest-{number}")).collect();
    let mut started: Vec<Process> = names.iter().map(|name| world.member("verifier", name, &[])).collect();
    started.extend(more.iter().map(|(name, arguments)| world.member("verifier", name, arguments)));
    world.wait_for("the verifiers", |state| state.active(Role::Verifier).count() == started.len());
    started
}

/// Waits until a member is excluded, which has to happen before the run ends.
fn excluded(world: &World, name: &str, key: &str) -> RunState {
    let id = world.id_of(name, key);
    let out = |state: &RunState| state.members().get(&id).is_some_and(|member| member.excluded.is_some());
    let state = world.wait_for("an exclusion", |state| out(state) || state.phase() == Phase::Ended);
    assert!(out(&state), "{name} is found before the run ends: {:?}", state.totals());
    state
}

/// What stands between the logs of two verifiers.
const NEXT: &str = "\n--- the next verifier\n";

fn logs(verifiers: &[Process]) -> String {
    verifiers.iter().map(Process::log).collect::<Vec<_>>().join(NEXT)
}

/// How accusations that these verifiers did not make were settled by them.
fn settlements(verifiers: &[Process]) -> Vec<String> {
    let logs = logs(verifiers);
    let lines = logs.lines().filter(|line| line.contains("an accusation is settled by a step"));
    lines.map(str::to_owned).collect()
}

#[test]
fn a_lie_in_one_step_is_confirmed_by_verifiers_that_executed_that_step_alone() {
    let world = World::new(&terms());
    let _coordinator = world.coordinator();
    let verifiers = verifiers(&world, 4, &[]);
    let _honest = world.member("node", "a", &[]);
    let _liar = world.member("node", "liar", &["--cheat", "one-step"]);
    world.wait_for("two members", |state| support::trainers(state) == 2);
    let state = excluded(&world, "liar", "node.key");
    let settled = settlements(&verifiers);
    assert!(!settled.is_empty(), "nobody settled it by a step: {}", logs(&verifiers));
    for line in &settled {
        assert!(line.contains("member: Some(") && line.contains("accuser: None"), "{line}");
        assert!(line.contains("executed: 1 "), "one step of five: {line}");
    }
    assert!(state.members()[&world.id_of("a", "node.key")].excluded.is_none());
}

/// Lets a verifier accuse an honest member until it is excluded for it; what the others' logs say, and how they settled it.
fn false_accusation() -> (String, Vec<String>) {
    let world = World::new(&terms());
    let _coordinator = world.coordinator();
    let verifiers = verifiers(&world, 4, &[("accuser", &["--cheat", "accuse"])]);
    // one alone: members whose few packs are the same are odd, and what is odd everybody executes without an accusation
    let _honest = world.member("node", "a", &[]);
    let state = excluded(&world, "accuser", "verifier.key");
    assert!(state.members()[&world.id_of("a", "node.key")].excluded.is_none());
    (logs(&verifiers), settlements(&verifiers))
}

#[test]
fn a_false_accusation_is_not_confirmed_by_a_step_and_a_whole_replay_clears_the_member() {
    // where two others drew the work as well and passed it, the accuser is out before anybody needs a step: once in twenty runs
    let mut tries = std::iter::repeat_with(false_accusation).take(3);
    let looked_at = tries.find(|(_, settled)| !settled.is_empty());
    let (logs, settled) = looked_at.expect("in three runs nobody looked at a step");
    for line in &settled {
        assert!(line.contains("member: None") && line.contains("accuser: Some("), "{line}");
    }
    let passed = logs.split(NEXT).any(|log| {
        let mut after = log.lines().skip_while(|line| !line.contains("an accusation is settled by a step"));
        after.any(|line| line.contains("replayed") && line.contains("finding=Pass"))
    });
    assert!(passed, "who looked at the step acquits by a whole replay: {settled:?}");
}
