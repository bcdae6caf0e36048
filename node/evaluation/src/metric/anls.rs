//! Average normalised Levenshtein similarity: answers that were read with a few wrong letters count in part.
//!
//! Source: Biten et al. 2019, "Scene Text Visual Question Answering", arXiv 1905.13648, section 4, with its threshold of
//! 0.5: the similarity of two texts is `1 - NL` where `NL`, the edit distance over the length of the longer text, is
//! below 0.5, and 0 elsewhere. As in the code that is used for it, capitals and the number of blanks do not matter.

use strsim::generic_levenshtein;

/// Normalised distance from which on an answer counts as wrong rather than misread.
pub const THRESHOLD: f64 = 0.5;

/// Similarity of an answer to a right one, 0 or from one half to 1.
pub fn similarity(said: &str, right: &str) -> f64 {
    let (said, right) = (characters(said), characters(right));
    let longer = said.len().max(right.len());
    if longer == 0 {
        return 1.0;
    }
    let distance = generic_levenshtein(&said, &right) as f64 / longer as f64;
    if distance < THRESHOLD { 1.0 - distance } else { 0.0 }
}

fn characters(text: &str) -> Vec<char> {
    text.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ").chars().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "{found} instead of {expected}");
    }

    #[test]
    fn values_follow_the_definition() {
        close(similarity("Coca  Cola", "coca cola"), 1.0);
        // one letter of three is wrong: 1 - 1/3
        close(similarity("hat", "hut"), 2.0 / 3.0);
        // kitten, sitting: distance 3 of 7
        close(similarity("kitten", "sitting"), 4.0 / 7.0);
        // distance 2 of 4 is one half, which is too far
        close(similarity("abcd", "abxy"), 0.0);
        close(similarity("abcde", "abcxy"), 0.6);
        close(similarity("", "x"), 0.0);
        // characters, not bytes: one of four
        close(similarity("näin", "nain"), 0.75);
    }

    proptest! {
        #[test]
        fn it_is_symmetric_and_within_its_range(a in "[a-c ]{0,8}", b in "[a-c ]{0,8}") {
            let found = similarity(&a, &b);
            prop_assert_eq!(found, similarity(&b, &a));
            prop_assert!(found == 0.0 || (found > 0.5 && found <= 1.0));
            prop_assert_eq!(similarity(&a, &a), 1.0);
        }
    }
}
