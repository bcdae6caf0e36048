//! A trace that is accepted has one spelling.
#![no_main]

use libfuzzer_sys::fuzz_target;
use talkoot_trainer::trace::Trace;

fuzz_target!(|data: &[u8]| {
    if let Ok(trace) = Trace::parse(data) {
        assert_eq!(trace.to_bytes(), data);
        assert_eq!(trace.parting(&trace), None);
    }
});
