//! Moments in eight bits a number, block by block.
//!
//! ```text
//! 256 numbers of a tensor, row-major --> | scale f32 | code 0 | code 1 | ... | code 255 |     65 words of four bytes
//! number = level(code) x scale           the scale is the block's largest magnitude
//! ```
//! The last block of a tensor may be shorter; its codes end with a whole word, the rest of which is zero.
//!
//! Levels lie between 0 and 1, dense near 1 and spread over seven decades, as in dynamic tree quantisation. Source: Dettmers,
//! Lewis, Shleifer and Zettlemoyer, 8-bit Optimizers via Block-wise Quantization, arXiv 2110.02861. Two things are ours, and
//! two more stand at [`Backend::adamw_eight_bit`](crate::backend::Backend::adamw_eight_bit) and below:
//!
//! - The largest magnitude is a level of either sign, so that a block that was made numbers and is packed again has the same
//!   bytes: a training state in f32 is then as good as its packed form, for digests, disputes and whoever goes on from it.
//! - A second moment above zero never becomes zero, since what divides by its root would run away.
//! - A block whose largest magnitude is below 2^-100 becomes zero, so that no level of a block is a subnormal number.
//!
//! `docs/determinism.md` gives the arithmetic. Every operation is one of f32, rounded to nearest, so that all devices agree.

/// Numbers that share a scale.
pub const BLOCK: usize = 256;

/// Words of four bytes that a whole block takes.
pub const BLOCK_WORDS: usize = 1 + BLOCK / 4;

/// The smallest magnitude that a block keeps, 2^-100.
const LEAST_SCALE: f32 = f32::from_bits((127 - 100) << 23);

/// The sign of a first moment's code.
const SIGN: u8 = 0x80;

/// Which of the two moments: they have different levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The mean of gradients: a sign and 127 levels above zero.
    First,
    /// The mean of their squares: 255 levels above zero.
    Second,
}

/// Words that `numbers` numbers take.
pub const fn packed_words(numbers: usize) -> usize {
    numbers.div_ceil(BLOCK) + numbers.div_ceil(4)
}

/// Magnitudes by code, in ascending order from 0 to 1, and half way to the one before.
struct Levels<const N: usize> {
    values: [f32; N],
    middles: [f32; N],
}

static FIRST: Levels<128> = Levels::new();
static SECOND: Levels<256> = Levels::new();

impl<const N: usize> Levels<N> {
    /// Decade `d` of seven, from 10^(d-7) to 10^(d-6), is divided into `n = N/128 x 2^d` equal parts; a level is the middle of
    /// a part, `(2n + 9(2j + 1)) / (20 n 10^(6-d))` for part `j`: whole numbers that f32 holds, and one division. The last
    /// level is 1.
    const fn new() -> Self {
        let (mut values, mut middles) = ([0.0; N], [0.0; N]);
        let mut code = 1;
        while code < N {
            let place = code + N / 128 - 1;
            let parts = 1 << place.ilog2();
            let part = place - parts;
            let decade = place.ilog2() - (N / 128).ilog2();
            let above = 2 * parts + 9 * (2 * part + 1);
            let below = 20 * parts * 10usize.pow(6u32.saturating_sub(decade));
            values[code] = if code == N - 1 { 1.0 } else { above as f32 / below as f32 };
            middles[code] = 0.5 * (values[code - 1] + values[code]);
            code += 1;
        }
        Self { values, middles }
    }

    /// The nearest level; the lower one of two that are equally near, and 0 for what is no number.
    #[inline(always)]
    fn nearest(&self, share: f32) -> usize {
        let (mut code, mut step) = (0, N / 2);
        while step > 0 {
            if share > self.middles[code + step] {
                code += step;
            }
            step /= 2;
        }
        code
    }
}

impl Side {
    #[inline(always)]
    fn number(self, code: u8, scale: f32) -> f32 {
        match self {
            Self::First => {
                let magnitude = FIRST.values[usize::from(code & !SIGN)] * scale;
                if code & SIGN == 0 { magnitude } else { -magnitude }
            }
            Self::Second => SECOND.values[usize::from(code)] * scale,
        }
    }

    #[inline(always)]
    fn code(self, number: f32, scale: f32) -> u8 {
        let share = number.abs() / scale;
        match self {
            Self::First => match FIRST.nearest(share) as u8 {
                0 => 0,
                magnitude if number < 0.0 => magnitude | SIGN,
                magnitude => magnitude,
            },
            Self::Second => match SECOND.nearest(share) as u8 {
                0 if number > 0.0 => 1,
                code => code,
            },
        }
    }

    /// Makes a block numbers: as many as `numbers` has, at most [`BLOCK`].
    #[inline(always)]
    pub(crate) fn unpack_block(self, words: &[f32], numbers: &mut [f32]) {
        let Some((&scale, codes)) = words.split_first() else { return };
        for (four, word) in numbers.chunks_mut(4).zip(codes) {
            for (number, code) in four.iter_mut().zip(word.to_bits().to_le_bytes()) {
                *number = self.number(code, scale);
            }
        }
    }

    /// Packs a block. Numbers that are none are passed over when the largest is looked for.
    #[inline(always)]
    pub(crate) fn pack_block(self, numbers: &[f32], words: &mut [f32]) {
        let Some((scale, codes)) = words.split_first_mut() else { return };
        let largest = numbers.iter().fold(0.0f32, |most, number| {
            let magnitude = number.abs();
            if magnitude > most { magnitude } else { most }
        });
        if largest < LEAST_SCALE {
            *scale = 0.0;
            codes.fill(0.0);
            return;
        }
        *scale = largest;
        for (four, word) in numbers.chunks(4).zip(codes) {
            let mut bytes = [0; 4];
            for (byte, number) in bytes.iter_mut().zip(four) {
                *byte = self.code(*number, largest);
            }
            *word = f32::from_bits(u32::from_le_bytes(bytes));
        }
    }

