//! Mirrors: exactly the log or nothing.

use std::fs;

use proptest::prelude::*;

use super::*;
use crate::{
    disk::faults::{Faults, When},
    log::Log,
    note::{Note, NoteError, SignerKey},
    reader::{replay, verify_history},
    tree::prove_consistency,
};

const ORIGIN: &str = "logs.example.org/run/1";
const SEED: [u8; 32] = [1; 32];

fn entries(from: u64, to: u64) -> Vec<Vec<u8>> {
    (from..to).map(|i| format!("entry {i}").into_bytes()).collect()
}

fn signer() -> SignerKey {
    SignerKey::log(ORIGIN, &SEED).unwrap()
}

fn root(entries: &[Vec<u8>]) -> Hash {
    let mut range = CompactRange::new();
    entries.iter().for_each(|entry| range.append(leaf_hash(entry)));
    range.root()
}

/// A note over the entries, as the operator would sign it.
fn note(entries: &[Vec<u8>]) -> String {
    let checkpoint =
        Checkpoint { origin: ORIGIN.to_owned(), size: entries.len() as u64, root: root(entries) };
    Note::sign(&checkpoint.to_string(), &signer(), 0).unwrap().to_string()
}

fn mirror(dir: &Path, size: u64) -> Mirror {
    let mut mirror = Mirror::open(dir, &signer().verifier()).unwrap();
    if size > 0 {
        mirror.extend(&entries(0, size), &note(&entries(0, size))).unwrap();
    }
    mirror
}

#[test]
fn a_mirror_follows_a_log_and_reads_like_it() {
    let (home, away) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut log = Log::create(home.path(), ORIGIN, &SEED).unwrap();
    let mut mirror = Mirror::open(away.path(), &log.vkey()).unwrap();
    assert_eq!((mirror.size(), mirror.checkpoint_note()), (0, None));
    mirror.extend(&[], &log.checkpoint_note()).unwrap();
    for to in [1, 255, 256, 257, 700] {
        let from = log.size();
        log.append(&entries(from, to)).unwrap();
        mirror.extend(&log.entries(from, usize::MAX, usize::MAX).unwrap(), &log.checkpoint_note()).unwrap();
        assert_eq!((mirror.size(), mirror.root()), (log.size(), log.root()));
    }
    drop(mirror);
    let mirror = Mirror::open(away.path(), &log.vkey()).unwrap();
    assert_eq!(mirror.checkpoint_note(), Some(&log.checkpoint_note()[..]));
    assert_eq!(mirror.root_at(300).unwrap(), log.root_at(300).unwrap());
    assert_eq!(mirror.entry(699).unwrap(), b"entry 699");
    assert_eq!(mirror.entries(690, 100, 100_000).unwrap(), entries(690, 700));
    let mut seen = Vec::new();
    let signed = replay(mirror.folder(), &log.vkey(), |_, entry| seen.push(entry.to_vec())).unwrap();
    assert_eq!(seen, entries(0, 700));
    assert_eq!(verify_history(mirror.folder(), &log.vkey(), &signed.checkpoint).unwrap(), 6);
    // it has no `last-signed`, so that nobody signs on from it by mistake
    drop(mirror);
    assert!(matches!(Log::open(away.path(), &SEED), Err(crate::LogError::NotTheOriginal { .. })));
}

#[test]
fn batches_are_staged_and_committed_together() {
    let dir = tempfile::tempdir().unwrap();
    let mut mirror = mirror(dir.path(), 3);
    mirror.stage(&entries(3, 200)).unwrap();
    mirror.stage(&[]).unwrap();
    let whole = note(&entries(0, 600));
    assert!(matches!(mirror.commit(&whole), Err(MirrorError::SizeMismatch { staged: 200, signed: 600 })));
    mirror.stage(&entries(200, 600)).unwrap();
    assert_eq!((mirror.size(), mirror.staged_size()), (3, 600));
    assert!(matches!(
        mirror.entry(3),
        Err(MirrorError::Damaged { source: ReadError::OutOfRange { .. }, .. })
    ));
    mirror.commit(&whole).unwrap();
    assert_eq!(mirror.entries(0, 1_000, usize::MAX).unwrap(), entries(0, 600));
    // staging goes on after a commit
    mirror.stage(&entries(600, 601)).unwrap();
    mirror.commit(&note(&entries(0, 601))).unwrap();
    // what is staged doesn't outlive the process
    mirror.stage(&entries(601, 700)).unwrap();
    drop(mirror);
    assert_eq!(Mirror::open(dir.path(), &signer().verifier()).unwrap().staged_size(), 601);
}

