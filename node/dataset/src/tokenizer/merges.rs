//! Byte-pair merges, learnt in one fixed way.
//!
//! The library's trainer counts in hash maps and on threads; ours counts in sorted maps, because the tokenizer's
//! hash is part of a run's name. Every merge counts all distinct words anew, which is nothing for a demo's hundred.

use std::collections::BTreeMap;

/// A merge: the two parts, as byte-level text.
pub(super) type Merge = (String, String);

/// Learns at most `merges` merges from words (as byte-level text) and their counts.
///
/// The pair seen most often is merged first; among equals the one whose parts come first in the alphabet. A pair seen
/// less than twice is not worth an id.
pub(super) fn learn(words: &BTreeMap<String, u64>, merges: usize) -> Vec<Merge> {
    let mut words: Vec<(Vec<String>, u64)> =
        words.iter().map(|(word, &count)| (word.chars().map(String::from).collect(), count)).collect();
    let mut learnt = Vec::new();
    while learnt.len() < merges {
        let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for (parts, count) in &words {
            for pair in parts.windows(2) {
                *counts.entry((&pair[0], &pair[1])).or_default() += count;
            }
        }
        let mut best: Option<((&str, &str), u64)> = None;
        for (pair, count) in counts {
            if best.is_none_or(|(_, most)| count > most) {
                best = Some((pair, count));
            }
        }
        let Some(((left, right), 2..)) = best else { break };
        let merge = (left.to_owned(), right.to_owned());
        for (parts, _) in &mut words {
            apply(parts, &merge);
        }
        learnt.push(merge);
    }
    learnt
}

/// Joins every occurrence of the pair, from the left.
fn apply(parts: &mut Vec<String>, (left, right): &Merge) {
    let mut at = 0;
    while at + 1 < parts.len() {
        if parts[at] == *left && parts[at + 1] == *right {
            let tail = parts.remove(at + 1);
            parts[at].push_str(&tail);
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commonest_pair_goes_first_and_ties_go_by_alphabet() {
        let words = BTreeMap::from([("abab".into(), 2), ("cd".into(), 4), ("x".into(), 9)]);
        let learnt = learn(&words, 9);
        let text: Vec<String> = learnt.iter().map(|(a, b)| format!("{a}+{b}")).collect();
        assert_eq!(text, ["a+b", "c+d", "ab+ab"]);
    }
}
