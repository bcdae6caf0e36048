//! Checkpoints: strictness, signatures, quorum, and the other crate's opinion.

use proptest::prelude::*;

use super::*;
use crate::tree::leaf_hash;

const ORIGIN: &str = "logs.example.org/run/1";

fn checkpoint(size: u64) -> Checkpoint {
    Checkpoint { origin: ORIGIN.to_owned(), size, root: leaf_hash(b"root") }
}

fn signer() -> SignerKey {
    SignerKey::log(ORIGIN, &[1; 32]).unwrap()
}

#[test]
fn malformed_checkpoints_are_refused_by_reason() {
    let root = leaf_hash(b"root");
    let loose = format!("{}J=", &root.to_string()[..42]);
    let bad_size = |text: &str| CheckpointError::BadSize { text: text.to_owned() };
    let rows = [
        (String::new(), CheckpointError::NoFinalNewline),
        (format!("{ORIGIN}\n1\n{root}"), CheckpointError::NoFinalNewline),
        (format!("{ORIGIN}\n1\n"), CheckpointError::TooFewLines { got: 2 }),
        (format!("{ORIGIN}\n1\n{root}\nextension\n"), CheckpointError::Extension { got: 4 }),
        (format!("{ORIGIN}\n1\n{root}\n\n"), CheckpointError::Extension { got: 4 }),
        (format!("\n1\n{root}\n"), CheckpointError::BadOrigin),
        (format!("{ORIGIN}\n01\n{root}\n"), bad_size("01")),
        (format!("{ORIGIN}\n-1\n{root}\n"), bad_size("-1")),
        (format!("{ORIGIN}\n\n{root}\n"), bad_size("")),
        (format!("{ORIGIN}\n9223372036854775808\n{root}\n"), bad_size("9223372036854775808")),
        (format!("{ORIGIN}\n1\n{}\n", root.to_string().trim_end_matches('=')), CheckpointError::BadRoot),
        (format!("{ORIGIN}\n1\n{root} \n"), CheckpointError::BadRoot),
        (format!("{ORIGIN}\n1\nAAAA\n"), CheckpointError::BadRoot),
    ];
    for (text, reason) in rows {
        assert_eq!(Checkpoint::parse(&text), Err(reason), "{text:?}");
    }
    if loose != root.to_string() {
        assert!(Checkpoint::parse(&format!("{ORIGIN}\n1\n{loose}\n")).is_err(), "loose trailing bits");
    }
}

#[test]
fn the_other_crate_reads_our_checkpoints() {
    let ours = checkpoint(70_000);
    let theirs = tlog_tiles::Checkpoint::from_bytes(ours.to_string().as_bytes()).unwrap();
    assert_eq!((theirs.origin(), theirs.size(), theirs.hash().0), (ORIGIN, 70_000, ours.root.0));
    assert_eq!(theirs.to_bytes(), ours.to_string().into_bytes());
}

#[test]
fn only_the_logs_own_signature_and_name_will_do() {
    let signed = SignedCheckpoint::sign(checkpoint(5), &signer()).unwrap();
    let key = signer().verifier();
    assert_eq!(SignedCheckpoint::verify(signed.note.as_bytes(), &key).unwrap(), signed);

    let stranger = SignerKey::log(ORIGIN, &[2; 32]).unwrap().verifier();
    assert_eq!(
        SignedCheckpoint::verify(signed.note.as_bytes(), &stranger),
        Err(NoteError::MissingSignature { name: ORIGIN.to_owned(), key_id: stranger.id() }.into())
    );
    let other = Checkpoint { origin: "logs.example.org/run/2".to_owned(), ..checkpoint(5) };
    let signed = SignedCheckpoint::sign(other.clone(), &signer()).unwrap();
    assert_eq!(
        SignedCheckpoint::verify(signed.note.as_bytes(), &key),
        Err(CheckpointError::WrongOrigin { expected: ORIGIN.to_owned(), got: other.origin })
    );
}

proptest! {
    #[test]
    fn checkpoints_come_back(size in 0..=encoding::MAX_SIZE, root in any::<[u8; 32]>(), origin in "[a-z0-9./-]{1,40}") {
        let checkpoint = Checkpoint { origin, size, root: Hash(root) };
        prop_assert_eq!(Checkpoint::parse(&checkpoint.to_string()).unwrap(), checkpoint);
    }

    #[test]
    fn what_parses_prints_the_same(text in "[a-z +]{0,4}\n[0-9]{0,3}\n[A-Za-z0-9+/]{42,43}={0,2}\n") {
        if let Ok(checkpoint) = Checkpoint::parse(&text) {
            prop_assert_eq!(checkpoint.to_string(), text);
        }
    }

    #[test]
    fn any_text_never_panics(text in any::<String>()) {
        let _ = Checkpoint::parse(&text);
    }
}
