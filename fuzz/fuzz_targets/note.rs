//! A signed note that is accepted is written back as it was read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use talkoot_ledger::Note;

fuzz_target!(|data: &[u8]| {
    if let Ok(note) = Note::parse(data) {
        assert_eq!(note.to_string().as_bytes(), data);
    }
});
