//! A trace that is accepted has one spelling.
#![no_main]

use libfuzzer_sys::fuzz_target;
use talkoot_trainer::trace::{parse_trace, trace_bytes};

fuzz_target!(|data: &[u8]| {
    if let Ok(steps) = parse_trace(data) {
        assert_eq!(trace_bytes(&steps), data);
    }
});
