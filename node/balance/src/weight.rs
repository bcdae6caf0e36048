//! From how often concepts are found to what a sample weighs.
//!
//! ```text
//! weight of concept c   1 / max(n_c, least)^power        n_c: samples that have it among their best K
//! weight of a sample    mean, sum or largest of its concepts' weights
//! ```
//!
//! With `power = 1` and the sum or mean this is how LLaVA-OneVision-1.5 describes its balancing (arXiv 2509.23661); its
//! code was not published. Powers are fourths, made of square roots, which IEEE 754 defines to the bit; sums are in the
//! order of the tags. So weights are the same on every machine.

use crate::{
    config::{Combine, WeightRules},
    search::Tag,
};

/// A power of a frequency: so many fourths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Power(u8);

impl Power {
    /// The power `power`, if it is 0, 0.25, 0.5, 0.75 or 1.
    pub fn new(power: f64) -> Option<Self> {
        (0..=4u8).find(|&fourths| f64::from(fourths) / 4.0 == power).map(Self)
    }

    /// `number` to this power.
    pub fn of(self, number: f64) -> f64 {
        let root = number.sqrt();
        match self.0 {
            0 => 1.0,
            1 => root.sqrt(),
            2 => root,
            3 => root * root.sqrt(),
            _ => number,
        }
    }
}

/// What samples weigh.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights {
    /// Of each concept.
    of: Vec<f64>,
    /// Of having none.
    none: f64,
    combine: Combine,
}

impl Weights {
    /// Weights for concepts that so many samples have, when `none` samples have none.
    pub fn new(counts: &[u64], none: u64, rules: &WeightRules) -> Self {
        let power = Power::new(rules.power).unwrap_or(Power(4));
        let weight = |count: u64| 1.0 / power.of(count.max(rules.least_frequency).max(1) as f64);
        Self {
            of: counts.iter().map(|&count| weight(count)).collect(),
            none: weight(none),
            combine: rules.combine,
        }
    }

    /// What a sample with these tags weighs: more than 0.
    ///
    /// # Panics
    ///
    /// When a tag's concept has no weight.
    pub fn of(&self, tags: &[Tag]) -> f64 {
        let weights = tags.iter().take_while(|tag| tag.is_some()).map(|tag| self.of[tag.concept as usize]);
        let (count, sum, largest) = weights
            .fold((0u32, 0.0, 0.0f64), |(count, sum, largest), w| (count + 1, sum + w, largest.max(w)));
        match (count, self.combine) {
            (0, _) => self.none,
            (_, Combine::Mean) => sum / f64::from(count),
            (_, Combine::Sum) => sum,
            (_, Combine::Rarest) => largest,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tags(concepts: &[u32]) -> Vec<Tag> {
        let named = concepts.iter().map(|&concept| Tag { concept, score: 0.5 });
        named.chain([Tag::NONE, Tag::NONE]).collect()
    }

    #[test]
    fn rare_concepts_weigh_more() {
        let rules = |power, combine| WeightRules { power, least_frequency: 2, combine };
        let weigh = |power, combine, concepts: &[u32]| {
            Weights::new(&[1, 4, 16], 256, &rules(power, combine)).of(&tags(concepts))
        };
        assert_eq!(weigh(1.0, Combine::Mean, &[0]), 0.5, "as if two samples had it");
        assert_eq!(weigh(1.0, Combine::Mean, &[1, 2]), (0.25 + 0.0625) / 2.0);
        assert_eq!(weigh(1.0, Combine::Sum, &[1, 2]), 0.3125);
        assert_eq!(weigh(1.0, Combine::Rarest, &[2, 1]), 0.25);
        assert_eq!(weigh(0.5, Combine::Mean, &[2]), 0.25);
        assert_eq!(weigh(0.25, Combine::Mean, &[2]), 0.5);
        assert_eq!(weigh(0.75, Combine::Mean, &[2]), 0.125);
        assert_eq!(weigh(0.0, Combine::Mean, &[0, 1]), 1.0);
        assert_eq!(weigh(1.0, Combine::Sum, &[]), 1.0 / 256.0, "none is a concept of its own");
    }

    proptest! {
        #[test]
        fn a_weight_is_a_positive_number_and_falls_with_the_frequency(
            counts in prop::collection::vec(0u64..1 << 40, 3..=3),
            fourths in 0u8..=4,
            combine in prop::sample::select(vec![Combine::Mean, Combine::Sum, Combine::Rarest]),
        ) {
            let rules = WeightRules { power: f64::from(fourths) / 4.0, least_frequency: 1, combine };
            let weigh = |counts: &[u64]| Weights::new(counts, 7, &rules).of(&tags(&[0, 1, 2]));
            let before = weigh(&counts);
            prop_assert!(before > 0.0 && before <= 3.0);
            let more: Vec<u64> = counts.iter().map(|&count| count * 3 + 1).collect();
            prop_assert!(weigh(&more) <= before);
        }
    }
}
