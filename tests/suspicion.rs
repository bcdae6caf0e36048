//! Second signals between real processes: what nobody draws is executed again when it looks odd.

mod support;

use support::{TERMS, World};

/// Nobody draws anything in this run, and samples of the error feedback let noise of a plausible size pass.
#[test]
fn noise_that_nobody_draws_is_odd_and_is_found() {
    let terms = TERMS.replace("probation = 1", "probation = 0").replace("rate = 0.5", "rate = 0.0");
    let world = World::new(&terms);
    let _coordinator = world.coordinator();
    let honest = world.member("node", "honest", &[]);
    let _noisy = world.member("node", "noisy", &["--cheat", "random"]);
    world.wait_for("two members", |state| support::trainers(state) == 2);
    let verifier = world.member("verifier", "verifier", &[]);
    let state = world.wait_for_the_end();
    let noisy = world.id_of("noisy", "node.key");
    let log = verifier.log();
    assert!(state.members()[&noisy].watched_until.is_some(), "it was suspected: {log}");
    assert!(log.contains("this contribution is odd"), "{log}");
    assert!(state.members()[&noisy].excluded.is_some(), "and a replay has found it: {log}");
    assert!(state.members()[&world.id_of("honest", "node.key")].excluded.is_none(), "{}", honest.log());
    let (code, report) = world.audit("all");
    assert_ne!(code, Some(1), "{report}");
}
