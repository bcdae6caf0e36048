//! A table of lies: each refused by our reader, and by the outside judge, for the right reason.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/kit.rs"]
mod support;

use std::{fs, path::Path};

use support::{ORIGIN, SEED, copy, entries, judged, put, signer, vkey, write_log};
use talkoot_ledger::{
    Checkpoint, CheckpointError, Folder, Log, Note, NoteError, ReadError, SignerKey,
    reader::{current, replay, verify_history},
    tree::empty_root,
};

/// Three tile levels, and partial tiles of several sizes.
const SIZES: [u64; 5] = [1, 300, 1_000, 65_700, 66_000];

type Expected = fn(&ReadError) -> bool;

struct Row {
    name: &'static str,
    tamper: fn(&Path),
    /// What our reader must say; `None` where the log must pass.
    ours: Option<Expected>,
    /// What the outside judge's message must contain; empty where it must pass.
    theirs: &'static str,
}

fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    put(path, bytes);
}

fn flip(dir: &Path, file: &str, at: usize) {
    edit(&dir.join(file), |bytes| bytes[at] ^= 1);
}

fn replace(dir: &Path, from: &str, to: &str) {
    let path = dir.join("checkpoint");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from:?} in {text:?}");
    put(&path, text.replacen(from, to, 1));
}

/// Signs another text with the log's own key, as a bad operator could.
fn resign(dir: &Path, change: impl FnOnce(&mut Checkpoint)) {
    let mut checkpoint = current(&Folder::new(dir), &vkey()).unwrap().checkpoint;
    change(&mut checkpoint);
    sign_text(dir, &checkpoint.to_string());
}

fn sign_text(dir: &Path, text: &str) {
    put(&dir.join("checkpoint"), Note::sign(text, &signer(), 0).unwrap().to_string());
}

/// The log again from entry 300 on, with one other entry, under the same key.
fn fork(dir: &Path, keep_history: bool) {
    let kept = tempfile::tempdir().unwrap();
    copy(&dir.join("checkpoints"), kept.path());
    fs::remove_dir_all(dir).unwrap();
    let mut log = Log::create(dir, ORIGIN, &SEED).unwrap();
    let mut all = entries(0, 66_000);
    all[500] = b"another history".to_vec();
    log.append(&all).unwrap();
    drop(log);
    if keep_history {
        copy(kept.path(), &dir.join("checkpoints"));
    }
}

macro_rules! expect {
    ($($pattern:tt)+) => { Some(|error| matches!(error, $($pattern)+)) };
}

