//! An entry of the ledger that is accepted has one spelling.
#![no_main]

use libfuzzer_sys::fuzz_target;
use talkoot_protocol::entry::Entry;

fuzz_target!(|data: &[u8]| {
    if let Ok(read) = Entry::from_bytes(data) {
        assert_eq!(read.to_bytes(), data);
    }
});
