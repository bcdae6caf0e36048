//! A manifest that is accepted has one spelling, and so one run id.
#![no_main]

use libfuzzer_sys::fuzz_target;
use talkoot_protocol::manifest::Manifest;

fuzz_target!(|data: &[u8]| {
    if let Ok(read) = Manifest::from_bytes(data) {
        assert_eq!(read.to_bytes(), data);
    }
});