const ROWS: &[Row] = &[
    Row { name: "good", tamper: |_| {}, ours: None, theirs: "" },
    Row {
        name: "an entry flipped",
        tamper: |dir| flip(dir, "tile/entries/001", 4),
        ours: expect!(ReadError::EntryMismatch { path, index: 256 } if path == "tile/entries/001"),
        theirs: "root from entries is",
    },
    Row {
        name: "a later entry of the bundle flipped",
        tamper: |dir| flip(dir, "tile/entries/257.p/208", 42),
        ours: expect!(ReadError::EntryMismatch { path, index: 65_795 } if path == "tile/entries/257.p/208"),
        theirs: "root from entries is",
    },
    Row {
        name: "a hash of level 0 flipped",
        tamper: |dir| flip(dir, "tile/0/003", 40),
        ours: expect!(ReadError::TileMismatch { path } if path == "tile/0/003"),
        theirs: "tile/0/003 differs from entries",
    },
    Row {
        name: "a hash of the partial tile at level 0 flipped",
        tamper: |dir| flip(dir, "tile/0/257.p/208", 0),
        ours: expect!(ReadError::TileMismatch { path } if path == "tile/0/257.p/208"),
        theirs: "tile/0/257.p/208 differs from entries",
    },
    Row {
        name: "a hash of level 1 flipped",
        tamper: |dir| flip(dir, "tile/1/000", 8_191),
        ours: expect!(ReadError::TileMismatch { path } if path == "tile/1/000"),
        theirs: "tile/1/000 differs from entries",
    },
    Row {
        name: "a hash of level 2 flipped",
        tamper: |dir| flip(dir, "tile/2/000.p/1", 0),
        ours: expect!(ReadError::TileMismatch { path } if path == "tile/2/000.p/1"),
        theirs: "tile/2/000.p/1 differs from entries",
    },
    Row {
        name: "a bundle missing",
        tamper: |dir| fs::remove_file(dir.join("tile/entries/100")).unwrap(),
        ours: expect!(ReadError::Missing { path } if path == "tile/entries/100"),
        theirs: "tile/entries/100: no such file",
    },
    Row {
        name: "the current partial tile missing",
        tamper: |dir| fs::remove_file(dir.join("tile/0/257.p/208")).unwrap(),
        ours: expect!(ReadError::Missing { path } if path == "tile/0/257.p/208"),
        theirs: "tile/0/257.p/208: no such file",
    },
    Row {
        name: "level 2 missing",
        tamper: |dir| fs::remove_file(dir.join("tile/2/000.p/1")).unwrap(),
        ours: expect!(ReadError::Missing { path } if path == "tile/2/000.p/1"),
        theirs: "tile/2/000.p/1: no such file",
    },
    Row {
        name: "a byte after a bundle",
        tamper: |dir| edit(&dir.join("tile/entries/001"), |bytes| bytes.push(0)),
        ours: expect!(ReadError::BadBundle { path, source: talkoot_ledger::tile::BundleError::TrailingBytes { extra_bytes: 1, .. } } if path == "tile/entries/001"),
        theirs: "tile/entries/001: trailing byte",
    },
    Row {
        name: "a bundle cut short",
        tamper: |dir| edit(&dir.join("tile/entries/001"), |bytes| bytes.truncate(bytes.len() - 1)),
        ours: expect!(ReadError::BadBundle {
            source: talkoot_ledger::tile::BundleError::CutOff { entry: 255, missing_bytes: 1 },
            ..
        }),
        theirs: "tile/entries/001: short entry",
    },
    Row {
        name: "a tile cut short",
        tamper: |dir| edit(&dir.join("tile/0/001"), |bytes| bytes.truncate(8_160)),
        ours: expect!(ReadError::BadTile { path, source } if path == "tile/0/001" && source.got_bytes == 8_160),
        theirs: "tile/0/001 differs from entries",
    },
    Row {
        name: "a byte after a tile",
        tamper: |dir| edit(&dir.join("tile/0/001"), |bytes| bytes.push(0)),
        ours: expect!(ReadError::BadTile { path, source } if path == "tile/0/001" && source.got_bytes == 8_193),
        theirs: "tile/0/001 differs from entries",
    },
    Row {
        name: "two tiles swapped",
        tamper: |dir| {
            let (a, b) = (dir.join("tile/0/004"), dir.join("tile/0/005"));
            let (x, y) = (fs::read(&a).unwrap(), fs::read(&b).unwrap());
            put(&a, y);
            put(&b, x);
        },
        ours: expect!(ReadError::TileMismatch { path } if path == "tile/0/004"),
        theirs: "tile/0/004 differs from entries",
    },
    Row {
        name: "an entry and its tile changed together",
        tamper: |dir| {
            let bundle = dir.join("tile/entries/001");
            flip(dir, "tile/entries/001", 4);
            let bytes = fs::read(&bundle).unwrap();
            let entries = talkoot_ledger::tile::decode_bundle(&bytes, 256).unwrap();
            let leaf = talkoot_ledger::tree::leaf_hash(entries[0]);
            edit(&dir.join("tile/0/001"), |bytes| bytes[..32].copy_from_slice(&leaf.0));
        },
        ours: expect!(ReadError::RootMismatch { size: 66_000, .. }),
        theirs: "root from entries is",
    },
    Row {
        name: "rolled back to an older checkpoint",
        tamper: |dir| {
            put(&dir.join("checkpoint"), fs::read(dir.join("checkpoints/65700")).unwrap());
        },
        ours: expect!(ReadError::Rollback { path, kept: 66_000, current: 65_700 } if path == "checkpoints/66000"),
        theirs: "(rollback)",
    },
    Row {
        name: "the size edited",
        tamper: |dir| replace(dir, "\n66000\n", "\n65999\n"),
        ours: expect!(ReadError::BadCheckpoint {
            source: CheckpointError::Note(NoteError::BadSignature { .. }),
            ..
        }),
        theirs: "invalid signature for key",
    },
    Row {
        name: "another size signed over the same root",
        tamper: |dir| resign(dir, |checkpoint| checkpoint.size = 65_700),
        ours: expect!(ReadError::RootMismatch { size: 65_700, .. }),
        theirs: "root from entries is",
    },
    Row {
        name: "a leading zero, signed",
        tamper: |dir| {
            let text = current(&Folder::new(dir), &vkey()).unwrap().checkpoint.to_string();
            sign_text(dir, &text.replace("\n66000\n", "\n066000\n"));
        },
        ours: expect!(ReadError::BadCheckpoint { source: CheckpointError::BadSize { text }, .. } if text == "066000"),
        theirs: "checkpoint: bad size",
    },
    Row {
        name: "the origin edited",
        tamper: |dir| replace(dir, ORIGIN, "logs.example.org/run/2"),
        ours: expect!(ReadError::BadCheckpoint {
            source: CheckpointError::Note(NoteError::BadSignature { .. }),
            ..
        }),
        theirs: "invalid signature for key",
    },
    Row {
        name: "another origin, signed",
        tamper: |dir| resign(dir, |checkpoint| checkpoint.origin = "logs.example.org/run/2".to_owned()),
        ours: expect!(ReadError::BadCheckpoint { source: CheckpointError::WrongOrigin { .. }, .. }),
        theirs: "checkpoint: origin",
    },
    Row {
        name: "another root signed",
        tamper: |dir| resign(dir, |checkpoint| checkpoint.root = empty_root()),
        ours: expect!(ReadError::RootMismatch { .. }),
        theirs: "root from entries is",
    },
    Row {
        name: "the log's signature missing",
        tamper: |dir| {
            let text = current(&Folder::new(dir), &vkey()).unwrap().checkpoint.to_string();
            let stranger = SignerKey::log("stranger.example.org", &[8; 32]).unwrap();
            put(&dir.join("checkpoint"), Note::sign(&text, &stranger, 0).unwrap().to_string());
        },
        ours: expect!(ReadError::BadCheckpoint {
            source: CheckpointError::Note(NoteError::MissingSignature { .. }),
            ..
        }),
        theirs: "no verifiable signatures",
    },
    Row {
        name: "no signature at all",
        tamper: |dir| {
            edit(&dir.join("checkpoint"), |bytes| {
                let end = bytes.windows(2).rposition(|pair| pair == b"\n\n").unwrap();
                bytes.truncate(end + 2);
            })
        },
        ours: expect!(ReadError::BadCheckpoint {
            source: CheckpointError::Note(NoteError::NoSignatures),
            ..
        }),
        theirs: "malformed note",
    },
    Row {
        name: "a control character",
        tamper: |dir| replace(dir, "\n66000\n", "\n66000\r\n"),
        ours: expect!(ReadError::BadCheckpoint {
            source: CheckpointError::Note(NoteError::ControlByte { byte: 13, .. }),
            ..
        }),
        theirs: "malformed note",
    },
    Row {
        name: "the checkpoint missing",
        tamper: |dir| fs::remove_file(dir.join("checkpoint")).unwrap(),
        ours: expect!(ReadError::Missing { path } if path == "checkpoint"),
        theirs: "checkpoint: no such file",
    },
    Row {
        name: "a fork, history kept",
        tamper: |dir| fork(dir, true),
        ours: expect!(ReadError::Equivocation { path, size: 1_000, .. } if path == "checkpoints/1000"),
        theirs: "EQUIVOCATION at size 1000",
    },
    Row {
        name: "a fork without its history passes, which is why members keep theirs",
        tamper: |dir| fork(dir, false),
        ours: None,
        theirs: "",
    },
    Row {
        name: "old partial tiles deleted",
        tamper: |dir| {
            for old in ["0/000.p", "entries/000.p", "0/003.p", "entries/003.p", "entries/001.p", "0/001.p"] {
                fs::remove_dir_all(dir.join("tile").join(old)).unwrap();
            }
        },
        ours: None,
        theirs: "",
    },
    Row {
        name: "a signature by an unknown key added",
        tamper: |dir| {
            let path = dir.join("checkpoint");
            let mut note = Note::parse(&fs::read(&path).unwrap()).unwrap();
            let stranger = SignerKey::cosigner("stranger.example.org", &[8; 32]).unwrap();
            note.add(stranger.sign(note.text(), 1)).unwrap();
            put(&path, note.to_string());
        },
        ours: None,
        theirs: "",
    },
    Row {
        name: "an extension line, signed: ours is the stricter",
        tamper: |dir| {
            let text = current(&Folder::new(dir), &vkey()).unwrap().checkpoint.to_string();
            sign_text(dir, &format!("{text}extension\n"));
        },
        ours: expect!(ReadError::BadCheckpoint { source: CheckpointError::Extension { got: 4 }, .. }),
        theirs: "",
    },
];

