//! The codec as a whole: what goes in comes out, damage is refused for its reason, bytes are the same everywhere.

use proptest::prelude::*;

use super::*;

const ORIGIN: Origin = Origin { round: 5, member: [9; 32], steps: 30, tokens: 65_536 };

fn layout(lengths: &[usize]) -> Layout {
    Layout::new(lengths.iter().enumerate().map(|(i, &n)| (format!("t{i:03}"), n as u64)).collect()).unwrap()
}

/// Pseudo-random values of both signs, some zero, some large.
fn values(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / 16_777_216.0 - 0.5
    };
    (0..count).map(|_| next() * next() * next()).collect()
}

fn delta(seed: u64, layout: &Layout) -> Vec<Vec<f32>> {
    layout.tensors().iter().zip(seed..).map(|((_, n), seed)| values(seed, *n as usize)).collect()
}

fn slices(tensors: &[Vec<f32>]) -> Vec<&[f32]> {
    tensors.iter().map(Vec::as_slice).collect()
}

fn blob(settings: &CodecSettings, layout: &Layout, seed: u64) -> Vec<u8> {
    let delta = delta(seed, layout);
    encode(settings, layout, &ORIGIN, &slices(&delta), &mut ErrorFeedback::zero(layout)).unwrap()
}

fn small(bits: u8) -> CodecSettings {
    CodecSettings { chunk: 64, k: 5, bits, error_feedback: 0.95 }
}

/// Settings and lengths of many kinds: dense and sparse, short tensors, last chunks of any length.
fn any_shape() -> impl Strategy<Value = (CodecSettings, Layout)> {
    let settings = (16u32..300, 0.0f64..1.0, prop::sample::select(vec![1u8, 2, 4, 8]), 0.0f32..=1.0)
        .prop_map(|(chunk, density, bits, error_feedback)| {
            let k = (f64::from(chunk) * density * density) as u32 + 1;
            CodecSettings { chunk, k: k.min(chunk), bits, error_feedback }
        });
    (settings, prop::collection::vec(1usize..700, 0..5).prop_map(|lengths| layout(&lengths)))
}

proptest! {
    #[test]
    fn what_is_sent_and_what_is_kept_add_up((settings, layout) in any_shape(), seed in any::<u64>()) {
        let mut feedback = ErrorFeedback::zero(&layout);
        for round in 0..3 {
            let before = feedback.clone();
            let delta = delta(seed ^ round, &layout);
            let blob = encode(&settings, &layout, &ORIGIN, &slices(&delta), &mut feedback).unwrap();
            prop_assert!(blob.len() as u64 <= settings.max_bytes(&layout));
            let decoded = decode(&blob, &settings, &layout).unwrap();
            prop_assert_eq!(decoded.header.origin, ORIGIN);
            for (t, sent) in decoded.tensors.iter().enumerate() {
                let mut sum: Vec<f32> = delta[t].iter().zip(&before.tensors()[t])
                    .map(|(d, e)| settings.error_feedback * e + d).collect();
                for (&at, &value) in sent.positions.iter().zip(&sent.values) {
                    sum[at as usize] -= value;
                }
                prop_assert_eq!(&sum, &feedback.tensors()[t]);
                prop_assert!(sent.positions.is_sorted_by(|a, b| a < b));
            }
            // and what is kept can be written and read back
            prop_assert_eq!(&ErrorFeedback::from_bytes(&feedback.to_bytes(), &layout).unwrap(), &feedback);
        }
    }

    #[test]
    fn random_bodies_never_panic((settings, layout) in any_shape(), body in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut bytes = Vec::new();
        Header { version: 1, settings, layout: layout.digest(), origin: ORIGIN }.write(&mut bytes);
        let segments = layout.geometry(settings.chunk).segments();
        if segments > 0 {
            bytes.extend((body.len() as u32).to_le_bytes());
            bytes.extend(vec![0; 4 * (segments as usize - 1)]);
        }
        bytes.extend(&body);
        let _ = decode(&bytes, &settings, &layout);
        let _ = decode_header(&body);
        let _ = decode(&body, &settings, &layout);
    }

    #[test]
    fn a_flipped_bit_is_refused_or_decodes_to_something_else(bits in prop::sample::select(vec![1u8, 2, 4, 8]), seed in any::<u64>(), at in any::<prop::sample::Index>()) {
        let (settings, layout) = (small(bits), layout(&[300, 7]));
        let good = blob(&settings, &layout, seed);
        let mut bad = good.clone();
        let bit = at.index(bad.len() * 8);
        bad[bit / 8] ^= 1 << (bit % 8);
        if let Ok(decoded) = decode(&bad, &settings, &layout) {
            prop_assert_ne!(decoded, decode(&good, &settings, &layout).unwrap());
        }
    }

    #[test]
    fn any_other_length_is_refused(seed in any::<u64>(), cut in 1usize..60, more in prop::collection::vec(any::<u8>(), 1..9)) {
        let (settings, layout) = (small(2), layout(&[300, 7]));
        let good = blob(&settings, &layout, seed);
        let mut long = good.clone();
        long.extend(&more);
        let refused = decode(&long, &settings, &layout);
        let by_length = matches!(refused, Err(DecodeError::Length { .. }));
        prop_assert!(by_length, "{:?}", refused);
        let refused = decode(&good[..good.len().saturating_sub(cut)], &settings, &layout);
        let by_length = matches!(
            refused,
            Err(DecodeError::Length { .. } | DecodeError::Header(HeaderError::Truncated { .. }))
        );
        prop_assert!(by_length, "{:?}", refused);
    }
}

