//! A checkpoint that is accepted has one spelling.
#![no_main]

use libfuzzer_sys::fuzz_target;
use talkoot_ledger::Checkpoint;

fuzz_target!(|text: &str| {
    if let Ok(checkpoint) = Checkpoint::parse(text) {
        assert_eq!(checkpoint.to_string(), text);
    }
});
