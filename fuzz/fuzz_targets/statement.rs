//! A statement that is accepted has one spelling; opening it checks event and signature and never panics.
#![no_main]

use libfuzzer_sys::fuzz_target;
use talkoot_protocol::entry::Statement;

fuzz_target!(|data: &[u8]| {
    if let Ok(statement) = Statement::from_bytes(data) {
        assert_eq!(statement.to_bytes(), data);
        let _ = statement.open(&statement.run);
    }
});
