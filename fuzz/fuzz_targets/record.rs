//! A record: any bytes as JSON, in any of the known layouts.
#![no_main]

use libfuzzer_sys::fuzz_target;
use talkoot_dataset::ingest::Record;

fuzz_target!(|data: &[u8]| {
    let Ok(value) = serde_json::from_slice(data) else { return };
    let Ok(mut record) = Record::parse(value) else { return };
    let pictures = record.pictures.len();
    record.place(pictures);
    let _ = record.check(pictures);
});
