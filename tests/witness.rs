//! A run with witnesses: real processes on the loopback, and the receipts that members are left with.

mod support;

use std::{fs, net::TcpListener, path::Path, process::Command};

use support::{TERMS, World, run, run_well};
use talkoot_ledger::{Folder, Policy, VerifierKey};

/// Two of three witnesses have to cosign. Their keys are made first, as the terms name them.
struct Witnessed {
    world: World,
    ports: [u16; 3],
    policy: String,
}

impl Witnessed {
    fn new(rounds: u32) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        // held together, so that they differ
        let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
        let ports = listeners.each_ref().map(|listener| listener.local_addr().expect("an address").port());
        drop(listeners);
        let mut policy = String::new();
        for (n, port) in (1..).zip(ports) {
            let dir = folder.path().join(format!("w{n}")).display().to_string();
            let key = run_well(&["witness", "init", "--dir", &dir, "--name", &format!("w{n}.example.org")]);
            policy += &format!("witness w{n} {} http://127.0.0.1:{port}\n", key.trim());
        }
        policy += "group two 2 w1 w2 w3\nquorum two\n";
        let terms = TERMS.replace("rounds = 5", &format!("rounds = {rounds}"));
        let terms = format!("witness_policy = \"\"\"\n{policy}\"\"\"\n{terms}");
        Self { world: World::within(folder, &terms), ports, policy }
    }

    fn witness(&self, n: usize) -> support::Process {
        self.world.witness(&format!("w{n}"), self.ports[n - 1])
    }

    fn log_key(&self) -> VerifierKey {
        fs::read_to_string(self.world.path("run/ledger/log.vkey"))
            .expect("a key")
            .trim()
            .parse()
            .expect("a key")
    }
}

#[test]
fn nothing_is_published_without_a_quorum_and_members_keep_receipts() {
    let witnessed = Witnessed::new(5);
    let world = &witnessed.world;
    let first = witnessed.witness(1);
    let coordinator = world.coordinator();
    let node = world.member("node", "node", &[]);
    let verifier = world.member("verifier", "verifier", &[]);
    world.wait_until("the coordinator's complaint", || {
        assert_eq!(world.state().size(), 1, "only what was there before anybody was served");
        coordinator.log().contains("nothing is published until a quorum of witnesses has cosigned")
    });
    let complaint = coordinator.log();
    assert!(complaint.contains("1 of its 3 witnesses cosigned (w1)"), "{complaint}");
    assert!(complaint.contains("w2: it cannot be reached"), "{complaint}");
    assert_eq!(world.state().size(), 1, "only what was there before anybody was served");
    let second = witnessed.witness(2);
    world.wait_for("round 2", |state| state.progress().next_round >= 2);
    // one of them dies, another takes its place
    second.kill();
    let third = witnessed.witness(3);
    let state = world.wait_for_the_end();
    assert_eq!(state.totals().failed, 0);
    for process in [coordinator, node, verifier] {
        assert!(process.wait());
    }
    drop((first, third));

    let policy: Policy = witnessed.policy.parse().expect("a policy");
    let folder = Folder::new(world.path("run/ledger"));
    let kept = folder.kept_checkpoints().expect("kept checkpoints");
    for path in kept.iter().filter(|path| *path != "checkpoints/0") {
        let note = fs::read(world.path("run/ledger").join(path)).expect("a note");
        let verdict = policy.verify(&note, &witnessed.log_key());
        assert!(verdict.is_ok(), "{path}: {verdict:?}");
    }
    check_receipts(&witnessed);
    let (code, report) = world.audit("5%");
    assert_eq!(code, Some(0), "{report}");
    assert!(!report.contains("no witness signed"), "{report}");
    // one that was published without its quorum would be found
    let path = world.path("run/ledger").join(kept.last().expect("a kept checkpoint"));
    let note = fs::read_to_string(&path).expect("a note");
    let plain: String = note.split_inclusive('\n').filter(|line| !line.starts_with("\u{2014} w")).collect();
    fs::write(&path, plain).expect("the note is written");
    let (code, report) = world.audit("0");
    assert!(code == Some(1) && report.contains("no quorum: the policy demands `two`"), "{report}");
}

