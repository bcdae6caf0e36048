//! Disputes between real processes: a member or a verifier lies, a bundle is kept, and a stranger who has nothing but the bundle
//! tells which of the two it was.

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
};

use support::{TERMS, World, json, run};
use talkoot_ledger::{Folder, Log, VerifierKey, reader};
use talkoot_protocol::{
    digest::{BlobRef, Digest},
    entry::{Entry, Statement},
    event::{Commit, Divergence, Event, Finding, Verdict},
    identity::Keypair,
};

/// Everything is checked, and every step has its digest.
fn terms() -> String {
    TERMS
        .replace("inner_steps = 2", "inner_steps = 5")
        .replace("probation = 1", "probation = 100\ndigest_interval = 1")
}

/// The bundles of a verifier, by name.
fn bundles(world: &World, verifier: &str) -> Vec<PathBuf> {
    let listing = fs::read_dir(world.path(verifier).join("disputes")).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = listing.map(|entry| entry.path()).collect();
    paths.retain(|path| !path.ends_with(".writing"));
    paths.sort();
    paths
}

/// What the auditor says of a bundle: exit code, what it printed, its report.
fn judged(bundle: &Path, more: &[&str]) -> (Option<i32>, String, serde_json::Value) {
    let report = bundle.with_extension("report.json");
    let (path, file) = (bundle.display().to_string(), report.display().to_string());
    let mut arguments = vec!["audit", "--dispute", &path, "--json", &file];
    arguments.extend(more);
    let output = run(&arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!error.contains("panicked"), "{error}");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned(), json(&report))
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

/// What the bundle of a test is made of.
struct Anatomy {
    run: Digest,
    index: u64,
    commit: Commit,
    start_state: BlobRef,
    verdict: Statement,
    accusation: Divergence,
}

fn anatomy(bundle: &Path) -> Anatomy {
    let ledger = bundle.join("ledger");
    let key: VerifierKey =
        fs::read_to_string(ledger.join("log.vkey")).expect("a key").trim().parse().expect("a key");
    let verdict = Statement::from_bytes(&fs::read(bundle.join("verdict")).expect("a verdict")).expect("one");
    let Event::Verdict(Verdict { commit: index, finding: Finding::Fail(accusation), .. }) =
        verdict.open(&verdict.run).expect("a signed verdict")
    else {
        panic!("the verdict accuses");
    };
    let (mut commit, mut start_state) = (None, None);
    reader::replay(&Folder::new(&ledger), &key, |at, bytes| {
        let entry = Entry::from_bytes(bytes).expect("an entry");
        match entry.statement.open(&entry.statement.run).expect("an event") {
            Event::Commit(found) if at == index => commit = Some(found),
            Event::RoundOpen(open) => start_state = Some(open.start_state),
            _ => {}
        }
    })
    .expect("the log can be read");
    let (commit, start_state) = (commit.expect("the commit"), start_state.expect("a round"));
    Anatomy { run: verdict.run, index, commit, start_state, verdict, accusation }
}

#[test]
fn a_member_that_lies_in_one_step_is_convicted_by_its_bundle_alone() {
    let world = World::new(&terms());
    let _coordinator = world.coordinator();
    let _honest = world.member("node", "honest", &[]);
    let _liar = world.member("node", "liar", &["--cheat", "one-step"]);
    world.wait_for("two members", |state| support::trainers(state) == 2);
    let verifier = world.member("verifier", "verifier", &[]);
    let state = world.wait_for_the_end();
    let liar = world.id_of("liar", "node.key");
    assert!(state.members()[&liar].excluded.is_some(), "{}", verifier.log());
    assert_eq!(state.totals().failed, 1);
    let kept = bundles(&world, "verifier");
    assert_eq!(kept.len(), 1, "{kept:?}");

    // elsewhere, and the world is gone
    let elsewhere = tempfile::tempdir().expect("a folder");
    let bundle = elsewhere.path().join("bundle");
    copy(&kept[0], &bundle);
    let key = talkoot_network::keyfile::load(&world.path("verifier/keys/verifier.key")).expect("a key");
    drop(world);
    let (code, text, report) = judged(&bundle, &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("verdict   LIE: the member lied"), "{text}");
    assert_eq!(report["liars"].as_array().map(Vec::len), Some(1), "{report}");
    assert_eq!(report["liars"][0]["who"], liar.to_string());
    assert_eq!(report["executed_steps"], 1);
    // steps are counted from 1, and the lie is in the middle one of five
    assert!(report["liars"][0]["how"].as_str().is_some_and(|how| how.contains("its step 3")), "{report}");
    tamperings(elsewhere.path(), &bundle, &key);
}

