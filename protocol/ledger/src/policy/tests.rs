//! Policies: what is read, what is refused and why, and who makes a quorum.

use proptest::prelude::*;

use super::*;
use crate::{note::SignerKey, tree::leaf_hash};

const ORIGIN: &str = "logs.example.org/run/1";

fn log() -> SignerKey {
    SignerKey::log(ORIGIN, &[1; 32]).unwrap()
}

fn witness(n: u8) -> SignerKey {
    SignerKey::cosigner(&format!("w{n}.example.org"), &[n + 10; 32]).unwrap()
}

/// `witness w1 … wN`, with the rest of the text behind them.
fn text(witnesses: u8, rest: &str) -> String {
    let line = |n| format!("witness w{n} {}\n", witness(n).verifier());
    (1..=witnesses).map(line).collect::<String>() + rest
}

fn quorum_of(policy: &Policy, cosigned: &[usize]) -> bool {
    policy.is_quorum(|witness| cosigned.contains(&witness))
}

#[test]
fn the_example_of_the_specification_is_read() {
    let policy: Policy = text(
        6,
        "# two organisations\n\ngroup X 2 w1 w2 w3\n\tgroup Y any w4 w5 w6 \ngroup X-and-Y all X Y\nquorum X-and-Y\n",
    )
    .parse()
    .unwrap();
    assert!(policy.demands_witnesses());
    for (cosigned, is_quorum) in [
        (&[0, 1, 3][..], true),
        (&[0, 2, 5], true),
        (&[0, 1, 2], false),
        (&[0, 3, 4, 5], false),
        (&[0, 1, 2, 3, 4, 5], true),
        (&[], false),
    ] {
        assert_eq!(quorum_of(&policy, cosigned), is_quorum, "{cosigned:?}");
    }
    let logs: Policy =
        format!("log {} https://logs.example.org/run/1\nquorum none", log().verifier()).parse().unwrap();
    assert!(!logs.demands_witnesses() && quorum_of(&logs, &[]));
    assert_eq!(logs.logs()[0].url.as_deref(), Some("https://logs.example.org/run/1"));
}

#[test]
fn malformed_policies_are_refused_by_line_and_reason() {
    let (w1, w2) = (witness(1).verifier(), witness(2).verifier());
    let renamed = SignerKey::cosigner("other.example.org", &[11; 32]).unwrap().verifier();
    let unknown = |line, name: &str| PolicyError::UnknownName { line, name: name.to_owned() };
    let threshold = |got: &str| PolicyError::BadThreshold { line: 2, got: got.to_owned(), members: 1 };
    let rows = [
        (String::new(), PolicyError::NoQuorum),
        (text(1, ""), PolicyError::NoQuorum),
        (text(1, "quorum w1\nquorum none\n"), PolicyError::SecondQuorum { line: 3 }),
        (text(1, "quorum w2\n"), unknown(2, "w2")),
        (format!("quorum w1\nwitness w1 {w1}\n"), unknown(1, "w1")),
        (text(1, "group g any g\nquorum g\n"), unknown(2, "g")),
        (text(1, "group g any none\nquorum g\n"), unknown(2, "none")),
        (text(1, "group g 0 w1\nquorum g\n"), threshold("0")),
        (text(1, "group g 2 w1\nquorum g\n"), threshold("2")),
        (text(1, "group g 01 w1\nquorum g\n"), threshold("01")),
        (text(1, "group g +1 w1\nquorum g\n"), threshold("+1")),
        (text(1, "group g most w1\nquorum g\n"), threshold("most")),
        (
            text(1, "group g any\nquorum g\n"),
            PolicyError::Form { line: 2, form: "group <name> <any|all|k> <name>..." },
        ),
        (text(1, "quorum\n"), PolicyError::Form { line: 2, form: "quorum <name>" }),
        (text(1, "quorum w1 w1\n"), PolicyError::Form { line: 2, form: "quorum <name>" }),
        (text(2, "group g any w1 w1\nquorum g\n"), PolicyError::UsedTwice { line: 3, name: "w1".to_owned() }),
        (
            text(2, "group g any w1\ngroup h all g w1\nquorum h\n"),
            PolicyError::UsedTwice { line: 4, name: "w1".to_owned() },
        ),
        (text(1, "group w1 any w1\nquorum w1\n"), PolicyError::NameTaken { line: 2, name: "w1".to_owned() }),
        (format!("witness none {w1}\n"), PolicyError::NameTaken { line: 1, name: "none".to_owned() }),
        (
            format!("witness w1 {w1}\nwitness w1 {w2}\n"),
            PolicyError::NameTaken { line: 2, name: "w1".to_owned() },
        ),
        (format!("witness a {w1}\nwitness b {renamed}\n"), PolicyError::DuplicateKey { line: 2, first: 1 }),
        (format!("log {w1}\n"), PolicyError::WrongKind { line: 1, name: "w1.example.org".to_owned() }),
        (
            format!("witness a {}\n", log().verifier()),
            PolicyError::WrongKind { line: 1, name: ORIGIN.to_owned() },
        ),
        ("log nonsense\n".to_owned(), PolicyError::Key { line: 1, source: crate::note::KeyError::Malformed }),
        ("quorum none\r\n".to_owned(), PolicyError::ControlByte { line: 1, byte: b'\r' }),
        ("quorum none\nQUORUM none\n".to_owned(), PolicyError::UnknownLine { line: 2, got: "QUORUM".into() }),
        ("#".repeat(MAX_POLICY_BYTES + 1), PolicyError::TooLong { got: MAX_POLICY_BYTES + 1 }),
    ];
    for (text, reason) in rows {
        assert_eq!(text.parse::<Policy>(), Err(reason), "{text}");
    }
    let k = witness(1).verifier().to_string();
    let bad_url = [b"witness w ", k.as_bytes(), b" \xff\nquorum w\n"].concat();
    assert_eq!(Policy::parse(&bad_url), Err(PolicyError::BadUrl { line: 1 }));
}

