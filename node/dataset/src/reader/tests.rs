//! Shards that are exactly what their names say and still no good; damage on disk is tested where data are packed.

use talkoot_protocol::digest::BlobRef;

use super::*;
use crate::{
    index::{ShardEntry, Totals},
    manifest::{self, tests::making},
    shard::{PackBytes, ShardWriter, fragment, tests::sample},
};

/// Reads the only pack of a shard of `packs`, of which the index says that it holds one.
fn read(packs: &[PackBytes]) -> Result<PackedSequence, ReadError> {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = ShardWriter::create(dir.path().join("part")).unwrap();
    packs.iter().for_each(|pack| writer.add(pack).unwrap());
    let blob = writer.finish(dir.path()).unwrap().blob;
    let index = PackIndex {
        tokenizer: BlobRef::of(b"tokenizer"),
        vocab_size: 10,
        image_pad: 9,
        sequence_tokens: 8,
        min_pixels: 3136,
        max_pixels: 12_544,
        totals: Totals { packs: 1, ..Totals::default() },
        shards: vec![ShardEntry { blob, first_pack: 0, packs: 1 }],
        periods: Vec::new(),
    };
    let bytes = manifest::to_bytes(&index, &making(), None).unwrap();
    PackReader::in_folder(&bytes, dir.path()).unwrap().read(0)
}

fn pack(number: u64, tokens: Vec<u32>) -> PackBytes {
    let sample = sample(tokens, vec![(1, 2)], vec![]);
    PackBytes { number, fragments: vec![fragment(&sample).unwrap()], pictures: vec![] }
}

#[test]
fn a_sound_pack_is_read() {
    let read = read(&[pack(0, vec![1, 2, 3])]).unwrap();
    assert_eq!((read.tokens, read.labels), (vec![1, 2, 3], vec![-100, 2, 3]));
}

#[test]
fn a_badly_made_pack_names_shard_and_pack() {
    let error = read(&[pack(0, vec![1, 2, 30])]).unwrap_err();
    assert!(matches!(error, ReadError::BadPack { pack: 0, in_shard: 0, .. }), "{error}");
    assert!(error.to_string().contains("a token is 30, the limit is 9"), "{error}");
}

#[test]
fn a_shard_of_other_packs_is_refused() {
    let bad = |packs: &[PackBytes]| match read(packs).unwrap_err() {
        ReadError::BadShard { fault, .. } => fault.to_string(),
        other => panic!("{other}"),
    };
    let (zero, one) = (pack(0, vec![1, 2, 3]), pack(1, vec![1, 2, 3]));
    assert!(
        bad(std::slice::from_ref(&one)).contains("\"000000001.json\" stands where \"000000000.json\" must")
    );
    assert!(bad(&[zero, one]).contains("packs is 2, the limit is 1"));
    assert!(bad(&[]).contains("packs is 0, the limit is 1"));
}

#[test]
fn a_manifest_that_is_none_is_refused() {
    let error = PackReader::in_folder(b"manifest", Path::new(".")).unwrap_err();
    assert!(matches!(error, ReadError::Manifest(ManifestError::WrongMagic)), "{error}");
}
