//! Events read by two programs that were written apart: ours, and one in Python from the page alone. Whatever bytes they are
//! given, both take them for the same event or both refuse them.

#![allow(clippy::unwrap_used, reason = "helpers of a test are part of the test")]

use std::{
    io::Write,
    process::{Command, Stdio},
};

use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};
use talkoot_protocol::{
    canonical,
    challenge::{DrawKey, DrawProof, SealedLog},
    digest::{BlobRef, Digest},
    entry::MAX_STATEMENT_BYTES,
    event::{
        Challenge, Commit, Deviation, Divergence, DivergentPart, End, Event, Exclusion, ExclusionReason,
        Finding, Join, Late, Leave, Obstacle, Opening, Outcome, Penalty, Revoke, Role, Rotate, RoundClose,
        RoundOpen, Seal, Seat, Verdict,
    },
    identity::{Keypair, MemberId},
};

/// Numbers of every length that CBOR has for them.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..30, 200u64..300, 65_500u64..65_600, any::<u32>().prop_map(u64::from), any::<u64>()]
}

fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest::from_bytes)
}

fn blob() -> impl Strategy<Value = BlobRef> {
    (digest(), number()).prop_map(|(digest, bytes)| BlobRef { digest, bytes })
}

fn member() -> impl Strategy<Value = MemberId> {
    any::<[u8; 32]>().prop_map(|seed| Keypair::from_seed(seed).id())
}

fn numbers() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(number(), 0..30)
}

fn finding() -> impl Strategy<Value = Finding> {
    use DivergentPart::{
        Codec, Contribution, Distance, Encoding, Feedback, Impossible, Malformed, Moments, Step, Summary,
        Withheld,
    };
    let what = prop::sample::select(vec![
        Step,
        Contribution,
        Feedback,
        Malformed,
        Withheld,
        Summary,
        Impossible,
        Codec,
        Encoding,
        Distance,
        Moments,
    ]);
    let optional = || prop::option::of(number());
    let divergence =
        (what, blob(), prop::option::of(any::<u32>()), optional(), optional(), prop::option::of(blob()))
            .prop_map(|(what, replayed, first_step, claimed_micronats, replayed_micronats, trace)| {
                Divergence { what, replayed, first_step, claimed_micronats, replayed_micronats, trace }
            });
    prop_oneof![
        Just(Finding::Pass),
        divergence.prop_map(Finding::Fail),
        Just(Finding::Inconclusive(Obstacle::InputsUnavailable)),
    ]
}

fn deviation() -> impl Strategy<Value = Deviation> {
    prop::array::uniform7(number()).prop_map(
        |[distance, angle, tensor_distance, tensor_angle, loss, gradient_norm, moments]| Deviation {
            distance,
            angle,
            tensor_distance,
            tensor_angle,
            loss,
            gradient_norm,
            moments,
        },
    )
}

fn commit() -> impl Strategy<Value = Commit> {
    let blobs = (blob(), blob(), prop::option::of(blob()), blob());
    let rest = ([number(), number(), number(), number()], prop::option::of(digest()));
    (number(), digest(), digest(), any::<u32>(), blobs, rest).prop_map(
        |(
            round,
            start_state,
            work,
            steps,
            (contribution, trace, feedback_in, feedback_out),
            (rest, moments),
        )| Commit {
            round,
            start_state,
            work,
            steps,
            contribution,
            trace,
            feedback_in,
            feedback_out,
            tokens: rest[0],
            loss_first_micronats: rest[1],
            loss_last_micronats: rest[2],
            train_ms: rest[3],
            moments,
        },
    )
}

/// A round, and the proof of somebody's draw.
fn proof() -> impl Strategy<Value = (u64, DrawProof)> {
    (number(), any::<[u8; 32]>()).prop_map(|(round, seed)| {
        let log = SealedLog { run: Digest::of(b"run"), round, size: round, root: seed };
        (round, DrawKey::of(&Keypair::from_seed(seed)).draw(&log))
    })
}

