//! Notes: the strictness, and that another crate reads what is written here.

use proptest::prelude::*;

use super::*;

const TEXT: &str = "logs.example.org/run/1\n2\nAAAA\n";

fn log_key() -> SignerKey {
    SignerKey::log("logs.example.org/run/1", &[1; 32]).unwrap()
}

fn witness() -> SignerKey {
    SignerKey::cosigner("witness.example.org/w1", &[2; 32]).unwrap()
}

fn signed() -> String {
    Note::sign(TEXT, &log_key(), 0).unwrap().to_string()
}

#[test]
fn a_note_comes_back_and_verifies() {
    let mut note = Note::sign(TEXT, &log_key(), 0).unwrap();
    note.add(witness().sign(TEXT, 1_700_000_000)).unwrap();
    let read = Note::parse(note.to_string().as_bytes()).unwrap();
    assert_eq!(read, note);
    let checked = read.verify(&[log_key().verifier(), witness().verifier()]).unwrap();
    assert_eq!(
        checked,
        [
            CheckedSignature { key: 0, unix_seconds: None },
            CheckedSignature { key: 1, unix_seconds: Some(1_700_000_000) }
        ]
    );
}

#[test]
fn the_other_crate_reads_our_notes_and_keys() {
    let vkey = log_key().verifier().to_string();
    let verifier = signed_note::StandardVerifier::new(&vkey).unwrap();
    let note = signed_note::Note::from_bytes(signed().as_bytes()).unwrap();
    let verifiers = signed_note::VerifierList::new(vec![Box::new(verifier)]);
    let (verified, unverified) = note.verify(&verifiers).unwrap();
    assert_eq!((verified.len(), unverified.len()), (1, 0));
    assert_eq!(note.text(), TEXT.as_bytes());
}

#[test]
fn malformed_notes_are_refused_by_reason() {
    let good = signed();
    let (text, line) = good.split_once("\n\n").unwrap();
    let line = line.trim_end();
    let bad =
        |line: &str, reason| (format!("{text}\n\n{line}\n"), NoteError::BadSignatureLine { line: 1, reason });
    let name = "the key name is empty, or has a space or a plus sign";
    let rows = [
        (String::new(), NoteError::NoFinalNewline),
        (good.trim_end().to_owned(), NoteError::NoFinalNewline),
        (format!("{text}\n"), NoteError::NoBlankLine),
        (format!("{text}\n\n"), NoteError::NoSignatures),
        (format!("\n\n{line}\n"), NoteError::EmptyText),
        (good.replacen("\n2\n", "\n2\t\n", 1), NoteError::ControlByte { byte: 9, offset: 24 }),
        (good.replacen('\n', "\r\n", 1), NoteError::ControlByte { byte: 13, offset: 22 }),
        (good.replacen("\n2\n", "\n2\0\n", 1), NoteError::ControlByte { byte: 0, offset: 24 }),
        (
            format!("{good}{}", "x".repeat(MAX_NOTE_BYTES)),
            NoteError::TooLong { got: good.len() + MAX_NOTE_BYTES },
        ),
        (format!("{text}\n\n{}", format!("{line}\n").repeat(101)), NoteError::TooManySignatures),
        bad(&line.replace('\u{2014}', "-"), "it does not start with an em dash and a space"),
        bad("\u{2014} name", "no space between name and signature"),
        bad("\u{2014}  AAAAAAA=", name),
        bad("\u{2014} a+b AAAAAAA=", name),
        bad("\u{2014} a\u{a0}b AAAAAAA=", name),
        bad("\u{2014} a AAAAAA", "the signature is not canonical base64"),
        bad("\u{2014} a AAAAAAB=", "the signature is not canonical base64"),
        bad("\u{2014} a AAAAAAA= ", "the signature is not canonical base64"),
        bad("\u{2014} a AAAAAA==", "the signature is shorter than a key id and one byte"),
    ];
    for (note, reason) in rows {
        assert_eq!(Note::parse(note.as_bytes()), Err(reason), "{note:?}");
    }
    assert_eq!(Note::parse(b"\xff\n\n"), Err(NoteError::NotUtf8));
    let hundred = format!("{text}\n\n{}", format!("{line}\n").repeat(100));
    assert_eq!(Note::parse(hundred.as_bytes()).unwrap().signatures().len(), 100);
}