    /// Packs a tensor into [`packed_words`] words, to be handled as numbers by nobody.
    pub fn pack(self, numbers: &[f32]) -> Vec<f32> {
        let mut words = vec![0.0; packed_words(numbers.len())];
        let blocks = numbers.chunks(BLOCK).zip(words.chunks_mut(BLOCK_WORDS));
        blocks.for_each(|(numbers, words)| self.pack_block(numbers, words));
        words
    }

    /// The `count` numbers of a packed tensor.
    ///
    /// # Panics
    ///
    /// When there are not [`packed_words`] words.
    pub fn unpack(self, words: &[f32], count: usize) -> Vec<f32> {
        assert_eq!(words.len(), packed_words(count), "words of {count} packed moments");
        let mut numbers = vec![0.0; count];
        let blocks = words.chunks(BLOCK_WORDS).zip(numbers.chunks_mut(BLOCK));
        blocks.for_each(|(words, numbers)| self.unpack_block(words, numbers));
        numbers
    }

    /// What packing makes of numbers.
    pub fn round(self, numbers: &[f32]) -> Vec<f32> {
        self.unpack(&self.pack(numbers), numbers.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIDES: [Side; 2] = [Side::First, Side::Second];

    fn numbers() -> impl Strategy<Value = Vec<f32>> {
        let number = prop_oneof![
            1 => Just(0.0f32),
            1 => Just(-0.0f32),
            4 => (-30f32..2.0, any::<bool>()).prop_map(|(e, sign)| if sign { -e.exp2() } else { e.exp2() }),
            1 => (-149i32..127).prop_map(|e| 2f32.powi(e)),
        ];
        prop::collection::vec(number, 1..700)
    }

    fn of(side: Side, numbers: &[f32]) -> Vec<f32> {
        match side {
            Side::First => numbers.to_vec(),
            Side::Second => numbers.iter().map(|number| number.abs()).collect(),
        }
    }

    fn bits(words: &[f32]) -> Vec<u32> {
        words.iter().map(|word| word.to_bits()).collect()
    }

    proptest! {
        #[test]
        fn what_was_made_numbers_is_packed_the_same_again(numbers in numbers()) {
            for side in SIDES {
                let numbers = of(side, &numbers);
                let packed = side.pack(&numbers);
                let back = side.unpack(&packed, numbers.len());
                prop_assert_eq!(bits(&side.pack(&back)), bits(&packed), "{:?}", side);
            }
        }

        #[test]
        fn the_largest_is_kept_and_others_are_as_near_as_levels_are(numbers in numbers()) {
            for side in SIDES {
                let numbers = of(side, &numbers);
                for (before, after) in numbers.chunks(BLOCK).zip(side.round(&numbers).chunks(BLOCK)) {
                    let largest = before.iter().fold(0.0f32, |most, x| most.max(x.abs()));
                    for (&before, &after) in before.iter().zip(after) {
                        if largest < LEAST_SCALE {
                            prop_assert_eq!(after.to_bits(), 0);
                            continue;
                        }
                        prop_assert!(before.abs() < largest || after == before, "{before} is the largest");
                        // a first moment has 64 levels in the last decade and half as many in each one before
                        let parts = if side == Side::First { 64.0 } else { 128.0 };
                        let share = before.abs() / largest;
                        let decade = (-share.log10()).floor().clamp(0.0, 6.0);
                        let width = 0.9 / (parts / decade.exp2()) * 10f32.powf(-decade);
                        let error = (after - before).abs() / largest;
                        let floor = if side == Side::Second { 4e-7 } else { 3e-7 };
                        prop_assert!(error <= (0.51 * width * 2.0).max(floor), "{before} as {after}, {largest}");
                        prop_assert!(side == Side::First || (after > 0.0) == (before > 0.0));
                        prop_assert!(after == 0.0 || after.is_sign_negative() == before.is_sign_negative());
                        prop_assert!(after != 0.0 || after.is_sign_positive(), "one zero");
                    }
                }
            }
        }
    }

    #[test]
    fn levels_are_those_of_the_definition() {
        // the first decades: one level of a first moment, two of a second; then twice as many
        assert_eq!(FIRST.values[..4], [0.0, 0.55e-6, 3.25e-6, 7.75e-6]);
        assert_eq!(SECOND.values[..4], [0.0, 3.25e-7, 7.75e-7, 2.125e-6]);
        assert_eq!((FIRST.values[127], SECOND.values[255]), (1.0, 1.0));
        assert_eq!((FIRST.values[126], SECOND.values[254]), (0.1 + 0.9 * 125.0 / 128.0, 0.996_484_4));
        for values in [&FIRST.values[..], &SECOND.values] {
            assert!(values.windows(2).all(|pair| pair[0] < pair[1]), "ascending");
        }
    }

    #[test]
    fn a_level_is_its_own_nearest_and_a_middle_goes_down() {
        for (code, &value) in SECOND.values.iter().enumerate() {
            assert_eq!(SECOND.nearest(value), code);
            if code > 0 {
                assert_eq!(SECOND.nearest(SECOND.middles[code]), code - 1);
                assert_eq!(SECOND.nearest(SECOND.middles[code].next_up()), code);
            }
        }
        assert_eq!(FIRST.nearest(f32::NAN), 0);
    }

    #[test]
    fn packed_moments_take_a_quarter_and_a_scale_for_every_block() {
        assert_eq!([0, 1, 4, 5, 256, 257, 512].map(packed_words), [0, 2, 2, 3, 65, 67, 130]);
    }
}
