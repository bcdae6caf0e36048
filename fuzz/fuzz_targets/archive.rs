//! A WebDataset archive: any bytes, walked by their headers.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use talkoot_ingest::tar::Walk;

fuzz_target!(|data: &[u8]| {
    let mut walk = Walk::new(Cursor::new(data), data.len() as u64);
    while let Ok(Some(member)) = walk.next_member().expect("memory can be read") {
        assert!(member.offset + member.bytes <= data.len() as u64);
    }
});