#[test]
fn bytes_do_not_depend_on_the_number_of_threads() {
    let layout = layout(&[700_000, 3, 100_000, 4096, 5000]);
    let settings = CodecSettings { chunk: 512, k: 8, ..CodecSettings::default() };
    assert!(layout.geometry(settings.chunk).segments() > 5);
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| blob(&settings, &layout, 3))
    };
    assert_eq!(with(1), with(5));
}

#[test]
fn the_published_settings_take_less_than_0_153_bits_a_parameter() {
    let (settings, layout) = (CodecSettings::default(), layout(&[4 << 20]));
    // sums of uniform numbers: near enough to normal
    let parts: Vec<Vec<f32>> = (0..3)
        .map(|seed| {
            let mut state = seed * 7 + 1u64;
            (0..4 << 20)
                .map(|_| {
                    state =
                        state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (state >> 40) as f32 / 16_777_216.0 - 0.5
                })
                .collect()
        })
        .collect();
    let delta: Vec<f32> = (0..4 << 20).map(|i| parts[0][i] + parts[1][i] + parts[2][i]).collect();
    let mut feedback = ErrorFeedback::zero(&layout);
    for _ in 0..2 {
        let blob = encode(&settings, &layout, &ORIGIN, &[&delta], &mut feedback).unwrap();
        let bits = blob.len() as f64 * 8.0 / f64::from(4 << 20);
        assert!(bits < 0.153, "{bits}");
    }
}

#[test]
fn an_untouched_tensor_takes_16_bits_a_chunk() {
    let (settings, layout) = (CodecSettings::default(), layout(&[4096 * 100]));
    let zeros = vec![0.0; 4096 * 100];
    let blob = encode(&settings, &layout, &ORIGIN, &[&zeros], &mut ErrorFeedback::zero(&layout)).unwrap();
    assert_eq!(blob.len(), Header::BYTES + 4 + 200);
    assert!(decode(&blob, &settings, &layout).unwrap().tensors[0].positions.is_empty());
}

#[test]
fn a_refused_gradient_leaves_the_feedback_alone() {
    let (settings, layout) = (small(2), layout(&[300, 7]));
    let mut feedback = ErrorFeedback::zero(&layout);
    let mut delta = delta(1, &layout);
    encode(&settings, &layout, &ORIGIN, &slices(&delta), &mut feedback).unwrap();
    let before = feedback.clone();
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 5e9] {
        delta[1][6] = bad;
        let refused = encode(&settings, &layout, &ORIGIN, &slices(&delta), &mut feedback);
        assert!(matches!(refused, Err(EncodeError::Absurd { tensor: 1, element: 6, .. })), "{refused:?}");
        assert_eq!(feedback, before);
    }
    let refused = encode(&settings, &layout, &ORIGIN, &slices(&delta[..1]), &mut feedback);
    assert_eq!(refused, Err(EncodeError::Shape { tensor: 1, expected: 7, got: 0 }));
    let other = self::layout(&[7, 300]);
    delta[1][6] = 0.0;
    let refused = encode(&settings, &layout, &ORIGIN, &slices(&delta), &mut ErrorFeedback::zero(&other));
    assert_eq!(refused, Err(EncodeError::Feedback));
}

#[test]
fn feedback_that_nobody_sends_becomes_zero_and_never_subnormal() {
    let (settings, layout) = (small(2), layout(&[64]));
    let mut feedback = ErrorFeedback::zero(&layout);
    let mut delta = vec![0.0f32; 64];
    delta[3] = 1e-25;
    for _ in 0..400 {
        encode(&settings, &layout, &ORIGIN, &[&delta], &mut feedback).unwrap();
        delta[3] = 0.0;
        let kept = feedback.tensors()[0][3];
        assert!(kept == 0.0 || kept >= FLUSH_BELOW);
    }
    assert_eq!(feedback, ErrorFeedback::zero(&layout));
}

