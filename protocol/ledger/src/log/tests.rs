//! The writer: every single change to the disk may fail, or be the last that a process makes.

use std::fs;

use super::*;
use crate::{
    disk::faults::{Faults, When},
    note::{KeyError, Note},
    reader::{History, replay, verify_history},
    tile::MAX_ENTRY_BYTES,
    tree::empty_root,
};

const ORIGIN: &str = "logs.example.org/run/1";
const SEED: [u8; 32] = [1; 32];

fn entries(from: u64, to: u64) -> Vec<Vec<u8>> {
    (from..to).map(|i| format!("entry {i}").into_bytes()).collect()
}

fn vkey() -> VerifierKey {
    SignerKey::log(ORIGIN, &SEED).unwrap().verifier()
}

/// What a stranger finds: all entries in order, the history consistent.
fn accepted(dir: &Path) -> Vec<Vec<u8>> {
    let folder = Folder::new(dir);
    let mut seen = Vec::new();
    let signed = replay(&folder, &vkey(), |_, entry| seen.push(entry.to_vec())).unwrap();
    verify_history(&folder, &vkey(), &signed.checkpoint).unwrap();
    seen
}

/// An audit reads the checkpoint, then for minutes everything else, and the run goes on.
#[test]
fn a_log_that_grows_while_it_is_read_is_not_taken_for_one_that_went_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::create(dir.path(), ORIGIN, &SEED).unwrap();
    log.append(&entries(0, 3)).unwrap();
    let folder = Folder::new(dir.path());
    let history = History::of(&folder).unwrap();
    let shown = log.append(&entries(3, 5)).unwrap().clone();
    log.append(&entries(5, 9)).unwrap();
    // the empty log's, and that of three entries
    assert_eq!(history.verify(&folder, &vkey(), &shown.checkpoint).unwrap(), 2);
    // what was kept before and is larger than what is shown: that log went back
    let late = History::of(&folder).unwrap();
    let error = late.verify(&folder, &vkey(), &shown.checkpoint).unwrap_err();
    assert!(matches!(error, ReadError::Rollback { kept: 9, current: 5, .. }), "{error}");
}

#[test]
fn what_is_appended_is_there_after_opening_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::create(dir.path(), ORIGIN, &SEED).unwrap();
    assert_eq!((log.size(), log.root()), (0, empty_root()));
    let mut roots = vec![log.root()];
    for (from, to) in [(0, 1), (1, 255), (255, 256), (256, 257), (257, 511), (511, 513), (513, 1_000)] {
        let signed = log.append(&entries(from, to)).unwrap();
        assert_eq!(signed.checkpoint.size, to);
        roots.push(log.root());
        assert_eq!(accepted(dir.path()), entries(0, to));
    }
    let note = log.checkpoint_note();
    drop(log);
    let log = Log::open(dir.path(), &SEED).unwrap();
    assert_eq!((log.size(), log.checkpoint_note()), (1_000, note));
    for (size, root) in [0, 1, 255, 256, 257, 511, 513, 1_000].into_iter().zip(roots) {
        assert_eq!(log.root_at(size).unwrap(), root);
    }
    assert_eq!(log.entry(700).unwrap(), b"entry 700");
    assert!(matches!(
        log.entry(1_000),
        Err(LogError::Damaged { source: ReadError::OutOfRange { index: 1_000, size: 1_000 }, .. })
    ));
    assert_eq!(log.entries(250, 20, usize::MAX).unwrap(), entries(250, 270));
    assert_eq!(log.entries(250, 20, 18).unwrap(), entries(250, 252));
    assert_eq!(log.entries(250, 20, 0).unwrap(), entries(250, 251), "a caller always gets ahead");
    assert_eq!(log.entries(1_000, 20, 100).unwrap(), entries(0, 0));
    assert_eq!(log.vkey(), fs::read_to_string(dir.path().join("log.vkey")).unwrap().trim().parse().unwrap());
}

#[test]
fn an_appended_log_equals_one_written_at_once() {
    let (one, many) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut at_once = Log::create(one.path(), ORIGIN, &SEED).unwrap();
    at_once.append(&entries(0, 600)).unwrap();
    let mut in_steps = Log::create(many.path(), ORIGIN, &SEED).unwrap();
    for (from, to) in [(0, 100), (100, 400), (400, 600)] {
        in_steps.append(&entries(from, to)).unwrap();
    }
    assert_eq!(at_once.checkpoint_note(), in_steps.checkpoint_note());
}

#[test]
fn a_second_opener_is_told_which_file_is_held() {
    let dir = tempfile::tempdir().unwrap();
    let _log = Log::create(dir.path(), ORIGIN, &SEED).unwrap();
    let message = Log::open(dir.path(), &SEED).unwrap_err().to_string();
    assert!(message.contains(".writer/lock") && message.contains("another process holds it"), "{message}");
    assert!(message.contains("stop that process"), "{message}");
}

