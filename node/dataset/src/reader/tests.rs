//! Shards that are exactly what their names say and still no good; damage on disk is tested where data are packed.

use talkoot_protocol::digest::BlobRef;

use super::*;
use crate::{
    index::{ShardEntry, Totals},
    shard::{Packed, encode_pack, encode_shard},
};

fn rules() -> PackRules {
    PackRules { tokenizer: Digest::of(b"tokenizer"), sequence_tokens: 8, vocab_size: 10, image_pad: 9 }
}

/// Reads the only pack of a shard made of `packs` by `made_for`, of which the index says that it holds one.
fn read(made_for: &PackRules, packs: &[Vec<u8>]) -> Result<PackedSequence, ReadError> {
    let dir = tempfile::tempdir().unwrap();
    let bytes = encode_shard(made_for, packs);
    let blob = BlobRef::of(&bytes);
    std::fs::write(dir.path().join(blob.digest.to_string()), &bytes).unwrap();
    let index = PackIndex {
        tokenizer: BlobRef { digest: rules().tokenizer, bytes: 9 },
        vocab_size: 10,
        image_pad: 9,
        sequence_tokens: 8,
        min_pixels: 3136,
        max_pixels: 12_544,
        totals: Totals { packs: 1, ..Totals::default() },
        shards: vec![ShardEntry { blob, packs: 1 }],
    };
    PackReader::in_folder(&index.to_bytes().unwrap(), dir.path()).unwrap().read(0)
}

fn pack() -> Packed {
    let learned = vec![false, true, true];
    Packed { tokens: vec![1, 2, 3], learned, sample_lengths: vec![3], pictures: vec![] }
}

#[test]
fn a_sound_pack_is_read() {
    let read = read(&rules(), &[encode_pack(&pack())]).unwrap();
    assert_eq!((read.tokens, read.labels), (vec![1, 2, 3], vec![-100, 2, 3]));
}

#[test]
fn a_badly_made_pack_names_shard_and_pack() {
    let bad = Packed { tokens: vec![1, 2, 30], ..pack() };
    let error = read(&rules(), &[encode_pack(&bad)]).unwrap_err();
    assert!(matches!(error, ReadError::BadPack { pack: 0, in_shard: 0, .. }), "{error}");
    assert!(error.to_string().contains("a token is 30, the limit is 9"), "{error}");
}

#[test]
fn a_shard_of_another_data_set_is_refused() {
    let good = encode_pack(&pack());
    let foreign = |made_for: PackRules, packs: &[Vec<u8>]| match read(&made_for, packs).unwrap_err() {
        ReadError::Foreign { what, .. } => what,
        other => panic!("{other}"),
    };
    let one = std::slice::from_ref(&good);
    assert_eq!(foreign(PackRules { tokenizer: Digest::of(b"other"), ..rules() }, one), "the tokenizer");
    assert_eq!(foreign(PackRules { sequence_tokens: 9, ..rules() }, one), "the sequence length");
    assert_eq!(foreign(PackRules { vocab_size: 11, ..rules() }, one), "the vocabulary");
    assert_eq!(foreign(rules(), &[good.clone(), good]), "the number of packs");
}

#[test]
fn an_index_that_is_none_is_refused() {
    let error = PackReader::in_folder(b"index", Path::new(".")).unwrap_err();
    assert!(matches!(error, ReadError::Index(IndexError::WrongMagic)), "{error}");
}
