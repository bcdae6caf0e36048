//! A response that is accepted has one spelling.
#![no_main]

use libfuzzer_sys::fuzz_target;
use talkoot_protocol::message::Response;

fuzz_target!(|data: &[u8]| {
    if let Ok(read) = Response::from_bytes(data) {
        assert_eq!(read.to_bytes(), data);
    }
});