#[test]
fn as_many_lines_as_the_format_asks_for_and_a_bound_above_that() {
    let line = |n: usize| {
        let seed = [u8::try_from(n).unwrap(); 32];
        format!("witness w{n} {}\n", SignerKey::cosigner("w.example.org", &seed).unwrap().verifier())
    };
    let most: String = (0..MAX_LINES_OF_A_KIND).map(line).collect();
    let policy: Policy = format!("{most}quorum w0\n").parse().unwrap();
    assert_eq!(policy.witnesses().len(), MAX_LINES_OF_A_KIND);
    let more = most + &line(MAX_LINES_OF_A_KIND);
    assert_eq!(more.parse::<Policy>(), Err(PolicyError::TooMany { line: MAX_LINES_OF_A_KIND + 1 }));
}

#[test]
fn names_are_bytes_and_not_letters() {
    let text =
        [text(1, "witness ").as_bytes(), b"\xe2\x84\xaa ", witness(2).verifier().to_string().as_bytes()]
            .concat();
    let policy = Policy::parse(&[&text[..], b"\nquorum \xe2\x84\xaa\n"].concat()).unwrap();
    assert!(quorum_of(&policy, &[1]) && !quorum_of(&policy, &[0]));
    // a K isn't the Kelvin sign
    let verdict = Policy::parse(&[&text[..], b"\nquorum K\n"].concat());
    assert_eq!(verdict, Err(PolicyError::UnknownName { line: 3, name: "K".to_owned() }));
}

fn note(cosigners: &[(u8, u64)]) -> Note {
    let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size: 5, root: leaf_hash(b"root") };
    let mut note = Note::sign(&checkpoint.to_string(), &log(), 0).unwrap();
    for &(n, time) in cosigners {
        note.add(witness(n).sign(note.text(), time)).unwrap();
    }
    note
}