#[test]
fn unknown_keys_are_ignored_and_known_ones_must_verify() {
    let key = log_key().verifier();
    let bad = NoteError::BadSignature { name: key.name().to_owned(), key_id: key.id() };
    let mut note = Note::sign(TEXT, &witness(), 5).unwrap();
    assert_eq!(note.verify(std::slice::from_ref(&key)).unwrap(), []);
    note.add(log_key().sign(TEXT, 0)).unwrap();
    assert_eq!(note.verify(std::slice::from_ref(&key)).unwrap().len(), 1);
    // one good line doesn't heal a bad one
    note.add(log_key().sign("another text\n", 0)).unwrap();
    assert_eq!(note.verify(std::slice::from_ref(&key)), Err(bad));
    // the same name with another id is another key
    let other = SignerKey::log(key.name(), &[9; 32]).unwrap();
    assert_eq!(note.verify(&[other.verifier()]).unwrap(), []);
}

#[test]
fn a_cosignature_holds_its_time() {
    let key = witness().verifier();
    let mut note = Note::sign(TEXT, &witness(), 1_000).unwrap();
    note.signatures[0].blob[7] ^= 1;
    assert!(matches!(note.verify(std::slice::from_ref(&key)), Err(NoteError::BadSignature { .. })));
    // a log's signature is no cosignature, even under the same seed
    let log = SignerKey::log(key.name(), &[2; 32]).unwrap();
    let mut line = log.sign(TEXT, 0);
    line.key_id = key.id();
    let note = Note { text: TEXT.to_owned(), signatures: vec![line] };
    assert!(matches!(note.verify(&[key]), Err(NoteError::BadSignature { .. })));
}

#[test]
fn verifier_keys_have_one_spelling() {
    for key in [log_key().verifier(), witness().verifier()] {
        assert_eq!(key.to_string().parse::<VerifierKey>().unwrap(), key);
    }
    let good = log_key().verifier().to_string();
    let mut parts = good.splitn(3, '+');
    let (name, id, key) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
    let expected = log_key().verifier().id();
    let bad_name = |name: &str| KeyError::BadName { name: name.to_owned() };
    let rows = [
        (String::new(), KeyError::Malformed),
        (format!("{name}+{id}"), KeyError::Malformed),
        (format!("{name}+{}+{key}", id.to_uppercase()), KeyError::BadId),
        (format!("{name}+0{id}+{key}"), KeyError::BadId),
        (format!("{name}+{id}+{key}\n"), KeyError::BadKey),
        (format!("{name}+{id}+AAAA"), KeyError::UnknownKind { kind: 0 }),
        (format!("{name}+{id}+AQAA"), KeyError::BadKey),
        (format!("{name}+{id}+"), KeyError::BadKey),
        (format!("{name}+00000000+{key}"), KeyError::WrongId { expected, got: 0 }),
        (format!("+{id}+{key}"), bad_name("")),
        (format!("a b+{id}+{key}"), bad_name("a b")),
    ];
    for (text, reason) in rows {
        assert_eq!(text.parse::<VerifierKey>(), Err(reason), "{text:?}");
    }
    for name in ["", "a b", "a+b", "a\nb", "a\u{3000}b", "a\u{1}b"] {
        assert_eq!(SignerKey::log(name, &[0; 32]).unwrap_err(), bad_name(name));
    }
}

#[test]
fn a_debugged_signer_shows_no_secret() {
    let shown = format!("{:?}", log_key());
    assert_eq!(shown, format!("SignerKey({})", log_key().verifier()));
}

proptest! {
    #[test]
    fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Note::parse(&bytes);
        let _ = std::str::from_utf8(&bytes).map(str::parse::<VerifierKey>);
    }

    #[test]
    fn what_parses_prints_the_same(at in any::<proptest::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = signed().into_bytes();
        let at = at.index(bytes.len());
        let before = bytes[at];
        bytes[at] = byte;
        if let Ok(note) = Note::parse(&bytes) {
            prop_assert_eq!(note.to_string().into_bytes(), bytes);
            // a changed note is refused, or its only signature is another key's now
            let verdict = note.verify(&[log_key().verifier()]);
            prop_assert_eq!(verdict.is_ok_and(|checked| !checked.is_empty()), before == byte);
        }
    }
}
