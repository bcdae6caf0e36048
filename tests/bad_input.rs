//! What is wrong is named, with its place and the remedy, and nothing is lost.

mod support;

use std::fs;

use support::{TERMS, World, run, run_badly, run_well};

#[test]
fn bad_records_are_rejected_one_by_one_and_the_rest_is_packed() {
    let world = World::new(TERMS);
    let path = |name: &str| world.path(name).display().to_string();
    fs::create_dir(world.path("mine")).expect("a folder");
    fs::copy(world.path("drawn/images/t00000.png"), world.path("mine/good.png")).expect("a picture");
    fs::write(world.path("mine/broken.png"), b"\x89PNG\r\n\x1a\nbut no picture").expect("a file");
    let record = |id: &str, image: &str, question: &str| {
        serde_json::json!({"id": id, "image": image, "conversations": [
            {"from": "human", "value": question}, {"from": "gpt", "value": "a picture"}]})
    };
    let records = serde_json::json!([
        record("good", "good.png", "<image>\nWhat is it?"),
        record("undecodable", "broken.png", "<image>\nWhat is it?"),
        record("missing", "nowhere.png", "<image>\nWhat is it?"),
        record("no placeholder", "good.png", "What is it?"),
        record("outside", "../drawn/images/t00000.png", "<image>\nWhat is it?"),
        {"id": "no picture", "conversations": [
            {"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "nothing"}]},
    ]);
    fs::write(world.path("mine.json"), records.to_string()).expect("records");
    let said = run_well(&[
        "dataset",
        "pack",
        "--records",
        &path("mine.json"),
        "--images",
        &path("mine"),
        "--tokenizer",
        &path("drawn/tokenizer.json"),
        "--sequence-tokens",
        "256",
        "--name",
        "mine",
        "--out",
        &path("mine-packed"),
    ]);
    assert!(said.contains("6 = 1 samples + 5 rejects"), "{said}");
    let rejects = fs::read_to_string(world.path("mine-packed/mine.rejects.jsonl")).expect("a rejects file");
    assert_eq!(rejects.lines().count(), 5, "{rejects}");
    for id in ["undecodable", "missing", "no placeholder", "outside", "no picture"] {
        let line = rejects.lines().find(|line| line.contains(id)).expect(id);
        let reject: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert!(reject["reason"].is_string() && reject["remedy"].is_string(), "{line}");
    }
}

#[test]
fn bad_terms_are_named_by_field() {
    let world = World::new(TERMS);
    let path = |name: &str| world.path(name).display().to_string();
    for (from, to, named) in [
        ("inner_steps = 2", "inner_steps = 2\ninner_stepz = 3", "inner_stepz"),
        ("inner_steps = 2", "inner_steps = 0", "stages[0].inner_steps"),
        ("bits = 2", "bits = 7", "contribution.bits"),
        ("rate = 0.5", "rate = -1.0", "verification.rate"),
        ("sequence_tokens = 256", "sequence_tokens = 128", "sequence_tokens"),
    ] {
        fs::write(world.path("bad.toml"), TERMS.replacen(from, to, 1)).expect("terms");
        let error = run_badly(&[
            "run",
            "init",
            "--dir",
            &path("bad-run"),
            "--terms",
            &path("bad.toml"),
            "--dataset",
            &path("packed/instruct.manifest"),
            "--tokenizer",
            &path("drawn/tokenizer.json"),
        ]);
        assert!(error.contains(named), "{to}: {error}");
        assert!(!world.path("bad-run/ledger/checkpoint").exists(), "no run was made");
    }
}

#[test]
fn a_shard_with_one_flipped_bit_is_refused() {
    let world = World::new(TERMS);
    let path = |name: &str| world.path(name).display().to_string();
    let shard = fs::read_dir(world.path("packed"))
        .expect("a folder")
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.file_name().is_some_and(|name| name.len() == 64))
        .max_by_key(|path| path.metadata().map_or(0, |data| data.len()))
        .expect("a shard");
    let mut bytes = fs::read(&shard).expect("the shard");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&shard, bytes).expect("the shard");
    let error = run_badly(&[
        "run",
        "init",
        "--dir",
        &path("bad-run"),
        "--terms",
        &path("terms.toml"),
        "--dataset",
        &path("packed/instruct.manifest"),
        "--tokenizer",
        &path("drawn/tokenizer.json"),
    ]);
    let name = shard.file_name().expect("a name").to_string_lossy().into_owned();
    assert!(error.contains(&name) && error.contains("pack the data again"), "{error}");
}

#[test]
fn an_audit_of_a_changed_ledger_finds_the_lie() {
    let world = World::new(TERMS);
    let coordinator = world.coordinator();
    let node = world.member("node", "node", &[]);
    let verifier = world.member("verifier", "verifier", &[]);
    world.wait_for_the_end();
    for process in [coordinator, node, verifier] {
        assert!(process.wait());
    }
    assert_eq!(world.audit("all").0, Some(0));

    // A contribution that is gone: nothing is proven wrong, but not everything could be checked.
    let state = world.state();
    let round = state.round().expect("a round");
    let contribution = round.included()[0].1.commit.contribution.digest.to_string();
    let blob = world.path("run/store/blobs").join(contribution);
    let kept = fs::read(&blob).expect("the contribution");
    fs::remove_file(&blob).expect("it goes");
    let (code, report) = world.audit("0");
    assert_eq!(code, Some(2), "{report}");
    fs::write(&blob, kept).expect("it comes back");

    // One changed byte in the log.
    let entries = world.path("run/ledger/tile/entries");
    let bundle = fs::read_dir(entries.join("000.p"))
        .map(|folder| {
            folder
                .flatten()
                .map(|entry| entry.path())
                .max_by_key(|path| path.file_name().and_then(|name| name.to_str()?.parse::<u64>().ok()))
        })
        .expect("a bundle")
        .expect("a bundle");
    let mut bytes = fs::read(&bundle).expect("the bundle");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&bundle, bytes).expect("the bundle");
    let (code, report) = world.audit("0");
    assert_eq!(code, Some(1), "{report}");
    assert!(report.contains("LIE"), "{report}");
}

#[test]
fn a_link_to_nowhere_and_a_model_without_files_are_named() {
    let error = run_badly(&["node", "--dir", "nowhere", "--join", "talkoot:123@/ip4/127.0.0.1"]);
    assert!(error.contains("run id"), "{error}");
    let output = run(&["chat", "--model", "nowhere", "--question", "?"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("nowhere"));
}
