//! A log with witnesses before judges: Go counts the same quorum as the policy does, and each lie about a cosignature
//! is refused by both, for its reason.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/kit.rs"]
mod support;

use std::{fs, path::Path};

use support::{ORIGIN, SEED, copy, entries, judged_with, put, vkey};
use talkoot_ledger::{
    AddCheckpoint, CheckpointError, Folder, Log, Note, NoteError, Policy, Receipt, ReceiptError, SignerKey,
    VerifierKey, Witness, note::NoteSignature, reader::consistency_proof,
};

const NOON: u64 = 1_800_000_000;
const SIZES: [u64; 4] = [1, 255, 257, 600];

fn signer(n: u8) -> SignerKey {
    SignerKey::cosigner(&format!("w{n}.example.org"), &[n + 10; 32]).unwrap()
}

fn keys() -> Vec<VerifierKey> {
    (1..=3).map(|n| signer(n).verifier()).collect()
}

fn policy() -> Policy {
    let witnesses: String = (1..=3).map(|n| format!("witness w{n} {}\n", signer(n).verifier())).collect();
    format!("{witnesses}group two-of-three 2 w1 w2 w3\nquorum two-of-three\n").parse().unwrap()
}

/// A log of which every published checkpoint was cosigned by these witnesses, who were asked as the protocol says.
fn write_cosigned(home: &Path, witnesses: &[u8]) {
    let dir = home.join("log");
    let mut log = Log::create(&dir, ORIGIN, &SEED).unwrap();
    let mut asked: Vec<Witness> = witnesses
        .iter()
        .map(|&n| Witness::open(&home.join(format!("w{n}")), signer(n), &[vkey()]).unwrap())
        .collect();
    for size in std::iter::once(0).chain(SIZES) {
        let signed = log.sign(&entries(log.size(), size)).unwrap().clone();
        let mut note = Note::parse(signed.note.as_bytes()).unwrap();
        for witness in &mut asked {
            let old = witness.seen(ORIGIN).unwrap_or(0);
            let proof = consistency_proof(log.folder(), &signed.checkpoint, old).unwrap();
            let request = AddCheckpoint { old, proof, note: signed.note.clone() };
            note.add(witness.add_checkpoint(request.to_string().as_bytes(), NOON + size).unwrap()).unwrap();
        }
        log.publish(&note.to_string()).unwrap();
    }
}

struct Row {
    name: &'static str,
    /// What becomes of the lines behind the log's own: w1's, w2's.
    tamper: fn(&str, &mut Vec<NoteSignature>),
    ours: fn(&Result<(), CheckpointError>) -> bool,
    theirs: &'static str,
}

/// Whether the quorum is missing, and these have cosigned.
fn short(verdict: &Result<(), CheckpointError>, names: &[&str]) -> bool {
    matches!(verdict, Err(CheckpointError::QuorumShort { cosigned, known: 3, .. }) if cosigned == names)
}

const BENT: fn(&Result<(), CheckpointError>) -> bool =
    |verdict| matches!(verdict, Err(CheckpointError::Note(NoteError::BadSignature { .. })));

