//! Receipts: made, read back, and refused when anything in them is another thing.

use proptest::prelude::*;

use super::*;
use crate::{
    log::Log,
    note::{NoteError, SignerKey},
    reader::Folder,
};

const ORIGIN: &str = "logs.example.org/run/1";

fn made(size: u64, index: u64) -> (Receipt, VerifierKey) {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::create(dir.path(), ORIGIN, &[1; 32]).unwrap();
    let entries: Vec<Vec<u8>> = (0..size).map(|i| i.to_be_bytes().to_vec()).collect();
    log.append(&entries).unwrap();
    (Receipt::make(&Folder::new(dir.path()), &log.vkey(), index).unwrap(), log.vkey())
}

#[test]
fn a_receipt_shows_its_entry_and_no_other() {
    for (size, index) in [(1, 0), (2, 1), (300, 255), (300, 256), (300, 299)] {
        let (receipt, vkey) = made(size, index);
        let read = Receipt::parse(receipt.to_string().as_bytes()).unwrap();
        assert_eq!(read, receipt);
        let witnessed = read.verify(&index.to_be_bytes(), &vkey, &Policy::none()).unwrap();
        assert_eq!(witnessed.signed.checkpoint.size, size);
        assert!(matches!(
            read.verify(b"another entry", &vkey, &Policy::none()),
            Err(ReceiptError::NotIncluded { source: ProofError::RootMismatch { .. }, .. })
        ));
        let witness = SignerKey::cosigner("w.example.org", &[9; 32]).unwrap().verifier();
        let policy: Policy = format!("witness w {witness}\nquorum w\n").parse().unwrap();
        let (quorum, cosigned) = ("w".to_owned(), Vec::new());
        assert_eq!(
            read.verify(&index.to_be_bytes(), &vkey, &policy),
            Err(ReceiptError::Checkpoint(CheckpointError::QuorumShort { quorum, cosigned, known: 1 }))
        );
    }
}

#[test]
fn malformed_receipts_are_refused_by_reason() {
    let (receipt, vkey) = made(5, 3);
    let good = Receipt { extra: Some(b"context".to_vec()), ..receipt }.to_string();
    assert_eq!(Receipt::parse(good.as_bytes()).unwrap().extra.as_deref(), Some(&b"context"[..]));
    let first = Receipt::parse(good.as_bytes()).unwrap().proof[0].to_string();
    let rows = [
        (good.replace("@v1", "@v2"), ReceiptError::BadHeader),
        (good.replace("@v1\n", "@v1\r\n"), ReceiptError::BadHeader),
        (good.replace("extra ", "extra  "), ReceiptError::BadExtra),
        (good.replace("index 3", "index 03"), ReceiptError::BadIndex),
        (good.replace("index 3\n", ""), ReceiptError::BadIndex),
        (good.replace(&first, "AAAA"), ReceiptError::BadHash { line: 1 }),
        (good.replace("\n\n", "\n"), ReceiptError::NoCheckpoint),
        (good.replace(&first, &vec![&first[..]; 65].join("\n")), ReceiptError::TooManyHashes),
        ("x".repeat(MAX_RECEIPT_BYTES + 1), ReceiptError::TooLong { got: MAX_RECEIPT_BYTES + 1 }),
    ];
    for (text, reason) in rows {
        assert_eq!(Receipt::parse(text.as_bytes()), Err(reason), "{text}");
    }
    assert_eq!(Receipt::parse(b"\xff"), Err(ReceiptError::NotUtf8));
    // well formed, but another index, or another tree
    let verify = |text: &str| {
        Receipt::parse(text.as_bytes()).unwrap().verify(&3_u64.to_be_bytes(), &vkey, &Policy::none())
    };
    assert!(verify(&good).is_ok());
    assert!(matches!(verify(&good.replace("index 3", "index 2")), Err(ReceiptError::NotIncluded { .. })));
    assert_eq!(
        verify(&good.replace("index 3", "index 5")),
        Err(ReceiptError::NotIncluded {
            index: 5,
            source: ProofError::IndexOutOfRange { index: 5, size: 5 }
        })
    );
    assert!(matches!(
        verify(&good.replace("\n5\n", "\n6\n")),
        Err(ReceiptError::Checkpoint(CheckpointError::Note(NoteError::BadSignature { .. })))
    ));
}

proptest! {
    #[test]
    fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Receipt::parse(&bytes);
        let _ = Receipt::parse(&[HEADER.as_bytes(), b"\nindex 0\n", &bytes].concat());
    }
}
