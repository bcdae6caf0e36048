//! A shard: any bytes as a whole file, and any bytes as one pack.
#![no_main]

use libfuzzer_sys::fuzz_target;
use talkoot_dataset::shard::{HEAD_BYTES, PackRules, decode_head, decode_pack, decode_table};
use talkoot_protocol::digest::Digest;

fn whole(shard: &[u8]) {
    let Ok((rules, packs)) = decode_head(shard) else { return };
    let Some(table) = shard.get(HEAD_BYTES..) else { return };
    let Ok(starts) = decode_table(table, packs, shard.len() as u64) else { return };
    for (start, end) in starts.iter().zip(&starts[1..]) {
        let _ = decode_pack(&shard[*start as usize..*end as usize], &rules);
    }
}

fuzz_target!(|data: &[u8]| {
    whole(data);
    let rules = PackRules {
        tokenizer: Digest::of(b"tokenizer"),
        sequence_tokens: 4_096,
        vocab_size: 512,
        image_pad: 5,
    };
    if let Ok(pack) = decode_pack(data, &rules) {
        assert_eq!(pack.tokens.len(), pack.labels.len());
        assert!(pack.tokens.iter().all(|token| *token < rules.vocab_size));
    }
});