const ROWS: &[Row] = &[
    Row { name: "good", tamper: |_, _| {}, ours: |verdict| verdict.is_ok(), theirs: "" },
    Row {
        name: "the third witness too",
        tamper: |text, lines| lines.push(signer(3).sign(text, NOON)),
        ours: |verdict| verdict.is_ok(),
        theirs: "",
    },
    Row {
        name: "one of two taken away",
        tamper: |_, lines| lines.truncate(1),
        ours: |verdict| short(verdict, &["w1"]),
        theirs: "1 witness cosignatures, quorum is 2",
    },
    Row {
        name: "none at all",
        tamper: |_, lines| lines.clear(),
        ours: |verdict| short(verdict, &[]),
        theirs: "0 witness cosignatures, quorum is 2",
    },
    Row {
        name: "one witness twice",
        tamper: |text, lines| {
            lines.truncate(1);
            lines.push(signer(1).sign(text, NOON + 1));
        },
        ours: |verdict| short(verdict, &["w1"]),
        theirs: "1 witness cosignatures, quorum is 2",
    },
    Row {
        name: "a stranger in place of a witness",
        tamper: |text, lines| lines[1] = signer(9).sign(text, NOON),
        ours: |verdict| short(verdict, &["w1"]),
        theirs: "1 witness cosignatures, quorum is 2",
    },
    Row {
        name: "a witness's key under a log's type",
        tamper: |text, lines| {
            lines[1] = SignerKey::log("w2.example.org", &[12; 32]).unwrap().sign(text, NOON);
        },
        ours: |verdict| short(verdict, &["w1"]),
        theirs: "1 witness cosignatures, quorum is 2",
    },
    Row {
        name: "a witness's time edited",
        tamper: |_, lines| lines[1].blob[7] ^= 1,
        ours: BENT,
        theirs: "invalid signature for key w2.example.org",
    },
    Row {
        name: "a time beyond 2^63",
        tamper: |_, lines| lines[1].blob[0] |= 0x80,
        ours: BENT,
        theirs: "invalid signature for key w2.example.org",
    },
    Row {
        name: "a witness's signature flipped",
        tamper: |_, lines| lines[0].blob[40] ^= 1,
        ours: BENT,
        theirs: "invalid signature for key w1.example.org",
    },
    Row {
        name: "a cosignature of another checkpoint",
        tamper: |text, lines| lines[0] = signer(1).sign(&text.replacen("\n600\n", "\n601\n", 1), NOON),
        ours: BENT,
        theirs: "invalid signature for key w1.example.org",
    },
    Row {
        name: "two witnesses' lines with their names exchanged",
        tamper: |_, lines| {
            let (first, second) = lines.split_at_mut(1);
            std::mem::swap(&mut first[0].blob, &mut second[0].blob);
        },
        ours: BENT,
        theirs: "invalid signature for key w1.example.org",
    },
    Row {
        name: "a cosignature cut short",
        tamper: |_, lines| lines[1].blob.truncate(71),
        ours: BENT,
        theirs: "invalid signature for key w2.example.org",
    },
    Row {
        name: "a cosignature without its time",
        tamper: |_, lines| {
            lines[1].blob.drain(..8);
        },
        ours: BENT,
        theirs: "invalid signature for key w2.example.org",
    },
    Row {
        name: "a bad line of a third witness above the quorum",
        tamper: |text, lines| {
            let mut line = signer(3).sign(text, NOON);
            line.blob[30] ^= 1;
            lines.push(line);
        },
        ours: BENT,
        theirs: "invalid signature for key w3.example.org",
    },
    Row {
        name: "a stranger's bad line, which nobody can judge",
        tamper: |text, lines| {
            let mut line = signer(9).sign(text, NOON);
            line.blob[30] ^= 1;
            lines.push(line);
        },
        ours: |verdict| verdict.is_ok(),
        theirs: "",
    },
];

#[test]
fn every_lie_about_a_cosignature_is_refused_for_its_reason() {
    let home = tempfile::tempdir().unwrap();
    write_cosigned(home.path(), &[1, 2]);
    let good = home.path().join("log");
    for Row { name, tamper, ours, theirs } in ROWS {
        let dir = home.path().join("tampered");
        copy(&good, &dir);
        let note = Note::parse(&fs::read(dir.join("checkpoint")).unwrap()).unwrap();
        let mut lines = note.signatures()[1..].to_vec();
        assert_eq!(lines.len(), 2, "{name}");
        tamper(note.text(), &mut lines);
        let mut tampered = Note::sign(note.text(), &support::signer(), 0).unwrap();
        lines.into_iter().for_each(|line| tampered.add(line).unwrap());
        put(&dir.join("checkpoint"), tampered.to_string());

        let verdict = policy().verify(tampered.to_string().as_bytes(), &vkey()).map(|_| ());
        assert!(ours(&verdict), "{name}: our policy says {verdict:?}");
        match judged_with(&dir, &vkey(), true, &keys(), 2) {
            None => {}
            Some(Ok(said)) => assert!(theirs.is_empty(), "{name}: the judge accepts: {said}"),
            Some(Err(said)) => {
                assert!(!theirs.is_empty() && said.contains(theirs), "{name}: the judge says {said}");
            }
        }
        fs::remove_dir_all(dir).unwrap();
    }
}

#[test]
fn a_receipt_carries_its_quorum_with_it() {
    let home = tempfile::tempdir().unwrap();
    write_cosigned(home.path(), &[1, 3]);
    let folder = Folder::new(home.path().join("log"));
    for index in [0, 254, 255, 256, 599] {
        let receipt = Receipt::make(&folder, &vkey(), index).unwrap();
        let read = Receipt::parse(receipt.to_string().as_bytes()).unwrap();
        let entry = &entries(index, index + 1)[0];
        let witnessed = read.verify(entry, &vkey(), &policy()).unwrap();
        let who: Vec<(usize, u64)> =
            witnessed.cosignatures.iter().map(|word| (word.witness, word.unix_seconds)).collect();
        assert_eq!(who, [(0, NOON + 600), (2, NOON + 600)]);
        let listed: Policy = format!("log {}\n{}", vkey(), policy()).parse().unwrap();
        assert_eq!(read.verify_listed(entry, &listed).unwrap(), witnessed);
        let all: Policy = policy().to_string().replace(" 2 w1", " 3 w1").parse().unwrap();
        assert!(matches!(
            read.verify(entry, &vkey(), &all),
            Err(ReceiptError::Checkpoint(CheckpointError::QuorumShort { .. }))
        ));
    }
}
