//! An announcement that is accepted is written back as the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use talkoot_protocol::announcement::Announcement;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(announcement) = Announcement::from_bytes(bytes) {
        assert_eq!(announcement.to_bytes(), bytes);
    }
});