fn event() -> impl Strategy<Value = Event> {
    let role = prop::sample::select(vec![Role::Trainer, Role::Verifier]);
    let join = (role, number(), prop::option::of(digest()), prop::option::of(member()))
        .prop_map(|(role, seen, draw_key, recovery)| Event::Join(Join { role, seen, draw_key, recovery }));
    let leave = number().prop_map(|seen| Event::Leave(Leave { seen }));
    let seats = prop::collection::vec((member(), any::<u32>()), 0..5);
    let open = (number(), any::<u32>(), blob(), seats).prop_map(|(round, stage, start_state, seats)| {
        let seats = seats.into_iter().map(|(member, steps)| Seat { member, steps }).collect();
        Event::RoundOpen(RoundOpen { round, stage, start_state, seats })
    });
    let seal = (number(), numbers()).prop_map(|(round, commits)| Event::Seal(Seal { round, commits }));
    let challenge = proof().prop_map(|(round, proof)| Event::Challenge(Challenge { round, proof }));
    let verdict = (number(), number(), finding(), prop::option::of(deviation())).prop_map(
        |(round, commit, finding, deviation)| Event::Verdict(Verdict { round, commit, finding, deviation }),
    );
    let reason = prop_oneof![
        number().prop_map(ExclusionReason::FailedCheck),
        Just(ExclusionReason::NotRevealed),
        Just(ExclusionReason::Canary),
        Just(ExclusionReason::NotOpened),
    ];
    let exclusions = prop::collection::vec((number(), reason), 0..5);
    let close = (number(), numbers(), exclusions).prop_map(|(round, included, excluded)| {
        let excluded = excluded.into_iter().map(|(commit, reason)| Exclusion { commit, reason }).collect();
        Event::RoundClose(RoundClose { round, included, excluded })
    });
    let outcome = (number(), blob()).prop_map(|(round, state)| Event::Outcome(Outcome { round, state }));
    let penalty =
        (member(), number()).prop_map(|(member, verdict)| Event::Penalty(Penalty { member, verdict }));
    let end = (number(), blob()).prop_map(|(rounds, state)| Event::End(End { rounds, state }));
    let rotate =
        (member(), any::<[u8; 32]>(), prop::option::of(digest())).prop_map(|(old, seed, draw_key)| {
            Event::Rotate(Rotate::new(&Digest::of(b"run"), old, &Keypair::from_seed(seed), draw_key))
        });
    let revoke = member().prop_map(|member| Event::Revoke(Revoke { member }));
    let late =
        (commit(), blob()).prop_map(|(commit, restored)| Event::Late(Box::new(Late { commit, restored })));
    let opening = proof().prop_map(|(round, proof)| Event::Opening(Opening { round, proof }));
    prop_oneof![
        late,
        opening,
        join,
        leave,
        open,
        commit().prop_map(Event::Commit),
        seal,
        challenge,
        verdict,
        close,
        outcome,
        penalty,
        end,
        rotate,
        revoke
    ]
}

/// What somebody might make of an event's bytes.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let at = any::<prop::sample::Index>;
    let bytes = || event().prop_map(|event| canonical::to_bytes(&event));
    prop_oneof![
        4 => bytes(),
        4 => (bytes(), at(), any::<u8>()).prop_map(|(mut bytes, at, value)| {
            let at = at.index(bytes.len());
            bytes[at] = value;
            bytes
        }),
        // the small heads of CBOR, where most of the structure is
        4 => (bytes(), 0usize..8, any::<u8>()).prop_map(|(mut bytes, at, value)| {
            let at = at % bytes.len();
            bytes[at] = value;
            bytes
        }),
        1 => (bytes(), at()).prop_map(|(bytes, at)| bytes[..at.index(bytes.len())].to_vec()),
        1 => (bytes(), any::<u8>()).prop_map(|(mut bytes, value)| {
            bytes.push(value);
            bytes
        }),
        // the same number in more bytes than it needs
        2 => (bytes(), at()).prop_map(|(mut bytes, at)| {
            let at = at.index(bytes.len());
            if bytes[at] & 31 < 24 {
                let low = bytes[at] & 31;
                bytes[at] = bytes[at] & !31 | 24;
                bytes.insert(at + 1, low);
            }
            bytes
        }),
        // a number of 32 bits becomes one of 64
        2 => (bytes(), at()).prop_map(|(mut bytes, at)| {
            let heads: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] == 0x1a).collect();
            if !heads.is_empty() {
                let head = heads[at.index(heads.len())];
                bytes.splice(head..=head, [0x1b, 0, 0, 0, 1]);
            }
            bytes
        }),
        1 => prop::collection::vec(any::<u8>(), 0..60),
    ]
}

#[test]
fn two_readers_take_and_refuse_the_same_events() {
    let python = Command::new("python3").arg("--version").output();
    if !python.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: there is no python3 here for the second reader");
        return;
    }
    let mut runner = TestRunner::new(Config::default());
    let all: Vec<Vec<u8>> = (0..6_000).map(|_| damaged().new_tree(&mut runner).unwrap().current()).collect();
    let lines: String =
        all.iter().map(|bytes| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>() + "\n").collect();
    let mut reader = Command::new("python3")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/second_reader.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = reader.stdin.take().unwrap();
    let writing = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let output = reader.wait_with_output().unwrap();
    writing.join().unwrap().unwrap();
    assert!(output.status.success(), "the second reader failed");
    let told = String::from_utf8(output.stdout).unwrap();
    assert_eq!(told.lines().count(), all.len());
    let (mut taken, mut refused) = (0, 0);
    for (bytes, told) in all.iter().zip(told.lines()) {
        let ours = match canonical::from_bytes::<Event>("event", bytes, MAX_STATEMENT_BYTES) {
            Ok(event) => format!("yes {}", event.kind()),
            Err(error) => format!("no {error}"),
        };
        let manifest = told.ends_with("manifests are not read here");
        assert!(manifest || ours[..2] == told[..2], "{bytes:02x?}\nours: {ours}\nthe second: {told}");
        if ours.starts_with("yes") {
            assert_eq!(ours, told, "{bytes:02x?}");
            taken += 1;
        } else {
            refused += 1;
        }
    }
    assert!(taken > 1_000 && refused > 1_000, "{taken} taken, {refused} refused: too one-sided to tell");
}
