use std::io::Cursor;

use proptest::prelude::*;

use super::*;
use crate::{
    preprocess::{PreprocessOptions, Rgb},
    sample::{Origin, SampleId},
    sequence::PackedSequence,
};

const RULES: PackRules = PackRules {
    sequence_tokens: 64,
    vocab_size: 100,
    image_pad: 99,
    preprocess: PreprocessOptions {
        min_pixels: 784,
        max_pixels: 12_544,
        limits: crate::preprocess::DecodeLimits {
            side_pixels: 4_096,
            area_pixels: 1 << 20,
            file_bytes: 1 << 20,
        },
    },
};

pub(crate) fn sample(
    tokens: Vec<u32>,
    learned: Vec<(u32, u32)>,
    pictures: Vec<StoredPicture>,
) -> PackedSample {
    let origin = Origin {
        source: "drawn".into(),
        file: "a.json".into(),
        record: 7,
        id: Some("seven".into()),
        licence: Some("CC0-1.0".into()),
    };
    PackedSample { id: SampleId::from_bytes([7; 16]), origin, pictures, learned, tokens }
}

/// 56 x 28 pixels: two tokens.
fn picture() -> Rgb {
    Rgb { width: 56, height: 28, rgb: (0..56 * 28 * 3).map(|i| (i * 7 % 256) as u8).collect() }
}

fn stored() -> StoredPicture {
    StoredPicture { format: PictureFormat::Png, width: 56, height: 28, tokens: 2 }
}

fn samples() -> Vec<PackedSample> {
    vec![
        sample(vec![1, 99, 99, 2], vec![(3, 1)], vec![stored()]),
        sample(vec![3, 4, 99, 99, 5, 6, 7], vec![(1, 1), (4, 3)], vec![stored()]),
    ]
}

fn pack(number: u64, samples: &[PackedSample], picture: &[u8]) -> PackBytes {
    PackBytes {
        number,
        fragments: samples.iter().map(|sample| fragment(sample).unwrap()).collect(),
        pictures: samples.iter().flat_map(|s| &s.pictures).map(|p| (*p, picture.to_vec())).collect(),
    }
}

fn shard(packs: &[PackBytes]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = ShardWriter::create(dir.path().join("part")).unwrap();
    packs.iter().for_each(|pack| writer.add(pack).unwrap());
    let written = writer.finish(dir.path()).unwrap();
    std::fs::read(dir.path().join(written.blob.digest.to_string())).unwrap()
}

fn good(number: u64) -> PackBytes {
    pack(number, &samples(), &picture().to_png().unwrap())
}

/// The members of one pack.
fn members(pack: &PackBytes) -> Vec<u8> {
    let mut bytes = shard(std::slice::from_ref(pack));
    bytes.truncate(bytes.len() - 1024);
    bytes
}

fn read(bytes: &[u8], number: u64) -> Result<PackedSequence, ShardFault> {
    PackParts::parse(bytes, number, &RULES)?.decode(&RULES)
}

fn refused(change: impl Fn(&mut Vec<PackedSample>)) -> ShardFault {
    let mut samples = samples();
    change(&mut samples);
    read(&members(&pack(5, &samples, &picture().to_png().unwrap())), 5).unwrap_err()
}

#[test]
fn a_pack_round_trips() {
    let read = read(&members(&good(41)), 41).unwrap();
    assert_eq!(read.tokens, [1, 99, 99, 2, 3, 4, 99, 99, 5, 6, 7]);
    assert_eq!(read.labels, [-100, -100, -100, 2, -100, 4, -100, -100, 5, 6, 7]);
    assert_eq!(read.sample_lengths, [4, 7]);
    assert_eq!(read.images, [picture(), picture()]);
}

#[test]
fn labels_become_stretches_and_labels_again() {
    let labels = [-100, 5, 6, -100, -100, 7];
    assert_eq!(PackedSample::learned_of(&labels), [(1, 2), (5, 1)]);
    assert_eq!(PackedSample::learned_of(&[-100]), []);
}

#[test]
fn a_shard_is_walked_and_its_bytes_are_always_the_same() {
    let packs = [good(41), good(42)];
    let bytes = shard(&packs);
    assert_eq!(bytes, shard(&packs));
    let starts = walk(&mut Cursor::new(&bytes), bytes.len() as u64, 41, 2).unwrap().unwrap();
    assert_eq!(starts.len(), 3);
    assert_eq!(read(&bytes[starts[1] as usize..starts[2] as usize], 42), read(&members(&good(42)), 42));
    let most = pack_bytes_at_most(
        packs[0]
            .fragments
            .iter()
            .map(|fragment| sample_bytes(fragment.len() as u64, [picture().to_png().unwrap().len() as u64]))
            .sum(),
    );
    assert!(starts[1] - starts[0] <= most && most - (starts[1] - starts[0]) < 1_536, "{most} {starts:?}");
}

#[test]
fn other_tools_read_it() {
    let bytes = shard(&[good(41), good(42)]);
    let mut archive = tar::Archive::new(&bytes[..]);
    let names: Vec<String> = archive
        .entries()
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            assert_eq!((entry.header().mtime().unwrap(), entry.header().uid().unwrap()), (0, 0));
            entry.path().unwrap().display().to_string()
        })
        .collect();
    let of = |pack| [format!("{pack}.json"), format!("{pack}.img0.png"), format!("{pack}.img1.png")];
    assert_eq!(names, [of("000000041"), of("000000042")].concat());
}

