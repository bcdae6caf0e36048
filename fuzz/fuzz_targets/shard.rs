//! A shard: any bytes as a whole file, and any bytes as the members of one pack.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use talkoot_dataset::{
    PreprocessOptions,
    preprocess::DecodeLimits,
    shard::{PackParts, PackRules, walk},
};

const RULES: PackRules = PackRules {
    sequence_tokens: 4_096,
    vocab_size: 512,
    image_pad: 5,
    preprocess: PreprocessOptions {
        min_pixels: 3_136,
        max_pixels: 100_352,
        limits: DecodeLimits { side_pixels: 2_048, area_pixels: 1 << 20, file_bytes: 1 << 20 },
    },
};

fn read(members: &[u8], pack: u64) {
    let Ok(parts) = PackParts::parse(members, pack, &RULES) else { return };
    let Ok(sequence) = parts.decode(&RULES) else { return };
    assert_eq!(sequence.tokens.len(), sequence.labels.len());
    assert!(sequence.tokens.iter().all(|token| *token < RULES.vocab_size));
    assert!(sequence.images.iter().all(|image| image.rgb.len() as u64 == u64::from(image.width) * u64::from(image.height) * 3));
}

fuzz_target!(|data: &[u8]| {
    for packs in [1, 2] {
        let walked = walk(&mut Cursor::new(data), data.len() as u64, 0, packs).expect("memory can be read");
        let Ok(starts) = walked else { continue };
        assert_eq!(starts.len(), packs as usize + 1);
        for (pack, ends) in starts.windows(2).enumerate() {
            read(&data[ends[0] as usize..ends[1] as usize], pack as u64);
        }
    }
    read(data, 0);
});
