//! Bicubic resampling with the exact integers of Pillow 11: the pictures that the published model was trained on.
//!
//! Two passes, horizontal first; each pass multiplies 8-bit samples by weights in 22-bit fixed point, adds one half,
//! shifts and clips to 8 bits. When shrinking, the kernel is widened by the scale, which is the anti-aliasing.

use super::Rgb;

/// Fraction bits of a weight: 32 bits less 8 for the sample and 2 for overshoot.
const FRACTION_BITS: u32 = 22;
/// Reach of the cubic kernel in source pixels at scale 1.
const SUPPORT: f64 = 2.0;

/// The cubic convolution kernel with a = -0.5 (Keys 1981).
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

/// Source span and fixed-point weights of one output sample.
struct Tap {
    first: usize,
    weights: Vec<i32>,
}

/// The taps for resampling `from` samples to `to`.
fn taps(from: u32, to: u32) -> Vec<Tap> {
    let scale = f64::from(from) / f64::from(to);
    let widened = scale.max(1.0);
    let reach = SUPPORT * widened;
    let narrow = 1.0 / widened;
    (0..to)
        .map(|at| {
            let centre = (f64::from(at) + 0.5) * scale;
            // Truncation towards zero, as the original's casts do; negative values are clamped after it.
            let first = ((centre - reach + 0.5) as i64).max(0);
            let end = ((centre + reach + 0.5) as i64).min(i64::from(from));
            let mut raw: Vec<f64> = (first..end).map(|x| cubic((x as f64 - centre + 0.5) * narrow)).collect();
            let sum: f64 = raw.iter().sum();
            if sum != 0.0 {
                raw.iter_mut().for_each(|w| *w /= sum);
            }
            let weights = raw
                .into_iter()
                .map(|w| {
                    let scaled = w * f64::from(1u32 << FRACTION_BITS);
                    (if w < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
                })
                .collect();
            Tap { first: first as usize, weights }
        })
        .collect()
}

/// Rounds and clips a sum of fixed-point products.
fn to_u8(sum: i64) -> u8 {
    (sum >> FRACTION_BITS).clamp(0, 255) as u8
}

const HALF: i64 = 1 << (FRACTION_BITS - 1);

fn across(source: &Rgb, width: u32) -> Rgb {
    let taps = taps(source.width, width);
    let mut rgb = Vec::with_capacity(width as usize * source.height as usize * 3);
    for row in source.rgb.chunks_exact(source.width as usize * 3) {
        for tap in &taps {
            let mut sums = [HALF; 3];
            for (pixel, &weight) in row[tap.first * 3..].chunks_exact(3).zip(&tap.weights) {
                for (sum, &sample) in sums.iter_mut().zip(pixel) {
                    *sum += i64::from(sample) * i64::from(weight);
                }
            }
            rgb.extend(sums.map(to_u8));
        }
    }
    Rgb { width, height: source.height, rgb }
}

fn down(source: &Rgb, height: u32) -> Rgb {
    let stride = source.width as usize * 3;
    let mut rgb = Vec::with_capacity(stride * height as usize);
    let mut sums = vec![0i64; stride];
    for tap in taps(source.height, height) {
        sums.fill(HALF);
        for (row, &weight) in source.rgb.chunks_exact(stride).skip(tap.first).zip(&tap.weights) {
            for (sum, &sample) in sums.iter_mut().zip(row) {
                *sum += i64::from(sample) * i64::from(weight);
            }
        }
        rgb.extend(sums.iter().map(|&sum| to_u8(sum)));
    }
    Rgb { width: source.width, height, rgb }
}

/// `source` resized to `width` x `height` pixels.
///
/// A pass whose side does not change is skipped, so that a picture of the right size is returned as it is. An empty
/// target or an empty source gives an empty picture.
pub fn resize_bicubic(source: &Rgb, width: u32, height: u32) -> Rgb {
    if width == 0 || height == 0 || source.width == 0 || source.height == 0 {
        return Rgb { width, height, rgb: vec![0; width as usize * height as usize * 3] };
    }
    match (source.width != width, source.height != height) {
        (false, false) => source.clone(),
        (true, false) => across(source, width),
        (false, true) => down(source, height),
        (true, true) => down(&across(source, width), height),
    }
}
