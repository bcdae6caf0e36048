use image::{ExtendedColorType, ImageEncoder, codecs::jpeg::JpegEncoder};
use proptest::prelude::*;

use super::*;

fn jpeg(width: u32, height: u32, quality: u8, color: ExtendedColorType, samples: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, quality).write_image(samples, width, height, color).unwrap();
    bytes
}

fn rgb(bytes: &[u8]) -> Result<Rgb, String> {
    decode(bytes, &DecodeLimits::default()).map_err(|fault| match fault {
        Fault::Decode(reason) => reason,
        Fault::TooLarge { .. } | Fault::TooManyBytes => "too large".into(),
    })
}

#[test]
fn grey_and_colour_come_out_as_colour() {
    let grey = rgb(&jpeg(20, 10, 95, ExtendedColorType::L8, &[100; 200])).unwrap();
    assert_eq!((grey.width, grey.height, grey.rgb.len()), (20, 10, 600));
    assert!(grey.rgb.iter().all(|sample| sample.abs_diff(100) < 3), "{:?}", &grey.rgb[..6]);
    let red: Vec<u8> = [200, 10, 10].repeat(200);
    let red = rgb(&jpeg(20, 10, 95, ExtendedColorType::Rgb8, &red)).unwrap();
    assert!(red.rgb.chunks(3).all(|p| p[0] > 180 && p[1] < 40 && p[2] < 40), "{:?}", &red.rgb[..6]);
}

#[test]
fn a_cut_file_is_refused_wherever_it_is_cut() {
    let samples: Vec<u8> = (0..60 * 60 * 3).map(|i| (i * 31 % 253) as u8).collect();
    let whole = jpeg(60, 60, 90, ExtendedColorType::Rgb8, &samples);
    assert!(rgb(&whole).is_ok());
    for end in 0..whole.len() - 1 {
        let reason = rgb(&whole[..end]).unwrap_err();
        assert!(reason.contains("cut off"), "{end}: {reason}");
    }
}

/// Without vector units: what every processor can do.
fn scalar() -> DecoderOptions {
    DecoderOptions::default().set_use_unsafe(false)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Damaged files too: whoever makes a data set may try to tell processors apart.
    #[test]
    fn vector_units_change_no_bit(
        (width, height, samples) in (1u32..70, 1u32..70).prop_flat_map(|(width, height)| {
            let bytes = prop::collection::vec(any::<u8>(), (width * height * 3) as usize);
            (Just(width), Just(height), bytes)
        }),
        quality in 1u8..=100,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut bytes = jpeg(width, height, quality, ExtendedColorType::Rgb8, &samples);
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let limits = DecodeLimits { side_pixels: 4_096, area_pixels: 1 << 20, file_bytes: 1 << 20 };
        let one = decode_with(&bytes, &limits, DecoderOptions::default()).ok();
        let other = decode_with(&bytes, &limits, scalar()).ok();
        prop_assert!(one == other);
    }
}
