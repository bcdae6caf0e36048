//! A picture: any bytes, by their head and as a whole.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use talkoot_dataset::preprocess::{
    DecodeLimits,
    decode::{decode_bytes, head_size},
};

fuzz_target!(|data: &[u8]| {
    let limits = DecodeLimits { side_pixels: 2_048, area_pixels: 1 << 20, file_bytes: 1 << 20 };
    let name = Path::new("fuzzed");
    if let Ok((width, height)) = head_size(data, name, &limits) {
        assert!(width.max(height) <= limits.side_pixels);
    }
    if let Ok(picture) = decode_bytes(data, name, &limits) {
        assert_eq!(picture.rgb.len() as u64, u64::from(picture.width) * u64::from(picture.height) * 3);
    }
});
