//! Class `fast` between real processes: limits are measured, members whose arithmetics round differently pass within them, and a
//! liar does not.

mod support;

use std::fs;

use support::{TERMS, World, run_badly, run_well};

#[test]
fn members_of_two_arithmetics_pass_within_measured_limits_and_a_liar_does_not() {
    let terms = TERMS
        .replace("inner_steps = 2", "inner_steps = 4")
        .replace("rounds = 5", "rounds = 3")
        .replace("probation = 1", "probation = 100");
    // a run of class exact, for its data and its tokenizer
    let data = World::new(&terms);
    let written = data.path("fast.toml");
    fs::write(&written, &terms).expect("terms");
    let at = |name: &str| data.path(name).display().to_string();
    let asked = [
        "verifier",
        "calibrate",
        "--terms",
        &at("fast.toml"),
        "--dataset",
        &at("packed/instruct.manifest"),
        "--tokenizer",
        &at("drawn/tokenizer.json"),
        "--members",
        "2",
        "--write",
    ]
    .map(str::to_owned);
    let report = run_well(&asked.each_ref().map(String::as_str));
    assert!(report.contains("distance"), "{report}");
    let calibrated = fs::read_to_string(&written).expect("terms");
    assert!(calibrated.contains("class = \"fast\"") && calibrated.contains("tolerance"), "{calibrated}");

    let world = World::new(&calibrated);
    let _coordinator = world.coordinator();
    let exact = world.member("node", "exact", &[]);
    let library = world.member("node", "library", &["--arithmetic", "library"]);
    let _lazy = world.member("node", "lazy", &["--cheat", "lazy"]);
    world.wait_for("three members", |state| support::trainers(state) == 3);
    let verifier = world.member("verifier", "verifier", &[]);
    let state = world.wait_for_the_end();
    let excluded = |name: &str| state.members()[&world.id_of(name, "node.key")].excluded.is_some();
    assert!(!excluded("exact"), "{}", exact.log());
    assert!(!excluded("library"), "{}\n{}", library.log(), verifier.log());
    assert!(excluded("lazy"), "{}", verifier.log());
    let (code, report) = world.audit("all");
    assert_ne!(code, Some(1), "{report}");
    // In a run of class exact the library's sums would be taken for lies, so the node says so first.
    let link = format!("@{}", data.path("run/link.txt").display());
    let _other = data.coordinator();
    let refused = run_badly(&[
        "node",
        "--dir",
        &at("x"),
        "--join",
        &link,
        "--listen",
        "127.0.0.1:0",
        "--bulk-listen",
        "127.0.0.1:0",
        "--arithmetic",
        "library",
    ]);
    assert!(refused.contains("the run's verification class is exact"), "{refused}");
}