/// The node's receipts, with the command that a stranger would use.
fn check_receipts(witnessed: &Witnessed) {
    let world = &witnessed.world;
    let text = |name: &str| world.path(name).display().to_string();
    fs::write(world.path("policy.txt"), &witnessed.policy).expect("the policy is written");
    let receipts: Vec<_> = fs::read_dir(world.path("receipts-of-nobody")).into_iter().flatten().collect();
    assert!(receipts.is_empty());
    let own: Vec<String> = fs::read_dir(world.path("node/receipts"))
        .expect("receipts")
        .map(|item| item.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "tlog-proof"))
        .map(|path| path.display().to_string())
        .collect();
    assert!(own.len() >= 5, "one for each round's commit: {own:?}");
    let key = format!("@{}", text("run/ledger/log.vkey"));
    let (ledger, policy) = (text("run/ledger"), text("policy.txt"));
    let check = |receipt: &str, entry: &str, policy: &str| {
        let output = run(&[
            "proof", "check", receipt, "--entry", entry, "--key", &key, "--policy", policy, "--log", &ledger,
        ]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), said + &String::from_utf8_lossy(&output.stderr))
    };
    for receipt in &own {
        let (code, said) = check(receipt, &receipt.replace(".tlog-proof", ".entry"), &policy);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("what it shows now continues this checkpoint"), "{said}");
        assert_eq!(said.matches("witness    w").count(), 2, "{said}");
    }
    // another entry, a stricter policy, nothing there
    let (one, entry) = (&own[0], own[0].replace(".tlog-proof", ".entry"));
    let (code, said) = check(one, &own[1].replace(".tlog-proof", ".entry"), &policy);
    assert!(code == Some(1) && said.contains("not shown: the entry is not at index"), "{said}");
    fs::write(world.path("all.txt"), witnessed.policy.replace("two 2", "two all")).expect("a policy");
    let (code, said) = check(one, &entry, &text("all.txt"));
    assert!(code == Some(1) && said.contains("not shown: no quorum"), "{said}");
    let (code, said) = check(one, "nowhere", &policy);
    assert!(code == Some(2) && said.contains("inconclusive: reading nowhere"), "{said}");
    let (code, said) = check(one, &entry, "nowhere");
    assert!(code == Some(2) && said.contains("inconclusive: reading nowhere"), "{said}");

    // the same receipt again, got by hand
    let index = Path::new(one).file_stem().expect("a name").to_string_lossy().into_owned();
    let (out, got) = (text("again.tlog-proof"), text("again.entry"));
    let get = |index: &str| {
        run(&[
            "proof", "get", "--log", &ledger, "--key", &key, "--index", index, "--out", &out, "--entry", &got,
        ])
    };
    assert!(get(&index).status.success());
    assert_eq!(fs::read(&got).expect("an entry"), fs::read(&entry).expect("an entry"));
    assert_eq!(check(&out, &got, &policy).0, Some(0));
    assert_eq!(get("1000000").status.code(), Some(2));
}

#[test]
fn a_restored_ledger_is_refused_and_its_witnesses_know_why() {
    let witnessed = Witnessed::new(4);
    let world = &witnessed.world;
    let _witnesses = [witnessed.witness(1), witnessed.witness(2)];
    let ledger = world.path("run/ledger").display().to_string();
    let backup = world.path("backup").display().to_string();
    let copy = |from: &str, to: &str| {
        assert!(Command::new("cp").args(["-a", from, to]).status().expect("cp runs").success());
    };
    let coordinator = world.coordinator();
    let node = world.member("node", "node", &[]);
    let _verifier = world.member("verifier", "verifier", &[]);
    world.wait_for("round 1", |state| state.progress().next_round >= 1);
    coordinator.kill();
    copy(&ledger, &backup);
    let coordinator = world.coordinator();
    let before = world.wait_for("round 3", |state| state.progress().next_round >= 3).size();
    coordinator.kill();
    node.kill();
    fs::remove_dir_all(&ledger).expect("the ledger is lost");
    copy(&backup, &ledger);

    let dir = world.path("run").display().to_string();
    let refused = support::run_badly(&["coordinator", "--dir", &dir, "--listen", "127.0.0.1:0"]);
    assert!(refused.contains("is a copy or was restored from a backup"), "{refused}");
    assert!(refused.contains("--claim-copy"), "{refused}");
    // who claims it all the same gets no further than the witnesses
    let old = world.state().size();
    assert!(old < before);
    let coordinator = world.coordinator_with(&["--claim-copy"]);
    let _node = world.member("node", "node", &[]);
    world.wait_until("the coordinator's complaint", || {
        coordinator.log().contains("this folder may be an old copy, restored from a backup")
    });
    assert!(world.state().size() < before, "no other history is published");
}
