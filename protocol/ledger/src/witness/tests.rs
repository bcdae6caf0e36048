//! The witness: one history a log, whatever is asked, in whatever order, and through any death.

use std::fs;

use proptest::prelude::*;

use super::*;
use crate::{
    checkpoint::SignedCheckpoint,
    disk::faults::{Faults, When},
    log::Log,
    reader::{Folder, consistency_proof},
    tree::{Hash, leaf_hash},
};

const ORIGIN: &str = "logs.example.org/run/1";
const SEED: [u8; 32] = [1; 32];
const NOON: u64 = 1_800_000_000;

fn key() -> SignerKey {
    SignerKey::cosigner("w.example.org", &[7; 32]).unwrap()
}

fn log_key(seed: u8) -> VerifierKey {
    SignerKey::log(ORIGIN, &[seed; 32]).unwrap().verifier()
}

fn open(dir: &Path) -> Witness {
    Witness::open(dir, key(), &[log_key(1)]).unwrap()
}

/// A log that signed these sizes, and what it asks a witness from the one to the other.
struct Asker {
    home: tempfile::TempDir,
}

impl Asker {
    fn new(entry: &str, sizes: &[u64]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut log = Log::create(home.path(), ORIGIN, &SEED).unwrap();
        for &size in sizes {
            let batch: Vec<Vec<u8>> =
                (log.size()..size).map(|i| format!("{entry} {i}").into_bytes()).collect();
            log.append(&batch).unwrap();
        }
        Self { home }
    }

    fn note(&self, size: u64) -> String {
        fs::read_to_string(self.home.path().join(format!("checkpoints/{size}"))).unwrap()
    }

    fn asks(&self, old: u64, new: u64) -> AddCheckpoint {
        let note = self.note(new);
        let checkpoint = SignedCheckpoint::verify(note.as_bytes(), &log_key(1)).unwrap().checkpoint;
        let proof = consistency_proof(&Folder::new(self.home.path()), &checkpoint, old).unwrap();
        AddCheckpoint { old, proof, note }
    }
}

fn ask(witness: &mut Witness, request: &AddCheckpoint) -> Result<NoteSignature, Refusal> {
    witness.add_checkpoint(request.to_string().as_bytes(), NOON)
}

fn time_of(cosignature: &NoteSignature) -> u64 {
    u64::from_be_bytes(cosignature.blob[..8].try_into().unwrap())
}

#[test]
fn it_cosigns_what_continues_and_says_where_it_stands() {
    let dir = tempfile::tempdir().unwrap();
    let log = Asker::new("entry", &[3, 300, 301]);
    let mut witness = open(dir.path());
    assert_eq!(witness.seen(ORIGIN), None);
    for (old, new) in [(0, 3), (3, 3), (3, 300), (300, 301)] {
        let cosignature = ask(&mut witness, &log.asks(old, new)).unwrap();
        let mut note = Note::parse(log.note(new).as_bytes()).unwrap();
        note.add(cosignature).unwrap();
        let verified = note.verify(&[key().verifier()]).unwrap();
        assert_eq!(verified[0].unix_seconds, Some(NOON));
        assert_eq!(witness.seen(ORIGIN), Some(new));
    }
    // who asks from elsewhere is told where to ask from
    for (old, new) in [(0, 301), (3, 301), (300, 300)] {
        assert!(matches!(ask(&mut witness, &log.asks(old, new)), Err(Refusal::Conflict { size: 301 })));
    }
    drop(witness);
    let mut again = open(dir.path());
    assert_eq!(again.seen(ORIGIN), Some(301), "it remembers");
    ask(&mut again, &log.asks(301, 301)).unwrap();
}

#[test]
fn an_empty_log_is_cosigned_too() {
    let dir = tempfile::tempdir().unwrap();
    let log = Asker::new("entry", &[1]);
    let mut witness = open(dir.path());
    ask(&mut witness, &log.asks(0, 0)).unwrap();
    assert_eq!(witness.seen(ORIGIN), Some(0));
    ask(&mut witness, &log.asks(0, 1)).unwrap();
}

