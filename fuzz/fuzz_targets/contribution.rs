//! A contribution: any bytes as a whole blob, and any bytes as the one segment behind a right header; the same with second
//! moments after it.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use talkoot_trainer::{
    contribution::{CodecSettings, Contribution, ErrorFeedback, Header, Layout, Origin, encode_with},
    moments::{Factors, MatrixShape},
};

/// Three chunks, one of them full: one segment.
static LAYOUT: LazyLock<Layout> = LazyLock::new(|| {
    Layout::new(vec![("bias".to_owned(), 64), ("weight".to_owned(), 5_000)]).expect("the layout is valid")
});

const SHAPES: [MatrixShape; 2] =
    [MatrixShape { rows: 1, columns: 64 }, MatrixShape { rows: 50, columns: 100 }];

fn header(factors: Option<&Factors>) -> Vec<u8> {
    let origin = Origin { round: 3, member: [7; 32], steps: 30, tokens: 4_096 };
    let (bias, weight) = (vec![0.0; 64], vec![0.0; 5_000]);
    let mut feedback = ErrorFeedback::zero(&LAYOUT);
    let settings = CodecSettings::default();
    let blob = encode_with(&settings, &LAYOUT, &origin, &[&bias, &weight], factors, &mut feedback);
    blob.expect("zeros can be encoded")[..Header::BYTES].to_vec()
}

static PLAIN: LazyLock<Vec<u8>> = LazyLock::new(|| header(None));
static WITH_FACTORS: LazyLock<Vec<u8>> = LazyLock::new(|| header(Some(&Factors::default())));

fn read(blob: &[u8]) {
    let Ok(contribution) = Contribution::open(blob, &CodecSettings::default(), &LAYOUT) else { return };
    let _ = contribution.visit(|chunk| {
        assert!(chunk.positions.is_sorted());
        assert!(chunk.values.iter().all(|value| value.is_finite()));
    });
    if let Some(bytes) = contribution.factors()
        && let Ok(factors) = Factors::from_bytes(bytes, &SHAPES)
    {
        assert_eq!(factors.to_bytes(), bytes);
    }
}

fuzz_target!(|data: &[u8]| {
    read(data);
    let Ok(length) = u32::try_from(data.len()) else { return };
    read(&[PLAIN.as_slice(), &length.to_le_bytes(), data].concat());
    // an empty chunk is two clear bytes: three of them, then the moments
    let empty = [0u8; 6];
    let lengths = [6u32.to_le_bytes(), length.to_le_bytes()].concat();
    read(&[WITH_FACTORS.as_slice(), &lengths, &empty, data].concat());
});
