use proptest::prelude::*;

use super::*;
use crate::preprocess::Rgb;

const RULES: PackRules =
    PackRules { tokenizer: Digest::from_bytes([7; 32]), sequence_tokens: 64, vocab_size: 100, image_pad: 99 };

fn picture() -> Rgb {
    Rgb { width: 56, height: 28, rgb: (0..56 * 28 * 3).map(|i| (i * 7 % 256) as u8).collect() }
}

fn pack() -> Packed {
    let stored = Picture { width: 56, height: 28, png: picture().to_png().unwrap() };
    let tokens = vec![1, 99, 99, 2, 3, 4, 99, 99, 5, 6, 7];
    let learned = (0..11).map(|at| at == 3 || at > 7).collect();
    Packed { tokens, learned, sample_lengths: vec![4, 7], pictures: vec![stored.clone(), stored] }
}

fn refused(change: impl Fn(&mut Packed)) -> ShardFault {
    let mut bad = pack();
    change(&mut bad);
    decode_pack(&encode_pack(&bad), &RULES).unwrap_err()
}

#[test]
fn a_pack_round_trips() {
    let read = decode_pack(&encode_pack(&pack()), &RULES).unwrap();
    assert_eq!(read.tokens, pack().tokens);
    assert_eq!(read.labels, [-100, -100, -100, 2, -100, -100, -100, -100, 5, 6, 7]);
    assert_eq!(read.sample_lengths, [4, 7]);
    assert_eq!(read.images, [picture(), picture()]);
}

#[test]
fn a_shard_round_trips() {
    let packs = vec![encode_pack(&pack()), encode_pack(&pack())];
    let bytes = encode_shard(&RULES, &packs);
    let lengths: Vec<u32> = packs.iter().map(|pack| pack.len() as u32).collect();
    assert_eq!(bytes.len() as u64, shard_bytes(&lengths));
    let (rules, count) = decode_head(&bytes).unwrap();
    assert_eq!((rules, count), (RULES, 2));
    let starts = decode_table(&bytes[HEAD_BYTES..], count, bytes.len() as u64).unwrap();
    assert_eq!(bytes[starts[1] as usize..starts[2] as usize], packs[1]);
}

#[test]
fn each_fault_is_named() {
    let out_of_bounds = |fault: ShardFault| match fault {
        ShardFault::OutOfBounds { what, got, limit } => (what, got, limit),
        other => panic!("{other:?}"),
    };
    assert_eq!(out_of_bounds(refused(|p| p.tokens[0] = 100)), ("a token", 100, 99));
    assert_eq!(out_of_bounds(refused(|p| p.sample_lengths[1] = 8)), ("sum of sample lengths", 12, 11));
    assert_eq!(out_of_bounds(refused(|p| p.sample_lengths = vec![0, 11])), ("length of a sample", 0, 11));
    assert_eq!(out_of_bounds(refused(|p| p.sample_lengths.clear())), ("samples of a pack", 0, 11));
    assert_eq!(out_of_bounds(refused(|p| p.tokens[1] = 1)), ("language tokens of the pictures", 4, 3));
    assert_eq!(out_of_bounds(refused(|p| p.pictures[0].width = 57)), ("side of a picture, modulo 28", 1, 0));
    assert_eq!(
        out_of_bounds(refused(|p| {
            p.tokens = vec![1; 65];
            p.learned = vec![false; 65];
        })),
        ("tokens of a pack", 65, 64)
    );
    assert_eq!(refused(|p| p.learned[4] = true), ShardFault::LearnedStart { sample: 1 });
    assert!(matches!(refused(|p| p.pictures[1].png[0] = 0), ShardFault::Picture { picture: 1, .. }));
    // Sides swapped: the same number of tokens, another picture.
    let swapped = refused(|p| (p.pictures[0].width, p.pictures[0].height) = (28, 56));
    assert!(swapped.to_string().contains("56x28 pixels, its entry says 28x56"), "{swapped}");

    let mut bytes = encode_pack(&pack());
    bytes.push(0);
    assert!(matches!(decode_pack(&bytes, &RULES), Err(ShardFault::WrongLength { what: "pictures", .. })));
    let mut bytes = encode_pack(&pack());
    bytes[12 + 44 + 1] |= 0x80;
    assert_eq!(decode_pack(&bytes, &RULES), Err(ShardFault::NotZero { what: "bits after the last token" }));
}