#[test]
fn every_refusal_has_its_status() {
    let dir = tempfile::tempdir().unwrap();
    let (log, fork) = (Asker::new("entry", &[3, 300]), Asker::new("another", &[3, 300]));
    let mut witness = open(dir.path());
    ask(&mut witness, &log.asks(0, 3)).unwrap();
    let good = log.asks(3, 300);
    let text = |change: fn(&str) -> String| AddCheckpoint { note: change(&good.note), ..good.clone() };
    let resigned = |text: String| {
        let signer = SignerKey::log(ORIGIN, &SEED).unwrap();
        AddCheckpoint { note: Note::sign(&text, &signer, 0).unwrap().to_string(), ..good.clone() }
    };
    let body = Note::parse(good.note.as_bytes()).unwrap().text().to_owned();
    let stranger = SignerKey::log(ORIGIN, &[9; 32]).unwrap();
    let elsewhere = SignerKey::log("elsewhere.example.org", &[9; 32]).unwrap();
    let other_origin = body.replacen(ORIGIN, "elsewhere.example.org", 1);
    let mut bent = good.clone();
    bent.proof[0].0[0] ^= 1;
    let mut longer = good.clone();
    longer.proof.push(Hash([0; 32]));
    let rows: Vec<(&str, AddCheckpoint, u16, &str)> = vec![
        ("old above new", AddCheckpoint { old: 301, ..good.clone() }, 400, "above the checkpoint's 300"),
        ("an extension line", resigned(format!("{body}extension\n")), 400, "extension lines are refused"),
        ("a leading zero", resigned(body.replacen("\n300\n", "\n0300\n", 1)), 400, "without leading zeros"),
        ("no signature", text(|note| note.split_inclusive('\n').take(4).collect()), 400, "no signature line"),
        ("size edited", text(|note| note.replacen("\n300\n", "\n299\n", 1)), 403, "does not verify"),
        (
            "another key",
            AddCheckpoint { note: Note::sign(&body, &stranger, 0).unwrap().to_string(), ..good.clone() },
            403,
            "no signature by",
        ),
        (
            "another log",
            AddCheckpoint {
                note: Note::sign(&other_origin, &elsewhere, 0).unwrap().to_string(),
                ..good.clone()
            },
            404,
            "is unknown here",
        ),
        ("from elsewhere", log.asks(0, 300), 409, "has 3 entries"),
        ("another tree of the same size", fork.asks(3, 3), 409, "a fork"),
        ("another tree that grew", fork.asks(3, 300), 422, "does not hold"),
        ("a bent proof", bent, 422, "does not hold"),
        ("a proof too long", longer, 422, "does not fit these sizes"),
        ("a proof missing", AddCheckpoint { proof: Vec::new(), ..good.clone() }, 422, "does not fit"),
        ("a rollback", AddCheckpoint { old: 0, proof: Vec::new(), note: log.note(0) }, 409, "has 3 entries"),
    ];
    for (name, request, status, reason) in rows {
        let refusal = ask(&mut witness, &request).unwrap_err();
        assert_eq!(refusal.status(), status, "{name}: {refusal}");
        assert!(refusal.to_string().contains(reason), "{name}: {refusal}");
        assert_eq!(witness.seen(ORIGIN), Some(3), "{name}: a refusal changes nothing");
    }
    // the fork is kept: with what was cosigned it proves itself
    let evidence = dir.path().join(format!("evidence/{}-3", file_name(ORIGIN)));
    let kept = SignedCheckpoint::verify(&fs::read(evidence).unwrap(), &log_key(1)).unwrap();
    assert_ne!(kept.note, log.note(3));
    assert_eq!(kept.note, fork.note(3));
    ask(&mut witness, &good).unwrap();
}