/// Something done to a bundle.
type Tampering = Box<dyn Fn(&Path)>;

fn remove(path: String) -> Tampering {
    Box::new(move |bundle| fs::remove_file(bundle.join(&path)).expect("it was there"))
}

/// Flips the lowest bit of the byte `at`, or of the last one.
fn flipped(path: String, at: usize) -> Tampering {
    Box::new(move |bundle| {
        let path = bundle.join(&path);
        let mut bytes = fs::read(&path).expect("a file");
        let at = at.min(bytes.len() - 1);
        bytes[at] ^= 1;
        fs::write(path, bytes).expect("written");
    })
}

/// Puts another statement in the verdict's place.
fn verdict(bytes: Vec<u8>) -> Tampering {
    Box::new(move |bundle| fs::write(bundle.join("verdict"), &bytes).expect("written"))
}

/// The same entries, in a log that somebody else has signed.
fn signed_by_another() -> Tampering {
    Box::new(|bundle| {
        let ledger = bundle.join("ledger");
        let key: VerifierKey =
            fs::read_to_string(ledger.join("log.vkey")).expect("a key").trim().parse().expect("a key");
        let mut entries = Vec::new();
        reader::replay(&Folder::new(&ledger), &key, |_, bytes| entries.push(bytes.to_vec()))
            .expect("the log can be read");
        fs::remove_dir_all(&ledger).expect("it was there");
        fs::create_dir_all(&ledger).expect("a folder");
        let mut log = Log::create(&ledger, "example.org/another", &[3; 32]).expect("a log");
        log.append(&entries).expect("the same entries");
    })
}

/// Ways of tampering with a bundle, and the reason that each is refused for. `key` is the accuser's.
fn tamperings(folder: &Path, good: &Path, key: &Keypair) {
    let anatomy = anatomy(good);
    let blob = |blob: BlobRef| format!("blobs/{}", blob.digest);
    let trace = anatomy.accusation.trace.expect("the accuser has a trace");
    let sign = |key: &Keypair, commit: u64, finding: Finding| {
        let event = Event::Verdict(Verdict { round: anatomy.commit.round, commit, finding, deviation: None });
        Statement::sign(anatomy.run, key, &event).to_bytes()
    };
    let accusation = || Finding::Fail(anatomy.accusation.clone());
    let stranger = Keypair::from_seed([77; 32]);
    let state = state_of(good, &anatomy);
    let checkpoint = fs::read_to_string(good.join("ledger/checkpoint")).expect("a checkpoint");
    let size = checkpoint.lines().nth(1).expect("its size");
    let bundle_of_entries = format!("ledger/tile/entries/000.p/{size}");
    let mut signature = anatomy.verdict.to_bytes();
    let last = signature.len() - 1;
    signature[last] ^= 1;
    let rows: Vec<(&str, Tampering, &str)> = vec![
        ("an entry", flipped(bundle_of_entries, 300), "the bundle's log is refused"),
        ("the checkpoint", flipped("ledger/checkpoint".to_owned(), 60), "the bundle's log is refused"),
        ("no log", remove("ledger/checkpoint".to_owned()), "the bundle's log is refused"),
        ("no key", remove("ledger/log.vkey".to_owned()), "the log's key cannot be read"),
        ("a key that is none", flipped("ledger/log.vkey".to_owned(), 30), "the log's key cannot be read"),
        ("another's log of the same entries", signed_by_another(), "names another log key"),
        ("no verdict", remove("verdict".to_owned()), "the accuser's verdict cannot be read"),
        ("a verdict that is none", verdict(vec![0xa0]), "the accuser's verdict is refused"),
        (
            "the verdict's signature",
            verdict(signature),
            "the signature of the verdict statement is not that of",
        ),
        ("a huge verdict", verdict(vec![0; 70_000]), "more than the"),
        (
            "a stranger's verdict",
            verdict(sign(&stranger, anatomy.index, accusation())),
            "who is no verifier of the run",
        ),
        (
            "a verdict that passes",
            verdict(sign(key, anatomy.index, Finding::Pass)),
            "is no verdict that something failed",
        ),
        (
            "a verdict on another entry",
            verdict(sign(key, 0, accusation())),
            "which the bundle's log does not have",
        ),
        ("no trace of the member", remove(blob(anatomy.commit.trace)), "the member's trace is missing"),
        ("the member's trace", flipped(blob(anatomy.commit.trace), 50), "the member's trace is damaged"),
        ("no trace of the accuser", remove(blob(trace)), "the accuser's trace is missing"),
        ("the accuser's trace", flipped(blob(trace), 50), "the accuser's trace is damaged"),
        ("no state before", remove(blob(state)), "the training state that both name is missing"),
        ("the state before", flipped(blob(state), 5_000), "the training state that both name is damaged"),
        ("no start state", remove(blob(anatomy.start_state)), "the start state is missing"),
        ("the start state", flipped(blob(anatomy.start_state), 9_000), "the start state is damaged"),
        (
            "an accusation without a trace",
            verdict(sign(
                key,
                anatomy.index,
                Finding::Fail(Divergence { trace: None, ..anatomy.accusation.clone() }),
            )),
            "names no trace of its own",
        ),
    ];
    for (number, (what, tamper, reason)) in rows.iter().enumerate() {
        let bundle = folder.join(format!("tampered-{number}"));
        copy(good, &bundle);
        tamper(&bundle);
        let (code, text, report) = judged(&bundle, &[]);
        assert_eq!(code, Some(2), "{what}: {text}");
        let refused = report["refused"].as_str().unwrap_or_default();
        assert!(refused.contains(reason), "{what}: {refused}");
        assert_eq!(
            report["liars"],
            serde_json::json!([]),
            "{what}: a bundle that was tampered with accuses nobody"
        );
    }
}

