//! A bundle that is accepted accounts for every byte. The first byte of the input says how many entries there should be.
#![no_main]

use libfuzzer_sys::fuzz_target;
use talkoot_ledger::tile::{decode_bundle, encode_bundle};

fuzz_target!(|data: &[u8]| {
    let Some((width, bundle)) = data.split_first() else { return };
    if let Ok(entries) = decode_bundle(bundle, u16::from(*width) + 1) {
        assert_eq!(encode_bundle(&entries).as_deref(), Ok(bundle));
    }
});