#[test]
fn every_lie_is_refused_for_its_reason() {
    let home = tempfile::tempdir().unwrap();
    let good = home.path().join("good");
    write_log(&good, &SIZES);
    for Row { name, tamper, ours, theirs } in ROWS {
        let dir = home.path().join("tampered");
        copy(&good, &dir);
        tamper(&dir);

        let folder = Folder::new(&dir);
        let read = replay(&folder, &vkey(), |_, _| {})
            .and_then(|signed| verify_history(&folder, &vkey(), &signed.checkpoint));
        match (read, ours) {
            (Ok(_), None) => {}
            (Err(error), Some(expected)) if expected(&error) => {}
            (read, _) => panic!("{name}: our reader says {read:?}"),
        }
        match judged(&dir, &vkey(), true) {
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
fn a_missing_old_partial_is_read_from_the_full_tile() {
    let home = tempfile::tempdir().unwrap();
    write_log(home.path(), &SIZES);
    // as a reader who still holds the checkpoint of 300
    for old in ["0/001.p", "entries/001.p"] {
        fs::remove_dir_all(home.path().join("tile").join(old)).unwrap();
    }
    fs::copy(home.path().join("checkpoints/300"), home.path().join("checkpoint")).unwrap();
    let mut count = 0;
    replay(&Folder::new(home.path()), &vkey(), |_, _| count += 1).unwrap();
    assert_eq!(count, 300);
}
