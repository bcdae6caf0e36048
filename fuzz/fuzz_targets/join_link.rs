//! A join link that is accepted is read again from what it is written as.
#![no_main]

use libfuzzer_sys::fuzz_target;
use talkoot_protocol::link::JoinLink;

fuzz_target!(|text: &str| {
    if let Ok(link) = text.parse::<JoinLink>() {
        assert_eq!(link.to_string().parse(), Ok(link));
    }
});