#[test]
fn a_bad_head_is_refused_for_its_reason() {
    let good = encode_shard(&RULES, &[encode_pack(&pack())]);
    let refused = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        decode_head(&bytes).unwrap_err()
    };
    assert_eq!(refused(7, 2), ShardFault::WrongMagic);
    assert!(matches!(refused(11, 1), ShardFault::OutOfBounds { what: "packs", .. }));
    assert!(matches!(refused(15, 1), ShardFault::OutOfBounds { what: "sequence_tokens", .. }));
    assert!(matches!(refused(20, 100), ShardFault::OutOfBounds { what: "image_pad", .. }));
    assert!(matches!(refused(24, 1), ShardFault::NotZero { .. }));
    assert!(matches!(decode_head(&good[..40]), Err(ShardFault::WrongLength { what: "head", .. })));
    let fault = decode_table(&good[HEAD_BYTES..], 1, good.len() as u64 - 1).unwrap_err();
    assert!(matches!(fault, ShardFault::WrongLength { what: "head, table and packs", .. }));
    let fault = decode_table(&[0; 8], MAX_PACKS, 8).unwrap_err();
    assert!(matches!(fault, ShardFault::WrongLength { what: "table", .. }));
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), packs in any::<u32>()) {
        let _ = decode_head(&bytes);
        let _ = decode_table(&bytes, packs, bytes.len() as u64);
        let _ = decode_pack(&bytes, &RULES);
    }

    #[test]
    fn cut_packs_are_refused(cut in 0usize..10_000) {
        let bytes = encode_pack(&pack());
        let cut = cut % bytes.len();
        let fault = decode_pack(&bytes[..cut], &RULES).unwrap_err();
        prop_assert!(matches!(fault, ShardFault::WrongLength { .. }), "{:?}", fault);
    }

    #[test]
    fn changed_packs_never_panic_and_keep_their_bounds(at in 0usize..10_000, value in any::<u8>()) {
        let mut bytes = encode_pack(&pack());
        let at = at % bytes.len();
        bytes[at] = value;
        if let Ok(read) = decode_pack(&bytes, &RULES) {
            prop_assert!(read.tokens.len() <= 64 && read.tokens.len() == read.labels.len());
            prop_assert!(read.tokens.iter().all(|&token| token < 100));
            let total: u32 = read.sample_lengths.iter().sum();
            prop_assert_eq!(total as usize, read.tokens.len());
            let places: usize = read.images.iter().map(Rgb::llm_tokens).sum();
            prop_assert_eq!(places, read.tokens.iter().filter(|&&token| token == 99).count());
        }
    }

    #[test]
    fn packs_of_any_shape_round_trip(lengths in prop::collection::vec(1u32..9, 1..8), seed in any::<u64>()) {
        let total: u32 = lengths.iter().sum();
        let bit = |at: u32| seed.rotate_left(at) & 1 == 1;
        let mut starts = vec![];
        lengths.iter().fold(0, |at, length| { starts.push(at); at + length });
        let learned: Vec<bool> = (0..total).map(|at| bit(at) && !starts.contains(&at)).collect();
        let tokens: Vec<u32> = (0..total).map(|at| at % 99).collect();
        let pack = Packed { tokens, learned, sample_lengths: lengths, pictures: vec![] };
        let read = decode_pack(&encode_pack(&pack), &RULES).unwrap();
        let marks: Vec<bool> = read.labels.iter().map(|&label| label >= 0).collect();
        prop_assert_eq!(marks, pack.learned);
        prop_assert_eq!(read.tokens, pack.tokens);
    }
}