#[test]
fn a_log_is_made_once_and_opened_by_its_key() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Log::open(dir.path(), &SEED), Err(LogError::NoLog { .. })));
    drop(Log::open_or_create(dir.path(), ORIGIN, &SEED).unwrap());
    drop(Log::open_or_create(dir.path(), ORIGIN, &SEED).unwrap());
    assert!(matches!(Log::create(dir.path(), ORIGIN, &SEED), Err(LogError::Exists { .. })));
    assert!(matches!(Log::open(dir.path(), &[2; 32]), Err(LogError::WrongKey { .. })));
    assert!(matches!(
        Log::open_or_create(dir.path(), "other.example.org", &SEED),
        Err(LogError::WrongKey { .. })
    ));
    fs::remove_file(dir.path().join("log.vkey")).unwrap();
    assert!(matches!(Log::open(dir.path(), &[2; 32]), Err(LogError::WrongKey { .. })));
    assert!(Log::open(dir.path(), &SEED).is_ok());
    assert!(matches!(Log::create(dir.path(), "a b", &SEED), Err(LogError::Key(KeyError::BadName { .. }))));
}

#[test]
fn an_entry_too_long_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::create(dir.path(), ORIGIN, &SEED).unwrap();
    let batch = [b"fits".to_vec(), vec![0; MAX_ENTRY_BYTES + 1]];
    assert!(matches!(log.append(&batch), Err(LogError::EntryTooLong { position: 1, got: 65_536 })));
    log.append(&[vec![0; MAX_ENTRY_BYTES]]).unwrap();
    assert_eq!(log.append(&[]).unwrap().checkpoint.size, 1);
    assert_eq!(accepted(dir.path()), [vec![0; MAX_ENTRY_BYTES]]);
}

#[test]
fn a_restored_old_copy_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let guard = dir.path().join(LAST_SIGNED);
    let published = dir.path().join(CHECKPOINT);
    let mut log = Log::create(dir.path(), ORIGIN, &SEED).unwrap();
    log.append(&entries(0, 10)).unwrap();
    let (old_guard, old_note) = (fs::read(&guard).unwrap(), fs::read(&published).unwrap());
    log.append(&entries(10, 20)).unwrap();
    let (new_guard, new_note) = (fs::read(&guard).unwrap(), fs::read(&published).unwrap());

    // under a running log
    fs::write(&guard, &old_guard).unwrap();
    assert!(matches!(
        log.append(&entries(20, 21)),
        Err(LogError::Restored { last_signed: 10, found: 20, .. })
    ));
    assert!(matches!(log.append(&entries(20, 21)), Err(LogError::Broken { .. })));
    drop(log);

    // the guard alone; the guard and the checkpoint, betrayed by the kept notes
    assert!(matches!(
        Log::open(dir.path(), &SEED),
        Err(LogError::Restored { last_signed: 10, found: 20, .. })
    ));
    fs::write(&published, &old_note).unwrap();
    match Log::open(dir.path(), &SEED) {
        Err(LogError::Restored { last_signed: 10, other, found: 20, .. }) => {
            assert!(other.ends_with("checkpoints/20"));
        }
        other => panic!("{other:?}"),
    }
    // the checkpoint alone is what a kill leaves, and harmless
    fs::write(&guard, &new_guard).unwrap();
    let log = Log::open(dir.path(), &SEED).unwrap();
    assert_eq!(fs::read(&published).unwrap(), new_note);
    drop(log);
    // no guard, or one that can't be read
    fs::write(&guard, b"garbage").unwrap();
    assert!(matches!(Log::open(dir.path(), &SEED), Err(LogError::DamagedGuard { .. })));
    fs::remove_file(&guard).unwrap();
    assert!(matches!(Log::open(dir.path(), &SEED), Err(LogError::NotTheOriginal { .. })));
    // everything restored: only somebody else's memory tells
    fs::write(&guard, &old_guard).unwrap();
    fs::write(&published, &old_note).unwrap();
    fs::remove_file(dir.path().join("checkpoints/20")).unwrap();
    let log = Log::open(dir.path(), &SEED).unwrap();
    log.check_seen(&old_note).unwrap();
    assert!(matches!(log.check_seen(&new_note), Err(LogError::Behind { seen_size: 20, size: 10 })));
}