#[test]
fn each_fault_is_named() {
    let out_of_bounds = |fault: ShardFault| match fault {
        ShardFault::OutOfBounds { what, got, limit } => (what, got, limit),
        other => panic!("{other:?}"),
    };
    assert_eq!(out_of_bounds(refused(|s| s[0].tokens[0] = 100)), ("a token", 100, 99));
    assert_eq!(out_of_bounds(refused(|s| s[0].pictures[0].tokens = 3)), ("tokens of a picture", 3, 2));
    assert_eq!(
        out_of_bounds(refused(|s| s[0].tokens[1] = 1)),
        ("language tokens of a sample's pictures", 2, 1)
    );
    assert_eq!(out_of_bounds(refused(|s| s[1].tokens.extend([1; 60]))), ("tokens of a pack", 71, 64));
    assert_eq!(
        out_of_bounds(refused(|s| s[0].pictures[0].width = 5_000)),
        ("side of a picture", 5_000, 4_096)
    );
    assert_eq!(out_of_bounds(refused(Vec::clear)), ("samples of a pack", 0, 1));
    for learned in [(0, 1), (1, 0), (6, 2), (u32::MAX, u32::MAX)] {
        let fault = refused(|s| s[1].learned = vec![learned]);
        assert!(matches!(fault, ShardFault::Learned { sample: 1, .. }), "{fault:?}");
    }
    let fault = refused(|s| s[1].learned = vec![(4, 2), (5, 1)]);
    assert!(matches!(fault, ShardFault::Learned { start: 5, .. }), "{fault:?}");
    // Another picture than announced, as large and of another size.
    let fault = refused(|s| (s[0].pictures[0].width, s[0].pictures[0].height) = (28, 56));
    assert!(matches!(&fault, ShardFault::Picture { picture: 0, .. }), "{fault:?}");
    let fault = read(&members(&pack(5, &samples(), b"\x89PNG\r\n\x1a\nnothing")), 5).unwrap_err();
    assert!(matches!(&fault, ShardFault::Picture { picture: 0, .. }), "{fault:?}");
    let fault = read(&members(&good(5)), 6).unwrap_err();
    assert!(matches!(&fault, ShardFault::WrongMember { got, .. } if got == "000000005.json"), "{fault:?}");
}

#[test]
fn nothing_hides_between_the_members() {
    let good = shard(&[good(0)]);
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        let length = bytes.len() as u64;
        match walk(&mut Cursor::new(&bytes), length, 0, 1).unwrap() {
            Err(fault) => fault,
            Ok(starts) => {
                PackParts::parse(&bytes[starts[0] as usize..starts[1] as usize], 0, &RULES).unwrap_err()
            }
        }
    };
    // Owner, time, a byte of a header that nobody uses.
    for at in [108, 136, 345, 500] {
        assert!(matches!(refused(&|b| b[at] ^= 1), ShardFault::Header { offset: 0, .. }), "{at}");
    }
    let json = member::read_header(good[..512].first_chunk().unwrap(), 0).unwrap().1 as usize;
    assert!(matches!(refused(&|b| b[512 + json] = 1), ShardFault::Header { .. }), "padding");
    assert!(matches!(refused(&|b| b.extend([0; 512])), ShardFault::Header { .. }), "more after the end");
    assert!(matches!(refused(&|b| b.truncate(b.len() - 1)), ShardFault::WrongLength { .. }));
    let last = good.len() - 1;
    assert!(matches!(refused(&|b| b[last] = 1), ShardFault::Header { .. }), "the end");
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..3_000), packs in any::<u32>()) {
        let _ = walk(&mut Cursor::new(&bytes), bytes.len() as u64, 0, packs).unwrap();
        let _ = read(&bytes, 0);
    }

    #[test]
    fn cut_packs_are_refused(cut in any::<prop::sample::Index>()) {
        let bytes = members(&good(3));
        let cut = cut.index(bytes.len());
        let fault = read(&bytes[..cut], 3).unwrap_err();
        prop_assert!(matches!(fault, ShardFault::WrongLength { .. }), "{:?}", fault);
    }

    #[test]
    fn changed_packs_never_panic_and_keep_their_bounds(at in any::<prop::sample::Index>(), value in any::<u8>()) {
        let mut bytes = shard(&[good(3)]);
        let at = at.index(bytes.len());
        bytes[at] = value;
        let _ = walk(&mut Cursor::new(&bytes), bytes.len() as u64, 3, 1).unwrap();
        if let Ok(read) = read(&bytes[..bytes.len() - 1024], 3) {
            prop_assert!(read.tokens.len() <= 64 && read.tokens.len() == read.labels.len());
            prop_assert!(read.tokens.iter().all(|&token| token < 100));
            let total: u32 = read.sample_lengths.iter().sum();
            prop_assert_eq!(total as usize, read.tokens.len());
            let places: usize = read.images.iter().map(Rgb::llm_tokens).sum();
            prop_assert_eq!(places, read.tokens.iter().filter(|&&token| token == 99).count());
        }
    }

    #[test]
    fn packs_of_any_shape_round_trip(
        shapes in prop::collection::vec((1u32..9, any::<u64>()), 1..7),
        number in 0u64..2_000_000_000_000,
    ) {
        let samples: Vec<PackedSample> = shapes
            .iter()
            .map(|&(length, seed)| {
                let labels: Vec<i64> =
                    (0..length).map(|at| if at > 0 && seed >> at & 1 == 1 { 5 } else { -100 }).collect();
                sample((0..length).collect(), PackedSample::learned_of(&labels), vec![])
            })
            .collect();
        let bytes = shard(&[pack(number, &samples, &[])]);
        let starts = walk(&mut Cursor::new(&bytes), bytes.len() as u64, number, 1).unwrap().unwrap();
        let parts = PackParts::parse(&bytes[..starts[1] as usize], number, &RULES).unwrap();
        prop_assert_eq!(parts.samples, samples);
    }
}