#[test]
fn malformed_requests_are_refused_by_reason() {
    let hash = leaf_hash(b"x").to_string();
    let rows = [
        (String::new(), RequestError::NoCheckpoint),
        ("old 0\nlog\n".to_owned(), RequestError::NoCheckpoint),
        ("\n\nnote".to_owned(), RequestError::BadOldSize),
        ("old 01\n\nnote".to_owned(), RequestError::BadOldSize),
        ("old -1\n\nnote".to_owned(), RequestError::BadOldSize),
        ("old  1\n\nnote".to_owned(), RequestError::BadOldSize),
        ("OLD 1\n\nnote".to_owned(), RequestError::BadOldSize),
        ("old 1\r\n\r\n\n\nnote".to_owned(), RequestError::BadOldSize),
        (format!("old 1\n{hash}\n{}\n\nnote", &hash[1..]), RequestError::BadHash { line: 2 }),
        (format!("old 1\n{}\n\nnote", vec![&hash[..]; 64].join("\n")), RequestError::TooManyHashes),
        ("x".repeat(MAX_REQUEST_BYTES + 1), RequestError::TooLong),
    ];
    for (text, reason) in rows {
        assert_eq!(AddCheckpoint::parse(text.as_bytes()), Err(reason), "{text:.80}");
    }
    assert_eq!(AddCheckpoint::parse(b"old 0\n\n\xff"), Err(RequestError::NotUtf8));
    let most = format!("old 1\n{}\n\nnote", vec![&hash[..]; MAX_REQUEST_HASHES].join("\n"));
    assert_eq!(AddCheckpoint::parse(most.as_bytes()).unwrap().to_string(), most);
}

/// A line under the witness's own name, made up by the asker, must not get into its memory: it would find its own
/// bad signature there and never start again.
#[test]
fn a_forged_line_of_its_own_does_not_poison_its_memory() {
    let dir = tempfile::tempdir().unwrap();
    let log = Asker::new("entry", &[3]);
    let mut request = log.asks(0, 3);
    let mut note = Note::parse(request.note.as_bytes()).unwrap();
    let mut forged = key().sign("another text\n", 1);
    forged.blob[20] ^= 1;
    note.add(forged).unwrap();
    request.note = note.to_string();
    let mut witness = open(dir.path());
    ask(&mut witness, &request).unwrap();
    drop(witness);
    assert_eq!(open(dir.path()).seen(ORIGIN), Some(3));
}

/// The race of the specification: A is asked for, then B, larger, is; A's persistence must not undo B's.
#[test]
fn an_older_request_that_comes_late_rolls_nothing_back() {
    let dir = tempfile::tempdir().unwrap();
    let log = Asker::new("entry", &[3, 10, 20]);
    let mut witness = open(dir.path());
    ask(&mut witness, &log.asks(0, 3)).unwrap();
    let (a, b) = (log.asks(3, 10), log.asks(3, 20));
    ask(&mut witness, &b).unwrap();
    assert!(matches!(ask(&mut witness, &a), Err(Refusal::Conflict { size: 20 })));
    drop(witness);
    assert_eq!(open(dir.path()).seen(ORIGIN), Some(20));
}

#[test]
fn an_hour_back_on_the_clock_brings_no_time_back() {
    let dir = tempfile::tempdir().unwrap();
    let log = Asker::new("entry", &[3, 10, 20]);
    let mut witness = open(dir.path());
    let mut times = Vec::new();
    for (old, new, now) in [(0, 3, NOON), (3, 10, NOON - 3_600)] {
        let request = log.asks(old, new).to_string();
        times.push(time_of(&witness.add_checkpoint(request.as_bytes(), now).unwrap()));
    }
    drop(witness);
    let mut witness = open(dir.path());
    for (old, new, now) in [(10, 10, NOON - 3_600), (10, 20, NOON + 1)] {
        let request = log.asks(old, new).to_string();
        times.push(time_of(&witness.add_checkpoint(request.as_bytes(), now).unwrap()));
    }
    assert_eq!(times, [NOON, NOON, NOON, NOON + 1]);
}

#[test]
fn a_copied_or_damaged_memory_is_refused() {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = Asker::new("entry", &[3, 10]);
    let mut witness = open(dir.path());
    ask(&mut witness, &log.asks(0, 3)).unwrap();
    drop(witness);
    crate::disk::copy_tree(dir.path(), elsewhere.path());
    let refused = Witness::open(elsewhere.path(), key(), &[log_key(1)]).unwrap_err();
    assert!(matches!(refused, WitnessError::Copied { .. }), "{refused}");
    assert_eq!(open(dir.path()).seen(ORIGIN), Some(3), "the original goes on");

    let state = dir.path().join(state_file(ORIGIN));
    let good = fs::read_to_string(&state).unwrap();
    fs::write(&state, good.replacen("\n3\n", "\n4\n", 1)).unwrap();
    let refused = Witness::open(dir.path(), key(), &[log_key(1)]).unwrap_err();
    assert!(refused.to_string().contains("is damaged: the signature of"), "{refused}");
    // without its own signature anybody could have written it
    fs::write(&state, log.note(10)).unwrap();
    let refused = Witness::open(dir.path(), key(), &[log_key(1)]).unwrap_err();
    assert!(refused.to_string().contains("no signature by w.example.org"), "{refused}");
}