/// Builds a blob of one chunk of 64 elements (k = 5, 2 bits) from bit fields, each `(value, width)`.
fn crafted(fields: &[(u32, u32)]) -> Result<Decoded, DecodeError> {
    let (settings, layout) = (small(2), layout(&[64]));
    let mut writer = bits::BitWriter::default();
    for &(value, width) in fields {
        writer.push(value, width);
    }
    let body = writer.finish();
    let mut bytes = Vec::new();
    Header { version: 1, settings, layout: layout.digest(), origin: ORIGIN }.write(&mut bytes);
    bytes.extend((body.len() as u32).to_le_bytes());
    bytes.extend(body);
    decode(&bytes, &settings, &layout)
}

#[test]
fn other_spellings_of_the_same_chunk_are_refused() {
    let one = 0x3f80;
    // a short chunk of one entry: gap 0 is a set bit and five clear ones (64 of 1: divisor 44), value +2
    let short = |count: u32, word: u32| vec![(word, 16), (count, 3), (1, 1), (0, 5), (0, 2)];
    let decoded = crafted(&short(1, 0x8000 | one)).unwrap();
    assert_eq!((decoded.tensors[0].positions[0], decoded.tensors[0].values[0]), (0, 2.0));
    for count in [0, 5, 7] {
        let refused = crafted(&short(count, 0x8000 | one));
        assert_eq!(refused, Err(DecodeError::Count { chunk: 0, most: 4, got: count }));
    }
    // zero with a sign, subnormal, infinity, NaN, just too small, just too large
    for word in [0x8000, 0x0001, 0x7f80, 0x7fc0, 0x217f, 0x5381] {
        let refused = crafted(&short(1, word));
        assert!(matches!(refused, Err(DecodeError::Scale { chunk: 0, .. })), "{word:x} {refused:?}");
    }
    // a second byte of nothing; a set bit in the padding
    let mut long = short(1, 0x8000 | one);
    long.push((0, 13));
    assert_eq!(crafted(&long), Err(DecodeError::Trailing { segment: 0 }));
    assert_eq!(crafted(&[(0, 16), (0, 8)]), Err(DecodeError::Trailing { segment: 0 }));
    // 16 + 3 + 6 + 2 = 27 bits: five of padding
    let mut padded = short(1, 0x8000 | one);
    padded.push((16, 5));
    assert_eq!(crafted(&padded), Err(DecodeError::Trailing { segment: 0 }));
}

#[test]
fn gaps_past_the_end_are_refused() {
    // quotient 1 of divisor 44 is position 44 + rest; rest 20 is coded 100110 and stands at 64
    let at = |rest: u32| {
        let code = rest + 20;
        let tail = if rest < 20 { vec![(rest, 5)] } else { vec![(code >> 1, 5), (code & 1, 1)] };
        let mut fields = vec![(0xbf80, 16), (1, 3), (2, 2)];
        fields.extend(tail);
        fields.push((0, 2));
        crafted(&fields)
    };
    assert_eq!(at(19).unwrap().tensors[0].positions, [63]);
    assert_eq!(at(20), Err(DecodeError::Position { chunk: 0, entry: 0 }));
    assert_eq!(at(43), Err(DecodeError::Position { chunk: 0, entry: 0 }));
    // clear bits without end
    assert_eq!(crafted(&[(0x3f80, 16), (0, 32)]), Err(DecodeError::Truncated { segment: 0, chunk: 0 }));
    let endless: Vec<(u32, u32)> = std::iter::once((0x3f80, 16)).chain([(0, 32); 9]).collect();
    assert_eq!(crafted(&endless), Err(DecodeError::Position { chunk: 0, entry: 0 }));
}

#[test]
fn other_settings_and_layouts_are_refused() {
    let (settings, layout) = (small(2), layout(&[300]));
    let good = blob(&settings, &layout, 1);
    assert!(matches!(decode(&good, &small(4), &layout), Err(DecodeError::Settings { .. })));
    assert!(matches!(decode(&good, &settings, &self::layout(&[301])), Err(DecodeError::Layout { .. })));
    let mut moved = good.clone();
    moved[Header::BYTES] += 1;
    assert!(matches!(decode(&moved, &settings, &layout), Err(DecodeError::Length { .. })));
}
