//! A data set's index that is accepted has one spelling, and finds every pack that it counts.
#![no_main]

use libfuzzer_sys::fuzz_target;
use talkoot_dataset::PackIndex;

fuzz_target!(|data: &[u8]| {
    if let Ok(index) = PackIndex::from_bytes(data) {
        assert_eq!(index.to_bytes().as_deref(), Ok(data));
        assert!(index.locate(index.totals.packs).is_err());
        if let Some(last) = index.totals.packs.checked_sub(1) {
            assert!(index.locate(last).is_ok());
        }
    }
});
