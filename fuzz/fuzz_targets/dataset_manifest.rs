//! A data set's manifest that is accepted has one spelling, and finds every pack that it counts.
#![no_main]

use libfuzzer_sys::fuzz_target;
use talkoot_dataset::{DatasetManifest, manifest};

fuzz_target!(|data: &[u8]| {
    let Ok(read) = DatasetManifest::from_bytes(data) else { return };
    if read.publisher.is_none() {
        assert_eq!(manifest::to_bytes(&read.index, &read.making, None).as_deref(), Ok(data));
    }
    let index = read.index;
    assert!(index.locate(index.totals.packs).is_err());
    if let Some(last) = index.totals.packs.checked_sub(1) {
        assert!(index.locate(last).is_ok());
    }
});
