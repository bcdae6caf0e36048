//! A description of a weights file that is accepted has tensors that lie one behind another and fill the file; a list
//! of shards that is accepted stays in its folder.
#![no_main]

use libfuzzer_sys::fuzz_target;
use talkoot_trainer::huggingface::{Header, ShardIndex};

fuzz_target!(|data: &[u8]| {
    if let Some((first, rest)) = data.split_first_chunk::<8>()
        && let Ok(length) = Header::length(*first, data.len() as u64)
        && let Ok(header) = Header::parse(&rest[..length], data.len() as u64)
    {
        let mut places: Vec<_> = header.tensors.values().map(|place| (place.start, place.bytes)).collect();
        places.sort_unstable();
        let end = places.into_iter().fold(8 + length as u64, |end, (start, bytes)| {
            assert_eq!(start, end);
            end + bytes
        });
        assert_eq!(end, data.len() as u64);
    }
    if let Ok(index) = ShardIndex::parse(data) {
        assert!(index.files().into_iter().all(|file| !file.contains('/') && !file.starts_with('.')));
    }
});
