//! Which source samples make an output sample, and with what weights.

/// Fraction bits of a weight: 32 bits less 8 for the sample and 2 for overshoot.
pub(super) const FRACTION_BITS: u32 = 22;
/// Reach of the cubic kernel in source pixels at scale 1.
const SUPPORT: f64 = 2.0;

/// The taps of one pass, one entry for each output sample.
#[derive(Debug)]
pub(super) struct Taps {
    /// First source sample, and where the weights begin in `weights`.
    starts: Vec<(usize, usize)>,
    /// Fixed-point weights of all output samples, one after another.
    weights: Vec<i32>,
}

impl Taps {
    /// The taps for resampling `from` samples to `to`.
    pub(super) fn new(from: u32, to: u32) -> Self {
        let scale = f64::from(from) / f64::from(to);
        let widened = scale.max(1.0);
        let reach = SUPPORT * widened;
        let narrow = 1.0 / widened;
        let mut taps = Self { starts: Vec::with_capacity(to as usize), weights: Vec::new() };
        let mut raw: Vec<f64> = Vec::new();
        for at in 0..to {
            let centre = (f64::from(at) + 0.5) * scale;
            // Truncation towards zero, as the original's casts do; negative values are clamped after it.
            let first = ((centre - reach + 0.5) as i64).max(0);
            let end = ((centre + reach + 0.5) as i64).min(i64::from(from));
            raw.clear();
            raw.extend((first..end).map(|x| cubic((x as f64 - centre + 0.5) * narrow)));
            let sum: f64 = raw.iter().sum();
            taps.starts.push((first as usize, taps.weights.len()));
            taps.weights.extend(raw.iter().map(|w| fixed_point(if sum == 0.0 { *w } else { w / sum })));
        }
        taps
    }

    /// Output samples.
    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    /// For each output sample its first source sample and the weights from there on.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &[i32])> {
        let ends = self.starts.iter().skip(1).map(|&(_, begin)| begin).chain([self.weights.len()]);
        self.starts.iter().zip(ends).map(|(&(first, begin), end)| (first, &self.weights[begin..end]))
    }
}

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

fn fixed_point(weight: f64) -> i32 {
    let scaled = weight * f64::from(1u32 << FRACTION_BITS);
    (if weight < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
}
