//! A receipt that is accepted has one spelling.
#![no_main]

use libfuzzer_sys::fuzz_target;
use talkoot_ledger::Receipt;

fuzz_target!(|data: &[u8]| {
    if let Ok(receipt) = Receipt::parse(data) {
        assert_eq!(receipt.to_string().as_bytes(), data);
    }
});
