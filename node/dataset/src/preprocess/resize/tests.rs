use proptest::prelude::*;

use super::{passes::plain, taps::FRACTION_BITS, *};

/// The definition, one sample at a time and in 64 bits.
fn by_definition(source: &Rgb, width: u32, height: u32) -> Rgb {
    let sum = |samples: &mut dyn Iterator<Item = (u8, i32)>| {
        let sum: i64 = samples.map(|(sample, weight)| i64::from(sample) * i64::from(weight)).sum();
        ((sum + (1 << (FRACTION_BITS - 1))) >> FRACTION_BITS).clamp(0, 255) as u8
    };
    let at =
        |picture: &Rgb, x: usize, y: usize, c: usize| picture.rgb[(y * picture.width as usize + x) * 3 + c];
    let mut middle = Rgb { width, height: source.height, rgb: vec![] };
    for y in 0..source.height as usize {
        for (first, weights) in Taps::new(source.width, width).iter() {
            for c in 0..3 {
                let mut samples = weights.iter().enumerate().map(|(i, &w)| (at(source, first + i, y, c), w));
                middle.rgb.push(sum(&mut samples));
            }
        }
    }
    let mut out = Rgb { width, height, rgb: vec![] };
    for (first, weights) in Taps::new(source.height, height).iter() {
        for x in 0..width as usize {
            for c in 0..3 {
                let mut samples = weights.iter().enumerate().map(|(i, &w)| (at(&middle, x, first + i, c), w));
                out.rgb.push(sum(&mut samples));
            }
        }
    }
    out
}

#[test]
fn weights_of_any_scale_leave_sums_in_32_bits() {
    for (from, to) in [(1, 16_384), (16_384, 28), (16_384, 1), (100, 99), (99, 100), (3, 7), (5, 5)] {
        for (_, weights) in Taps::new(from, to).iter() {
            let reach: i64 = weights.iter().map(|&weight| i64::from(weight).abs()).sum();
            assert!(
                reach * 255 + (1 << (FRACTION_BITS - 1)) < i64::from(i32::MAX),
                "{from} to {to}: {reach}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_way_to_sum_gives_the_defined_bits(
        (width, height, rgb) in (1u32..90, 1u32..60).prop_flat_map(|(width, height)| {
            let bytes = prop::collection::vec(any::<u8>(), (width * height * 3) as usize);
            (Just(width), Just(height), bytes)
        }),
        to_width in 1u32..90,
        to_height in 1u32..60,
    ) {
        let source = Rgb { width, height, rgb };
        let wanted = by_definition(&source, to_width, to_height);
        let (across, down) = (Taps::new(width, to_width), Taps::new(height, to_height));
        let middle = plain::across(&source.rgb, width as usize, height as usize, &across);
        prop_assert!(plain::down(&middle, to_width as usize * 3, &down) == wanted.rgb);
        // A skipped pass is the same as one that changes nothing.
        prop_assert!(resize_bicubic(&source, to_width, to_height) == wanted);
    }
}