/// The whole folder is put back as it was, the guard with it: nothing in it contradicts anything, and yet its key has
/// signed more since.
#[test]
fn a_restored_copy_of_the_whole_folder_refuses_to_sign() {
    let home = tempfile::tempdir().unwrap();
    let (dir, backup) = (home.path().join("log"), home.path().join("backup"));
    let mut log = Log::create(&dir, ORIGIN, &SEED).unwrap();
    log.append(&entries(0, 10)).unwrap();
    drop(log);
    crate::disk::copy_tree(&dir, &backup);
    let mut log = Log::open(&dir, &SEED).unwrap();
    log.append(&entries(10, 20)).unwrap();
    let newest = log.checkpoint_note();
    drop(log);

    let refused = |dir: &Path| {
        let error = Log::open(dir, &SEED).unwrap_err();
        assert!(matches!(error, LogError::Copied { .. }), "{error:?}");
        assert!(error.to_string().contains("is a copy or was restored from a backup"), "{error}");
    };
    refused(&backup);
    // in the original's place, too
    fs::remove_dir_all(&dir).unwrap();
    crate::disk::copy_tree(&backup, &dir);
    refused(&dir);
    // a renamed folder is the same folder; one that was claimed goes on, and can be held against what others have
    Log::claim(&backup).unwrap();
    let moved = home.path().join("moved");
    fs::rename(&backup, &moved).unwrap();
    let log = Log::open(&moved, &SEED).unwrap();
    assert!(matches!(log.check_seen(newest.as_bytes()), Err(LogError::Behind { seen_size: 20, size: 10 })));
    assert!(matches!(Log::claim(&home.path().join("none")), Err(LogError::NoLog { .. })));
}

#[test]
fn what_is_signed_is_shown_to_nobody_before_it_is_published() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::create(dir.path(), ORIGIN, &SEED).unwrap();
    log.append(&entries(0, 3)).unwrap();
    let first = log.sign(&entries(3, 5)).unwrap().clone();
    assert_eq!((first.checkpoint.size, log.size()), (5, 3));
    assert_eq!(accepted(dir.path()), entries(0, 3));
    assert_eq!(log.entries(0, 10, usize::MAX).unwrap(), entries(0, 3));
    assert_eq!(log.entry(4).unwrap(), b"entry 4", "the writer itself knows it");
    // more may be signed meanwhile; then only the newest may be published
    let second = log.sign(&entries(5, 300)).unwrap().clone();
    assert!(matches!(log.publish(&first.note), Err(LogError::NotSigned { signed: 300, got: 5 })));
    let stranger =
        SignedCheckpoint::sign(second.checkpoint.clone(), &SignerKey::log(ORIGIN, &[2; 32]).unwrap());
    assert!(matches!(log.publish(&stranger.unwrap().note), Err(LogError::Checkpoint(_))));
    assert_eq!(log.unpublished(), Some(&second));
    drop(log);

    let log = Log::open_unpublished(dir.path(), &SEED).unwrap();
    assert_eq!((log.size(), log.signed().checkpoint.size), (3, 300), "a restart doesn't publish");
    assert_eq!(accepted(dir.path()), entries(0, 3));
    drop(log);

    let mut log = Log::open_unpublished(dir.path(), &SEED).unwrap();
    let witness = SignerKey::cosigner("w.example.org", &[7; 32]).unwrap();
    let mut note = Note::parse(log.unpublished().unwrap().note.as_bytes()).unwrap();
    note.add(witness.sign(note.text(), 1)).unwrap();
    log.publish(&note.to_string()).unwrap();
    assert_eq!(accepted(dir.path()), entries(0, 300));
    assert!(log.unpublished().is_none());
    drop(log);
    let mut log = Log::open(dir.path(), &SEED).unwrap();
    assert_eq!(log.checkpoint_note(), note.to_string(), "the cosignature stays");
    // a late witness's line is added to what is published
    note.add(SignerKey::cosigner("v.example.org", &[8; 32]).unwrap().sign(note.text(), 2)).unwrap();
    log.publish(&note.to_string()).unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("checkpoints/300")).unwrap(), note.to_string());
}