#[test]
fn wrong_keys_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let open = |signer, logs: &[VerifierKey]| Witness::open(dir.path(), signer, logs).unwrap_err();
    let log_signer = SignerKey::log(ORIGIN, &SEED).unwrap();
    assert!(matches!(open(log_signer, &[]), WitnessError::NotACosigner { .. }));
    assert!(matches!(open(key(), &[key().verifier()]), WitnessError::NotALog { .. }));
    assert!(matches!(open(key(), &[log_key(1), log_key(2)]), WitnessError::TwoKeys { .. }));
    assert!(matches!(open(key(), &vec![log_key(1); MAX_LOGS + 1]), WitnessError::TooManyLogs { .. }));
    let _held = Witness::open(dir.path(), key(), &[]).unwrap();
    assert!(open(key(), &[]).to_string().contains("another process holds it"));
}

/// Dead at any change to the disk: a cosignature that was answered is remembered, and nothing half.
#[test]
fn a_kill_at_any_change_loses_no_cosignature_that_was_answered() {
    let (log, fork) = (Asker::new("entry", &[3, 10]), Asker::new("another", &[3, 10]));
    for when in [When::After, When::Torn] {
        for step in 0.. {
            let dir = tempfile::tempdir().unwrap();
            let mut witness = open(dir.path());
            ask(&mut witness, &log.asks(0, 3)).unwrap();
            witness.disk = witness.disk.with_faults(Faults::at(step, when));
            let answer = ask(&mut witness, &log.asks(3, 10));
            let answered = answer.is_ok();
            if let Err(refusal) = answer {
                assert_eq!(refusal.status(), 500, "{refusal}");
                assert!(matches!(ask(&mut witness, &log.asks(3, 10)), Err(Refusal::Broken)));
            }
            drop(witness);
            let mut again = open(dir.path());
            let seen = again.seen(ORIGIN).unwrap();
            assert!(seen == 10 || (seen == 3 && !answered), "{when:?} at {step}: {seen}");
            // from wherever it stands, only the one history goes on
            assert!(ask(&mut again, &fork.asks(seen, 10)).is_err());
            ask(&mut again, &log.asks(seen, 10)).unwrap();
            if answered {
                break;
            }
        }
    }
}

proptest! {
    #[test]
    fn requests_come_back(old in 0..=crate::encoding::MAX_SIZE, hashes in proptest::collection::vec(any::<[u8; 32]>(), 0..=63), note in "[a-z\n—+=]{0,200}") {
        let request = AddCheckpoint { old, proof: hashes.into_iter().map(Hash).collect(), note };
        prop_assert_eq!(AddCheckpoint::parse(request.to_string().as_bytes()).unwrap(), request);
    }

    #[test]
    fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(request) = AddCheckpoint::parse(&bytes) {
            prop_assert_eq!(request.to_string().into_bytes(), bytes);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Two histories, asked in any order: never do cosigned checkpoints of both come out.
    #[test]
    fn two_histories_never_both_get_a_cosignature(picks in proptest::collection::vec((any::<bool>(), 0_usize..4, 0_usize..4), 1..12)) {
        const SIZES: [u64; 4] = [1, 2, 3, 5];
        static LOGS: std::sync::OnceLock<[Asker; 2]> = std::sync::OnceLock::new();
        let logs = LOGS.get_or_init(|| [Asker::new("entry", &SIZES), Asker::new("another", &SIZES)]);
        let dir = tempfile::tempdir().unwrap();
        let mut witness = open(dir.path());
        let mut cosigned = [false; 2];
        for (which, old, new) in picks {
            let old = if old == 0 { 0 } else { SIZES[old] };
            let new = SIZES[new].max(old);
            cosigned[usize::from(which)] |= ask(&mut witness, &logs[usize::from(which)].asks(old, new)).is_ok();
        }
        prop_assert!(!(cosigned[0] && cosigned[1]));
    }
}
