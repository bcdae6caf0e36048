//! A tile's path that is accepted has one spelling.
#![no_main]

use libfuzzer_sys::fuzz_target;
use talkoot_ledger::tile::TilePath;

fuzz_target!(|text: &str| {
    if let Ok(path) = text.parse::<TilePath>() {
        assert_eq!(path.to_string(), text);
    }
});
