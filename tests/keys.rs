//! Keys in the hands of people: locked, exposed, rotated in a run that goes on, revoked.

mod support;

use std::fs;

use support::{TERMS, World, run_badly, run_well, talkoot};

#[cfg(unix)]
#[test]
fn a_key_that_others_may_read_is_refused_with_a_word_how_to_mend_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = tempfile::tempdir().expect("a temporary folder");
    let file = home.path().join("node.key").display().to_string();
    let id = run_well(&["key", "new", &file]);
    assert_eq!(run_well(&["key", "show", &file]), id);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("it is opened to all");
    let refused = run_badly(&["key", "show", &file]);
    assert!(refused.contains("mode 644") && refused.contains("chmod 600"), "{refused}");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("it is mended");
    assert_eq!(run_well(&["key", "show", &file]), id);
    let there = run_badly(&["key", "new", &file]);
    assert!(there.contains("creating the key file"), "{there}");
}

#[test]
fn a_passphrase_can_be_set_changed_and_removed_without_a_terminal() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| home.path().join(name).display().to_string();
    fs::write(path("first"), "open sesame\n").expect("a passphrase");
    fs::write(path("second"), "shut sesame\n").expect("a passphrase");
    let key = |arguments: &[&str], passphrases: &[(&str, &str)]| {
        let output = talkoot()
            .arg("key")
            .args(arguments)
            .envs(passphrases.iter().map(|(name, file)| (name.to_string(), path(file))))
            .output()
            .expect("the program starts");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.success(), text + &String::from_utf8_lossy(&output.stderr))
    };
    const OLD: &str = "TALKOOT_PASSPHRASE_FILE";
    const NEW: &str = "TALKOOT_NEW_PASSPHRASE_FILE";
    let file = path("node.key");
    let (_, id) = key(&["new", &file, "--passphrase"], &[(OLD, "first")]);
    assert!(fs::read_to_string(&file).expect("a file").starts_with("talkoot-secret-key-v2 argon2id "));
    let (well, said) = key(&["show", &file], &[]);
    assert!(!well && said.contains("is locked with a passphrase"), "{said}");
    let (well, said) = key(&["show", &file], &[(OLD, "second")]);
    assert!(!well && said.contains("the passphrase does not open"), "{said}");
    assert_eq!(key(&["show", &file], &[(OLD, "first")]), (true, id.clone()));
    assert!(key(&["passphrase", &file], &[(OLD, "first"), (NEW, "second")]).0);
    assert!(!key(&["show", &file], &[(OLD, "first")]).0);
    assert_eq!(key(&["show", &file], &[(OLD, "second")]), (true, id.clone()));
    assert!(key(&["passphrase", &file, "--remove"], &[(OLD, "second")]).0);
    assert_eq!(key(&["show", &file], &[]), (true, id));
}

#[test]
fn a_node_goes_on_under_a_new_key_and_a_revoked_one_is_out() {
    let world = World::new(&TERMS.replace("rounds = 5", "rounds = 15"));
    let recovery = world.path("recovery.key").display().to_string();
    let recovery_id = run_well(&["key", "new", &recovery]);
    let coordinator = world.coordinator();
    let verifier = world.member("verifier", "verifier", &[]);
    let node = world.member("node", "node", &[]);
    let guest = world.member("node", "guest", &["--recovery", recovery_id.trim()]);
    world.wait_for("round 1", |state| state.progress().next_round >= 2);
    node.terminate();
    let old = world.id_of("node", "node.key");
    let (file, link) = (
        world.path("node/keys/node.key").display().to_string(),
        format!("@{}", world.path("run/link.txt").display()),
    );
    let said = run_well(&["key", "rotate", &file, "--join", &link]);
    let new = world.id_of("node", "node.key");
    assert!(said.contains(&format!("{old} is {new} from now on")) && old != new, "{said}");
    let sealed = world.state().members()[&new].sealed;
    assert_eq!(sealed, world.state().members()[&old].sealed, "it has not begun anew");
    let node = world.member("node", "node", &[]);
    world.wait_for("a contribution under the new key", |state| state.members()[&new].sealed > sealed);

    let stolen = world.id_of("guest", "node.key");
    run_well(&["key", "revoke", &recovery, "--member", &stolen.to_string(), "--join", &link]);
    assert!(world.state().members()[&stolen].retired.is_some());
    assert!(!guest.wait(), "who has the key alone is out");
    // a thief's program need not stop: nothing that the key signs is taken, its own succession neither
    let thief = world.path("guest/keys/node.key").display().to_string();
    let refused = run_badly(&["key", "rotate", &thief, "--join", &link]);
    assert!(refused.contains("has retired"), "{refused}");
    let state = world.wait_for_the_end();
    assert_eq!(state.totals().failed, 0);
    for process in [coordinator, node, verifier] {
        assert!(process.wait());
    }
    let (code, report) = world.audit("all");
    assert_eq!(code, Some(0), "{report}");
}
