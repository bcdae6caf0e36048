//! `MinHash`: how similar two texts are, from a few bytes of each.
//!
//! A text is the set of its runs of `k` characters. Each of 64 hash functions has its minimum over the set; two texts
//! have the same minimum with a chance that is the Jaccard index of their sets (Broder 1997). Four bits of each minimum
//! are kept (Li and König 2010, "b-bit minwise hashing"): equal by accident in one of 16, which the estimate takes
//! off. Its standard error is 0.053 at an index of 0.8.

/// Hash functions of a sketch.
const FUNCTIONS: usize = 64;
/// Bits kept of each minimum.
const BITS: usize = 4;

/// 64 values of four bits, in order from the lowest bits of the first word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Sketch(pub [u64; 4]);

impl Sketch {
    /// Values of a band; texts that agree in one of the bands are compared.
    pub const BAND_VALUES: usize = 5;
    /// Bands: with an index of 0.8 two texts agree in one with a chance of 0.995, with 0.5 of 0.35.
    pub const BANDS: usize = FUNCTIONS / Self::BAND_VALUES;

    /// The value of hash function `at`.
    fn value(&self, at: usize) -> u64 {
        let per_word = 64 / BITS;
        self.0[at / per_word] >> (at % per_word * BITS) & 0xf
    }

    /// The values of a band, in one number.
    pub fn band(&self, band: usize) -> u32 {
        let first = band * Self::BAND_VALUES;
        (first..first + Self::BAND_VALUES).fold(0, |key, at| key << BITS | self.value(at) as u32)
    }

    /// How many of the 64 values are equal.
    pub fn equal(&self, other: &Self) -> u32 {
        let differing: u32 = self
            .0
            .iter()
            .zip(other.0)
            .map(|(a, b)| {
                let different = a ^ b;
                // One bit of each four that says whether any of them differs.
                let pairs = different | different >> 1;
                ((pairs | pairs >> 2) & 0x1111_1111_1111_1111).count_ones()
            })
            .sum();
        FUNCTIONS as u32 - differing
    }

    /// The estimated Jaccard index of two texts.
    pub fn similarity(&self, other: &Self) -> f64 {
        let by_accident = 1.0 / f64::from(1u32 << BITS);
        let equal = f64::from(self.equal(other)) / FUNCTIONS as f64;
        ((equal - by_accident) / (1.0 - by_accident)).max(0.0)
    }
}

/// Makes sketches; those of one seed and one length of runs can be compared.
#[derive(Debug, Clone)]
pub struct Sketcher {
    run: usize,
    /// Factor, odd, and summand of each hash function.
    functions: Vec<(u64, u64)>,
}

impl Sketcher {
    /// Hash functions set by `seed`, for runs of `run` characters.
    pub fn new(seed: u64, run: usize) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("talkoot filter minhash v1");
        hasher.update(&seed.to_le_bytes());
        let mut stream = hasher.finalize_xof();
        let mut number = || {
            let mut bytes = [0; 8];
            stream.fill(&mut bytes);
            u64::from_le_bytes(bytes)
        };
        Self { run: run.max(1), functions: (0..FUNCTIONS).map(|_| (number() | 1, number())).collect() }
    }

    /// The sketch of a text in several pieces. One without any characters has a sketch of its own kind.
    pub fn sketch<'a>(&self, pieces: impl IntoIterator<Item = &'a str>) -> Sketch {
        let mut least = [u64::MAX; FUNCTIONS];
        self.runs(pieces, |run| {
            for (least, &(factor, summand)) in least.iter_mut().zip(&self.functions) {
                // Only the high half of a product by a factor depends on all bits of the run.
                let hash = run.wrapping_mul(factor).wrapping_add(summand) >> 16;
                *least = hash.min(*least);
            }
        });
        let mut sketch = Sketch::default();
        let per_word = 64 / BITS;
        for (at, &least) in least.iter().enumerate() {
            sketch.0[at / per_word] |= (scramble(least) & 0xf) << (at % per_word * BITS);
        }
        sketch
    }

    /// Hashes of all runs of characters. A text that is shorter than a run is one run.
    fn runs<'a>(&self, pieces: impl IntoIterator<Item = &'a str>, mut take: impl FnMut(u64)) {
        const BASE: u64 = 0x9e37_79b9_7f4a_7c15;
        let first_power = (1..self.run).fold(1u64, |power, _| power.wrapping_mul(BASE));
        let mut window = std::collections::VecDeque::with_capacity(self.run);
        let (mut hash, mut last) = (0u64, ' ');
        for c in pieces.into_iter().flat_map(|piece| normal(piece).chain([' '])) {
            if c == ' ' && last == ' ' {
                continue;
            }
            last = c;
            if window.len() == self.run {
                let gone = window.pop_front().unwrap_or_default();
                hash = hash.wrapping_sub(first_power.wrapping_mul(gone));
            }
            let value = u64::from(c) + 1;
            window.push_back(value);
            hash = hash.wrapping_mul(BASE).wrapping_add(value);
            if window.len() == self.run {
                take(scramble(hash));
            }
        }
        if !window.is_empty() && window.len() < self.run {
            take(scramble(hash));
        }
    }
}

