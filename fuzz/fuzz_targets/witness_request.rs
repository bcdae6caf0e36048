//! A request to a witness that is accepted has one spelling; and so has what a witness answers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use talkoot_ledger::{AddCheckpoint, note::NoteSignature};

fuzz_target!(|data: &[u8]| {
    if let Ok(request) = AddCheckpoint::parse(data) {
        assert_eq!(request.to_string().as_bytes(), data);
    }
    if let Ok(lines) = NoteSignature::parse_all(data) {
        let spelled: String = lines.iter().map(|line| format!("{line}\n")).collect();
        assert_eq!(spelled.as_bytes(), data);
    }
});
