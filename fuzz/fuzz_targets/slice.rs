//! Slices of blobs as they come from a peer.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| talkoot_network::fuzzing::slice(data));