/// The training state in a bundle.
fn state_of(bundle: &Path, anatomy: &Anatomy) -> BlobRef {
    let trace =
        fs::read(bundle.join("blobs").join(anatomy.commit.trace.digest.to_string())).expect("a trace");
    let trace = talkoot_trainer::trace::Trace::parse(&trace).expect("a trace");
    let bytes = |digest: &Digest| fs::read(bundle.join("blobs").join(digest.to_string())).ok();
    let found = trace.digests.iter().find_map(bytes).expect("a state that the member names");
    BlobRef::of(&found)
}

#[test]
fn a_false_accuser_is_convicted_by_its_own_bundle() {
    let world = World::new(&terms());
    let _coordinator = world.coordinator();
    let _honest = world.member("node", "honest", &[]);
    let verifier = world.member("verifier", "verifier", &["--cheat", "accuse"]);
    world.wait_until("a bundle", || !bundles(&world, "verifier").is_empty());
    let bundle = bundles(&world, "verifier").remove(0);
    let (code, text, report) = judged(&bundle, &[]);
    assert_eq!(code, Some(1), "{text}\n{}", verifier.log());
    assert!(text.contains("verdict   LIE: the accuser lied"), "{text}");
    assert_eq!(report["liars"][0]["who"], world.id_of("verifier", "verifier.key").to_string());
    assert_eq!(report["executed_steps"], 1);
    assert!(text.contains("a whole replay tells"), "what a bundle cannot show is said: {text}");
}

/// Nothing is ever replayed in this run: only samples stand between a hoarder and the weights.
#[test]
fn who_keeps_too_much_is_found_by_samples_where_nothing_is_replayed() {
    let terms = TERMS.replace("probation = 1", "probation = 0").replace("rate = 0.5", "rate = 0.0");
    let world = World::new(&terms);
    let _coordinator = world.coordinator();
    let honest = world.member("node", "honest", &[]);
    let _hoarder = world.member("node", "hoarder", &["--cheat", "hoard"]);
    world.wait_for("two members", |state| support::trainers(state) == 2);
    let verifier = world.member("verifier", "verifier", &[]);
    let state = world.wait_for_the_end();
    let hoarder = world.id_of("hoarder", "node.key");
    assert!(state.members()[&hoarder].excluded.is_some(), "{}", verifier.log());
    assert!(verifier.log().contains("samples of the error feedback disprove"), "{}", verifier.log());
    assert_eq!(
        (state.totals().failed, state.totals().passed),
        (1, 0),
        "one accusation, and nothing was replayed"
    );
    assert!(state.members()[&world.id_of("honest", "node.key")].excluded.is_none(), "{}", honest.log());
    // a stranger's replays agree with what samples found
    let (code, report) = world.audit("all");
    assert_ne!(code, Some(1), "{report}");
}