#[test]
fn a_damaged_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::create(dir.path(), ORIGIN, &SEED).unwrap();
    log.append(&entries(0, 300)).unwrap();
    drop(log);
    let path = dir.path().join("tile/entries/000");
    let mut bytes = fs::read(&path).unwrap();
    bytes[5] ^= 1;
    fs::write(&path, bytes).unwrap();
    let error = Log::open(dir.path(), &SEED).unwrap_err();
    assert!(
        matches!(&error, LogError::Damaged { source: ReadError::EntryMismatch { index: 0, .. }, .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("tile/entries/000: entry 0 is not the one in the tree"));
}

/// The heart of it: kill at every change of an append that crosses a tile's edge, in two ways, and go on
/// with *other* entries, which must neither be refused nor contradict anything signed.
#[test]
fn a_kill_at_any_change_leaves_a_log_that_goes_on() {
    for when in [When::After, When::Torn] {
        let mut finished = false;
        for step in 0.. {
            let dir = tempfile::tempdir().unwrap();
            let mut log = Log::create(dir.path(), ORIGIN, &SEED).unwrap();
            log.append(&entries(0, 250)).unwrap();
            drop(log);

            let faults = Faults::at(step, when);
            let disk = Disk::lock(dir.path()).unwrap().with_faults(faults);
            let mut log = open::open_on(disk, &SEED).unwrap();
            let appended = log.append(&entries(250, 260));
            if let Err(error) = appended {
                let message = error.to_string();
                assert!(message.contains("cannot ") && message.contains("the disk is full"), "{message}");
                assert!(message.contains(&dir.path().display().to_string()), "{message}");
                assert!(matches!(log.append(&entries(0, 1)), Err(LogError::Broken { .. })));
                assert_eq!(log.size(), 250, "a failed append isn't counted before it's opened again");
            } else {
                finished = true;
            }
            drop(log);

            // readers that come before the writer is back
            let seen = accepted(dir.path());
            assert!(seen == entries(0, 250) || seen == entries(0, 260), "{when:?} at {step}");
            let mut log = Log::open(dir.path(), &SEED).unwrap();
            assert!(matches!(log.size(), 250 | 260));
            assert!(log.size() >= seen.len() as u64, "nothing published is taken back");
            let mut expected = entries(0, log.size());
            let other: Vec<Vec<u8>> = (0..300).map(|i| format!("another future {i}").into_bytes()).collect();
            log.append(&other).unwrap();
            expected.extend(other);
            drop(log);
            assert_eq!(accepted(dir.path()), expected, "{when:?} at {step}");
            if finished {
                assert!(step > 20, "only {step} changes were tried");
                break;
            }
        }
    }
}

#[test]
fn a_kill_while_creating_leaves_nothing_in_the_way() {
    for when in [When::After, When::Torn] {
        for step in 0.. {
            let dir = tempfile::tempdir().unwrap();
            let disk = Disk::lock(dir.path()).unwrap().with_faults(Faults::at(step, when));
            let created = Log::create_on(disk, SignerKey::log(ORIGIN, &SEED).unwrap());
            let finished = created.is_ok();
            drop(created);
            let mut log = Log::open_or_create(dir.path(), ORIGIN, &SEED).unwrap();
            log.append(&entries(0, 3)).unwrap();
            assert_eq!(accepted(dir.path()), entries(0, 3), "{when:?} at {step}");
            if finished {
                break;
            }
        }
    }
}

#[test]
fn a_kill_while_recovering_is_recovered_from() {
    for step in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::create(dir.path(), ORIGIN, &SEED).unwrap();
        log.append(&entries(0, 5)).unwrap();
        let old = fs::read(dir.path().join(CHECKPOINT)).unwrap();
        log.append(&entries(5, 9)).unwrap();
        drop(log);
        fs::write(dir.path().join(CHECKPOINT), old).unwrap();
        fs::remove_file(dir.path().join("checkpoints/9")).unwrap();
        let disk = Disk::lock(dir.path()).unwrap().with_faults(Faults::at(step, When::After));
        let recovered = open::open_on(disk, &SEED).and_then(|mut log| {
            let signed = log.unpublished().cloned().expect("nine are signed, five are published");
            log.publish(&signed.note)
        });
        let finished = recovered.is_ok();
        assert_eq!(Log::open(dir.path(), &SEED).unwrap().size(), 9);
        assert_eq!(accepted(dir.path()), entries(0, 9));
        if finished {
            break;
        }
    }
}

#[test]
fn nothing_is_signed_before_everything_is_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    drop(Log::create(dir.path(), ORIGIN, &SEED).unwrap());
    let faults = Faults::default();
    let disk = Disk::lock(dir.path()).unwrap().with_faults(faults.clone());
    let mut log = open::open_on(disk, &SEED).unwrap();
    log.append(&entries(0, 600)).unwrap();
    let trace = faults.trace();
    let position = |op: &str, end: &str| {
        let found = trace.iter().position(|(done, path)| *done == op && path.ends_with(end));
        found.unwrap_or_else(|| panic!("{op} {end} in {trace:#?}"))
    };
    let last = |op: &str, end: &str| {
        trace.iter().rposition(|(done, path)| *done == op && path.ends_with(end)).unwrap()
    };
    let swap = position("rename into place", LAST_SIGNED);
    for (at, (op, path)) in trace.iter().enumerate() {
        assert!(
            !(*op == "rename into place" && path.contains("/tile/")) || at < swap,
            "{path} after the swap"
        );
    }
    for dir in ["tile", "tile/0", "tile/1", "tile/entries", "tile/0/002.p", "tile/entries/002.p"] {
        assert!(position("synchronise folder", dir) < swap, "{dir} is durable before the swap");
    }
    let published = last("rename into place", "/checkpoint");
    assert!(
        position("synchronise folder", ".writer") < published,
        "the swap is durable before a signature is out"
    );
    assert!(swap < published && published < position("rename into place", "checkpoints/600"));
}
