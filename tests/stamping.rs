//! Canaries between real processes: a verifier that says of everything that it passes is found by them alone.

mod support;

use support::{TERMS, World};
use talkoot_protocol::event::Role;

/// Everybody is checked in every round, and every other commit is a canary: that none of a score is, happens once in a million
/// runs.
fn terms() -> String {
    TERMS
        .replace("rate = 0.5", "rate = 1.0\ncanaries = 0.5")
        .replace("probation = 1", "probation = 1000")
        .replace("rounds = 5", "rounds = 10")
}

#[test]
fn a_stamping_verifier_is_excluded_by_a_canary_and_an_honest_one_is_not() {
    let world = World::new(&terms());
    let _coordinator = world.coordinator();
    let _honest = world.member("verifier", "honest", &[]);
    let stamping = world.member("verifier", "stamping", &["--cheat", "stamp"]);
    world.wait_for("both verifiers", |state| state.active(Role::Verifier).count() == 2);
    let _nodes = [world.member("node", "a", &[]), world.member("node", "b", &[])];
    let state = world.wait_for_the_end();
    drop(stamping);
    let excluded = |name: &str, key: &str| state.members()[&world.id_of(name, key)].excluded.is_some();
    assert!(excluded("stamping", "verifier.key"), "it passed a canary: {:?}", state.totals());
    assert!(!excluded("honest", "verifier.key"));
    assert!(!excluded("a", "node.key") && !excluded("b", "node.key"), "a canary is no lie of its member's");
    let totals = state.totals();
    assert!(totals.canaries > 0 && totals.included >= 10, "{totals:?}");
    // What entered is what honest work gives, and no canary is among it.
    let (code, report) = world.audit("100%");
    assert_eq!(code, Some(0), "{report}");
}
