//! A contribution: any bytes as a whole blob, and any bytes as the one segment behind a right header.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use talkoot_trainer::contribution::{
    CodecSettings, Contribution, ErrorFeedback, Header, Layout, Origin, encode,
};

/// Three chunks, one of them full: one segment.
static LAYOUT: LazyLock<Layout> = LazyLock::new(|| {
    Layout::new(vec![("bias".to_owned(), 64), ("weight".to_owned(), 5_000)]).expect("the layout is valid")
});

static HEADER: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let origin = Origin { round: 3, member: [7; 32], steps: 30, tokens: 4_096 };
    let (bias, weight) = (vec![0.0; 64], vec![0.0; 5_000]);
    let mut feedback = ErrorFeedback::zero(&LAYOUT);
    let blob = encode(&CodecSettings::default(), &LAYOUT, &origin, &[&bias, &weight], &mut feedback);
    blob.expect("zeros can be encoded")[..Header::BYTES].to_vec()
});

fn read(blob: &[u8]) {
    if let Ok(contribution) = Contribution::open(blob, &CodecSettings::default(), &LAYOUT) {
        let _ = contribution.visit(|chunk| {
            assert!(chunk.positions.is_sorted());
            assert!(chunk.values.iter().all(|value| value.is_finite()));
        });
    }
}

fuzz_target!(|data: &[u8]| {
    read(data);
    let Ok(length) = u32::try_from(data.len()) else { return };
    read(&[HEADER.as_slice(), &length.to_le_bytes(), data].concat());
});
