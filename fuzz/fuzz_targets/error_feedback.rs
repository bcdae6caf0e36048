//! An error-feedback buffer: any bytes as a whole blob, and any bytes as values behind a right header.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use talkoot_trainer::contribution::{ErrorFeedback, Layout};

const ELEMENTS: usize = 16;

static LAYOUT: LazyLock<Layout> =
    LazyLock::new(|| Layout::new(vec![("weight".to_owned(), ELEMENTS as u64)]).expect("the layout is valid"));

fn read(blob: &[u8]) {
    if let Ok(feedback) = ErrorFeedback::from_bytes(blob, &LAYOUT) {
        assert_eq!(feedback.to_bytes(), blob);
    }
}

fuzz_target!(|data: &[u8]| {
    read(data);
    let mut blob = ErrorFeedback::zero(&LAYOUT).to_bytes();
    for (to, from) in blob[ErrorFeedback::HEADER_BYTES..].iter_mut().zip(data) {
        *to = *from;
    }
    read(&blob);
});
