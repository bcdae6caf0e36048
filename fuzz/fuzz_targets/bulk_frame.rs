//! Frames of the bulk plane.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| talkoot_network::fuzzing::bulk_frame(body));
