//! The demo as a user runs it: honest, with each liar, with kills; short, so that only the learning is left out.

mod support;

use std::path::Path;

use support::{json, run, run_badly};

struct Played {
    report: serde_json::Value,
    folder: tempfile::TempDir,
}

fn play(more: &[&str]) -> Played {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (dir, report) = (path("demo"), path("report.json"));
    let mut arguments = vec!["demo", "--short", "--dir", &dir, "--json", &report];
    arguments.extend(more);
    let output = run(&arguments);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}\n{}", logs(Path::new(&dir)));
    assert!(text.contains("demo passed"), "{text}");
    Played { report: json(Path::new(&report)), folder }
}

/// The last lines of every process, for messages.
fn logs(dir: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(dir.join("logs")).into_iter().flatten().flatten() {
        let log = std::fs::read_to_string(entry.path()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(8).collect();
        text += &format!("--- {}\n", entry.path().display());
        text += &lines.into_iter().rev().collect::<Vec<_>>().join("\n");
        text += "\n";
    }
    text
}

#[test]
fn the_same_seed_gives_the_same_weights_with_one_thread_and_with_two() {
    let one = play(&["--threads", "1"]);
    let two = play(&["--threads", "2"]);
    assert_eq!(one.report["state_hash"], two.report["state_hash"]);
    assert_eq!(one.report["accused"], serde_json::json!([]));
    assert_eq!(one.report["audit_verdict"], "sound");
    // The exported model is the state that the ledger ends with, to the last byte.
    let model = std::fs::read(one.folder.path().join("demo/model/model.safetensors")).expect("a model");
    let hash = talkoot_protocol::digest::Digest::of(&model).to_string();
    assert_eq!(one.report["state_hash"], serde_json::Value::String(hash));
    for stage in one.report["stages"].as_array().expect("stages") {
        assert!(stage["loss_first"].as_f64().expect("a loss") > 0.0);
    }
    judge(&one.folder.path().join("demo/run/ledger"));
}

/// The ledger before a judge that nobody here wrote.
fn judge(ledger: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/judges/tlogcheck");
    let go = std::process::Command::new("go").arg("version").output();
    if !source.exists() || !go.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: the Go judge over the demo's ledger (it needs `go` and the judge's source)");
        return;
    }
    let build = tempfile::tempdir().expect("a temporary folder");
    let program = build.path().join("tlogcheck");
    let built = std::process::Command::new("go")
        .args(["build", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(&source)
        .env("GO111MODULE", "off")
        .env("GOPATH", "/usr/share/gocode")
        .env("GOFLAGS", "")
        .env("GOCACHE", build.path())
        .output()
        .expect("go runs");
    if !built.status.success() {
        eprintln!("SKIPPED: the Go judge does not build: {}", String::from_utf8_lossy(&built.stderr));
        return;
    }
    let output = std::process::Command::new(&program)
        .arg("-dir")
        .arg(ledger)
        .arg("-vkey")
        .arg(ledger.join("log.vkey"))
        .arg("-old")
        .arg(ledger.join("checkpoints/*"))
        .output()
        .expect("the judge runs");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
}

fn the_liar_is_named(lie: &str) {
    let played = play(&["--cheat", lie]);
    assert_eq!(played.report["accused"], serde_json::json!(["node-3"]), "{lie}");
    assert_eq!(played.report["verdicts"]["failed"], 1, "{lie}: one failed check is enough");
    assert_eq!(played.report["audit_verdict"], "sound", "{lie}");
}

#[test]
fn a_node_that_sends_noise_is_named() {
    the_liar_is_named("random");
}

#[test]
fn a_node_that_sends_its_last_contribution_again_is_named() {
    the_liar_is_named("stale");
}

#[test]
fn a_node_that_does_half_of_the_steps_is_named() {
    the_liar_is_named("lazy");
}

#[test]
fn a_node_that_trains_on_other_data_is_named() {
    the_liar_is_named("wrong-data");
}

#[test]
fn a_killed_node_and_a_killed_coordinator_cost_nothing_but_time() {
    let played = play(&["--kill"]);
    assert_eq!(played.report["accused"], serde_json::json!([]));
    assert_eq!(played.report["audit_verdict"], "sound");
}

#[test]
fn a_lie_that_does_not_exist_is_refused() {
    let error = run_badly(&["demo", "--cheat", "flattery"]);
    assert!(error.contains("flattery") && error.contains("wrong-data"), "{error}");
}