#[test]
fn a_quorum_counts_different_witnesses_that_the_policy_knows() {
    let policy: Policy = text(2, "group both all w1 w2\nquorum both\n").parse().unwrap();
    let verify = |note: &Note| policy.verify(note.to_string().as_bytes(), &log().verifier());
    let short = |cosigned: &[&str]| CheckpointError::QuorumShort {
        quorum: "both".to_owned(),
        cosigned: cosigned.iter().map(|&name| name.to_owned()).collect(),
        known: 2,
    };
    assert_eq!(verify(&note(&[])), Err(short(&[])));
    assert_eq!(verify(&note(&[(1, 10), (1, 11), (3, 12)])), Err(short(&["w1"])));
    let witnessed = verify(&note(&[(1, 11), (2, 13), (1, 10)])).unwrap();
    assert_eq!(
        witnessed.cosignatures,
        [Cosignature { witness: 0, unix_seconds: 11 }, Cosignature { witness: 1, unix_seconds: 13 },]
    );
    // a bad line by a known witness condemns the note, even above the quorum
    let mut bent = note(&[(1, 10), (2, 11)]);
    bent.add(witness(1).sign("another text\n", 12)).unwrap();
    assert!(matches!(verify(&bent), Err(CheckpointError::Note(NoteError::BadSignature { .. }))));
    // the time is signed
    let text = note(&[(1, 10), (2, 11)]);
    let mut moved = Note::parse(note(&[]).to_string().as_bytes()).unwrap();
    for line in &text.signatures()[1..] {
        let mut line = line.clone();
        line.blob[7] ^= 1;
        moved.add(line).unwrap();
    }
    assert!(matches!(verify(&moved), Err(CheckpointError::Note(NoteError::BadSignature { .. }))));
}

#[test]
fn a_listed_log_is_found_by_its_origin_and_no_other_passes() {
    let stranger = SignerKey::log(ORIGIN, &[2; 32]).unwrap().verifier();
    let bytes = note(&[]).to_string().into_bytes();
    let both: Policy = format!("log {stranger}\nlog {}\nquorum none\n", log().verifier()).parse().unwrap();
    assert_eq!(both.verify_listed(&bytes).unwrap().signed.checkpoint.size, 5);
    let only_stranger: Policy = format!("log {stranger}\nquorum none\n").parse().unwrap();
    let not_listed = CheckpointError::LogNotListed { origin: ORIGIN.to_owned() };
    assert_eq!(only_stranger.verify(&bytes, &log().verifier()), Err(not_listed.clone()));
    assert!(matches!(
        only_stranger.verify_listed(&bytes),
        Err(CheckpointError::Note(NoteError::MissingSignature { .. }))
    ));
    assert_eq!(Policy::none().verify_listed(&bytes), Err(not_listed));
}

/// The rule by its definition, slowly: follow the names from the quorum down.
fn holds(groups: &[(u8, Vec<usize>)], witnesses: usize, node: usize, cosigned: u32) -> bool {
    match node.checked_sub(witnesses) {
        None => cosigned >> node & 1 == 1,
        Some(group) => {
            let (least, members) = &groups[group];
            let held = members.iter().filter(|&&member| holds(groups, witnesses, member, cosigned)).count();
            held >= usize::from(*least)
        }
    }
}

proptest! {
    #[test]
    fn any_tree_of_groups_means_what_it_says(
        sizes in proptest::collection::vec((1_usize..4, 1_u8..4), 1..5),
        cosigned in any::<u32>(),
    ) {
        const WITNESSES: usize = 6;
        // each group takes the next unused names, so the last one is the root of a tree
        let mut free: Vec<usize> = (0..WITNESSES).collect();
        let mut groups = Vec::new();
        let mut lines = String::new();
        let name = |node: usize| if node < WITNESSES { format!("w{}", node + 1) } else { format!("g{}", node - WITNESSES) };
        for (take, least) in sizes {
            let members: Vec<usize> = free.drain(..take.min(free.len())).collect();
            let least = least.min(u8::try_from(members.len()).unwrap());
            let node = WITNESSES + groups.len();
            let names: Vec<String> = members.iter().map(|&member| name(member)).collect();
            lines += &format!("group {} {least} {}\n", name(node), names.join(" "));
            groups.push((least, members));
            free.push(node);
        }
        let root = WITNESSES + groups.len() - 1;
        let policy: Policy = text(6, &format!("{lines}quorum {}\n", name(root))).parse().unwrap();
        let ours = policy.is_quorum(|witness| cosigned >> witness & 1 == 1);
        prop_assert_eq!(ours, holds(&groups, WITNESSES, root, cosigned));
        prop_assert_eq!(&policy.to_string().parse::<Policy>().unwrap(), &policy);
    }

    #[test]
    fn perturbed_policies_never_panic(at in any::<usize>(), byte in any::<u8>(), cut in any::<usize>()) {
        let mut bytes = text(3, "group g 2 w1 w2 w3\nquorum g\n").into_bytes();
        let (at, cut) = (at % bytes.len(), cut % bytes.len());
        bytes[at] = byte;
        let _ = Policy::parse(&bytes);
        let _ = Policy::parse(&bytes[..cut]);
    }
}