#[test]
fn wrong_extensions_are_refused_by_reason_and_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut mirror = mirror(dir.path(), 10);
    let before = (mirror.size(), mirror.root(), mirror.checkpoint_note().map(str::to_owned));

    let honest = note(&entries(0, 15));
    let mut changed = entries(10, 15);
    changed[2][0] ^= 1;
    assert!(matches!(mirror.extend(&changed, &honest), Err(MirrorError::RootMismatch { size: 15, .. })));
    assert!(matches!(
        mirror.extend(&entries(10, 14), &honest),
        Err(MirrorError::SizeMismatch { staged: 14, signed: 15 })
    ));
    assert!(matches!(
        mirror.extend(&entries(10, 15), &honest.replace("\n15\n", "\n16\n")),
        Err(MirrorError::BadCheckpoint(CheckpointError::Note(NoteError::BadSignature { .. })))
    ));
    assert!(matches!(
        mirror.extend(&[vec![0; MAX_ENTRY_BYTES + 1]], &honest),
        Err(MirrorError::EntryTooLong { got: 65_536 })
    ));
    // an old checkpoint of the same history
    assert!(matches!(
        mirror.extend(&[], &note(&entries(0, 7))),
        Err(MirrorError::Rollback { ours: 10, got: 7 })
    ));
    // two histories under one signature: same size, smaller size
    let mut fork = entries(0, 10);
    fork[4] = b"another".to_vec();
    for size in [10, 7] {
        match mirror.extend(&[], &note(&fork[..size])) {
            Err(MirrorError::Equivocation { size: at, our_note, their_note, .. }) => {
                assert_eq!(at, size as u64);
                assert_eq!((Some(our_note), their_note), (before.2.clone(), note(&fork[..size])));
            }
            other => panic!("{other:?}"),
        }
    }
    let after = (mirror.size(), mirror.root(), mirror.checkpoint_note().map(str::to_owned));
    assert_eq!(after, before);
    mirror.extend(&entries(10, 15), &honest).unwrap();
}

#[test]
fn a_consistency_proof_tells_a_lying_operator_from_a_lying_sender() {
    let dir = tempfile::tempdir().unwrap();
    let mirror = mirror(dir.path(), 10);
    let leaves = |entries: &[Vec<u8>]| {
        crate::tree::plain::Leaves(entries.iter().map(|entry| leaf_hash(entry)).collect())
    };
    let honest = entries(0, 15);
    let proof = prove_consistency(10, 15, &leaves(&honest)).unwrap();
    mirror.check_consistency(&note(&honest), &proof).unwrap();
    assert!(matches!(
        mirror.check_consistency(&note(&honest), &proof[1..]),
        Err(MirrorError::BadProof(ProofError::WrongLength { .. }))
    ));
    let mut fork = honest;
    fork[4] = b"another".to_vec();
    let proof = prove_consistency(10, 15, &leaves(&fork)).unwrap();
    assert!(matches!(
        mirror.check_consistency(&note(&fork), &proof),
        Err(MirrorError::Equivocation { size: 10, .. })
    ));
}

