//! A request that is accepted has one spelling.
#![no_main]

use libfuzzer_sys::fuzz_target;
use talkoot_protocol::message::Request;

fuzz_target!(|data: &[u8]| {
    if let Ok(read) = Request::from_bytes(data) {
        assert_eq!(read.to_bytes(), data);
    }
});
