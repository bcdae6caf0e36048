//! Lengths as those of 5.5 million real samples.
//!
//! The original publishes its lengths as a plot and some counts: 36 to 8,187 tokens, 4,127,403 below 1,024, 1,085,218
//! below 2,048, 308,112 from there on, and those of five equal ranges. These 40 equal bins keep all of these counts to
//! a tenth of a percent and the plot's peaks, and have its mean of about 893 tokens.

/// Shortest length, in tokens.
const SHORTEST: f64 = 36.0;
/// Longest length.
const LONGEST: f64 = 8_187.0;

/// Samples in each of 40 equal bins.
const BINS: [u32; 40] = [
    330_000, 700_000, 1_450_000, 1_080_000, 669_000, 440_000, 250_000, 89_259, //
    120_000, 97_000, 55_000, 40_000, 30_000, 22_000, 18_000, 16_813, //
    8_000, 6_000, 5_000, 4_000, 3_500, 3_000, 2_800, 2_843, //
    6_000, 44_000, 22_000, 3_000, 1_200, 600, 400, 262, //
    300, 220, 160, 120, 90, 70, 56, 40,
];

/// A small generator (splitmix64): the same numbers everywhere.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to below 1.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// `count` lengths, in tokens, from a seed.
pub(super) fn draw(count: usize, seed: u64) -> Vec<u32> {
    let mut numbers = Numbers(seed);
    let total: u64 = BINS.iter().map(|&bin| u64::from(bin)).sum();
    // Which bin a sample of the 5.5 million is in.
    let ends: Vec<u64> = BINS
        .iter()
        .scan(0, |end, &bin| {
            *end += u64::from(bin);
            Some(*end)
        })
        .collect();
    let width = (LONGEST - SHORTEST) / BINS.len() as f64;
    (0..count)
        .map(|_| {
            let at = numbers.next() % total;
            let bin = ends.partition_point(|&end| end <= at);
            (SHORTEST + width * (bin as f64 + numbers.share())) as u32
        })
        .collect()
}