#[test]
fn a_checkpoint_without_its_quorum_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let mut mirror = mirror(dir.path(), 10);
    let witness = SignerKey::cosigner("w.example.org", &[7; 32]).unwrap();
    mirror.require(format!("witness w {}\nquorum w\n", witness.verifier()).parse().unwrap());
    let plain = note(&entries(0, 15));
    let refused = mirror.extend(&entries(10, 15), &plain).unwrap_err();
    let short = |error: &MirrorError| matches!(error, MirrorError::BadCheckpoint(CheckpointError::QuorumShort { cosigned, known: 1, .. }) if cosigned.is_empty());
    assert!(short(&refused), "{refused:?}");
    assert_eq!((mirror.size(), mirror.staged_size()), (10, 10));
    // but its signature alone accuses a log of two histories
    let fork: Vec<Vec<u8>> = (0..10).map(|i| format!("another {i}").into_bytes()).collect();
    assert!(matches!(mirror.commit(&note(&fork)), Err(MirrorError::Equivocation { size: 10, .. })));
    let mut cosigned = Note::parse(plain.as_bytes()).unwrap();
    cosigned.add(witness.sign(cosigned.text(), 1)).unwrap();
    mirror.extend(&entries(10, 15), &cosigned.to_string()).unwrap();
    assert_eq!(mirror.checkpoint_note(), Some(&*cosigned.to_string()));
}

#[test]
fn a_folder_mirrors_one_log() {
    let dir = tempfile::tempdir().unwrap();
    let held = mirror(dir.path(), 1);
    assert!(matches!(Mirror::open(dir.path(), &signer().verifier()), Err(MirrorError::Disk(_))));
    drop(held);
    let other = SignerKey::log("another.example.org", &SEED).unwrap().verifier();
    assert!(matches!(Mirror::open(dir.path(), &other), Err(MirrorError::WrongLog { .. })));
    let tile = dir.path().join("tile/0/000.p/1");
    let mut bytes = fs::read(&tile).unwrap();
    bytes[0] ^= 1;
    fs::write(&tile, bytes).unwrap();
    let damaged = Mirror::open(dir.path(), &signer().verifier());
    assert!(
        matches!(&damaged, Err(MirrorError::Damaged { source: ReadError::TileMismatch { path }, .. }) if path == "tile/0/000.p/1"),
        "{damaged:?}"
    );
}

#[test]
fn a_kill_at_any_change_leaves_a_mirror_that_goes_on() {
    for when in [When::After, When::Torn] {
        for step in 0.. {
            let dir = tempfile::tempdir().unwrap();
            drop(mirror(dir.path(), 250));
            let disk = Disk::lock(dir.path()).unwrap().with_faults(Faults::at(step, when));
            let mut broken = Mirror::open_on(disk, &signer().verifier()).unwrap();
            let finished = broken.extend(&entries(250, 260), &note(&entries(0, 260))).is_ok();
            assert_eq!(broken.size(), if finished { 260 } else { 250 });
            drop(broken);
            let seen = replay(&Folder::new(dir.path()), &signer().verifier(), |_, _| {}).unwrap();
            let mut mirror = Mirror::open(dir.path(), &signer().verifier()).unwrap();
            assert!(mirror.size() >= seen.checkpoint.size, "{when:?} at {step}");
            let from = mirror.size();
            mirror.extend(&entries(from, 600), &note(&entries(0, 600))).unwrap();
            assert_eq!(mirror.entries(0, 1_000, usize::MAX).unwrap(), entries(0, 600), "{when:?} at {step}");
            if finished {
                break;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn any_batches_make_the_same_tree(batches in proptest::collection::vec((1_u64..300, any::<bool>()), 1..6)) {
        let dir = tempfile::tempdir().unwrap();
        let mut mirror = mirror(dir.path(), 0);
        let mut size = 0;
        for (count, commit) in batches {
            mirror.stage(&entries(size, size + count)).unwrap();
            size += count;
            if commit {
                mirror.commit(&note(&entries(0, size))).unwrap();
            }
        }
        mirror.commit(&note(&entries(0, size))).unwrap();
        prop_assert_eq!(mirror.root(), root(&entries(0, size)));
        drop(mirror);
        let mirror = Mirror::open(dir.path(), &signer().verifier()).unwrap();
        prop_assert_eq!(mirror.entries(0, 10_000, usize::MAX).unwrap(), entries(0, size));
    }
}