/// Characters that count: lower case, white space as one space, no picture's place.
pub(super) fn normal(text: &str) -> impl Iterator<Item = char> {
    let mut last = ' ';
    text.split(talkoot_dataset::chat::IMAGE_PLACEHOLDER)
        .flat_map(|piece| piece.chars().chain([' ']))
        .flat_map(char::to_lowercase)
        .map(|c| if c.is_whitespace() { ' ' } else { c })
        .filter(move |&c| {
            let doubled = c == ' ' && last == ' ';
            last = c;
            !doubled
        })
}

/// Spreads a number over all 64 bits (murmur3's finaliser).
fn scramble(mut z: u64) -> u64 {
    z = (z ^ (z >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    z = (z ^ (z >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    z ^ (z >> 33)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn sketch(text: &str) -> Sketch {
        Sketcher::new(0, 5).sketch([text])
    }

    fn runs(text: &str, run: usize) -> BTreeSet<u64> {
        let mut runs = BTreeSet::new();
        Sketcher::new(0, run).runs([text], |run| {
            runs.insert(run);
        });
        runs
    }

    #[test]
    fn case_and_white_space_do_not_count_and_words_do() {
        assert_eq!(sketch("A red  circle\non white"), sketch("<image>\n a RED circle on white "));
        assert!(sketch("a red circle on white").similarity(&sketch("seven blue squares")) < 0.3);
        assert_ne!(sketch("ab"), sketch("ac"), "shorter than a run");
        assert_eq!(Sketcher::new(0, 5).sketch(["a b", "c"]), sketch("a b c"), "pieces are one text");
    }

    #[test]
    fn runs_are_as_many_as_the_text_has() {
        assert_eq!(runs("abcabcabc", 3).len(), 4, "abc, bca, cab, 'bc '");
        assert_eq!(runs("", 3).len(), 0);
        assert_eq!(runs("ab", 5).len(), 1);
        // A rolled hash is that of the run by itself.
        let alone: BTreeSet<u64> = ["hello", "ello "]
            .iter()
            .map(|run| {
                let mut hash = 0u64;
                for c in run.chars() {
                    hash = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(u64::from(c) + 1);
                }
                scramble(hash)
            })
            .collect();
        assert!(runs("xyz hello", 5).is_superset(&alone));
    }

    #[test]
    fn seeds_give_other_functions_and_one_seed_the_same_for_ever() {
        let text = "the same text under two seeds";
        assert_ne!(Sketcher::new(0, 5).sketch([text]), Sketcher::new(1, 5).sketch([text]));
        assert_eq!(Sketcher::new(3, 5).sketch([text]), Sketcher::new(3, 5).sketch([text]));
    }

    #[test]
    fn equal_values_are_counted_and_bands_hold_theirs() {
        let one = Sketch([0; 4]);
        let other = Sketch([0xf, 0, 0x0110_0000_0000_0000, 1 << 63]);
        assert_eq!(one.equal(&other), 64 - 4);
        assert_eq!(one.equal(&one), 64);
        assert_eq!(one.similarity(&one), 1.0);
        assert_eq!(other.band(0), 0xf << 16);
        assert_eq!(Sketch([0x54321, 0, 0, 0]).band(0), 0x12345);
        assert!((0..Sketch::BANDS).skip(1).take(4).all(|band| other.band(band) == 0));
    }

    /// A text of the words with these numbers.
    fn text(numbers: &[u16]) -> String {
        numbers.iter().map(|number| format!("{number:05} ")).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_estimate_is_near_the_true_index(
            common in prop::collection::vec(any::<u16>(), 1..120),
            one in prop::collection::vec(any::<u16>(), 0..60),
            other in prop::collection::vec(any::<u16>(), 0..60),
            seed: u64,
        ) {
            let texts = [&one, &other].map(|own| text(&[common.as_slice(), own].concat()));
            let [a, b] = [&texts[0], &texts[1]].map(|text| runs(text, 5));
            let index = a.intersection(&b).count() as f64 / a.union(&b).count() as f64;
            let sketcher = Sketcher::new(seed, 5);
            let [x, y] = [&texts[0], &texts[1]].map(|text| sketcher.sketch([text.as_str()]));
            let estimate = x.similarity(&y);
            // Five standard errors of 64 draws, and what 16 values cannot tell apart.
            prop_assert!((estimate - index).abs() < 5.0 * 0.067, "{estimate} for {index}");
        }
    }

    #[test]
    fn the_estimate_is_right_on_average() {
        let numbers: Vec<u16> = (0..400).map(|n: u16| n.wrapping_mul(40_503)).collect();
        for kept in [400, 360, 300, 200] {
            let texts = [text(&numbers), text(&numbers[..kept])];
            let [a, b] = [&texts[0], &texts[1]].map(|text| runs(text, 5));
            let index = a.intersection(&b).count() as f64 / a.union(&b).count() as f64;
            let mean = (0..200)
                .map(|seed| {
                    let sketcher = Sketcher::new(seed, 5);
                    sketcher.sketch([texts[0].as_str()]).similarity(&sketcher.sketch([texts[1].as_str()]))
                })
                .sum::<f64>()
                / 200.0;
            assert!((mean - index).abs() < 0.02, "{mean} for {index}");
        }
    }
}
