//! Concepts found in the words of a sample, where there are no embeddings.
//!
//! A concept is in a text when its words stand there one after another, in any case. Words are Unicode's (UAX #29), so a
//! sign of Chinese is a word. Of several concepts those with more words come first, as they say more; of these those
//! that stand there more often. The score is `words + n / (n + 1)` for a concept of so many words that is there `n`
//! times, which has that order.

use std::collections::HashMap;

use talkoot_dataset::{
    Sample,
    chat::{IMAGE_PLACEHOLDER, Role},
};
use unicode_segmentation::UnicodeSegmentation as _;

use crate::{
    concepts::Concepts,
    search::{Rules, Tag},
};

/// A place in the tree of phrases: what is read so far.
type Node = u32;

const ROOT: Node = 0;

/// All concepts as one tree of words.
#[derive(Debug)]
pub struct Phrases {
    /// Numbers of the words that stand in any concept.
    words: HashMap<String, u32>,
    /// Which place follows on which by which word.
    next: HashMap<(Node, u32), Node>,
    /// The concept that ends at a place, and its words.
    ends: Vec<Option<(u32, u32)>>,
    /// Concepts that are never found.
    never: u64,
}

impl Phrases {
    /// The tree of `concepts`. A concept without any word, or with the words of an earlier one, is never found.
    pub fn new(concepts: &Concepts) -> Self {
        let mut tree = Self { words: HashMap::new(), next: HashMap::new(), ends: vec![None], never: 0 };
        for (number, name) in (0..).zip(concepts.names()) {
            tree.add(number, name);
        }
        tree
    }

    fn add(&mut self, number: u32, name: &str) {
        let (mut node, mut length) = (ROOT, 0);
        for word in name.unicode_words() {
            let count = self.words.len() as u32;
            let word = *self.words.entry(word.to_lowercase()).or_insert(count);
            let fresh = self.ends.len() as Node;
            node = *self.next.entry((node, word)).or_insert(fresh);
            if node == fresh {
                self.ends.push(None);
            }
            length += 1;
        }
        match &mut self.ends[node as usize] {
            end @ None if node != ROOT => *end = Some((number, length)),
            _ => self.never += 1,
        }
    }

    /// Concepts that are never found, as they have no word or the words of an earlier one.
    pub const fn never(&self) -> u64 {
        self.never
    }

    /// Writes the best concepts of the sample's questions and answers to `tags`, the best first, filled up with
    /// [`Tag::NONE`].
    pub fn find(&self, sample: &Sample, rules: Rules, tags: &mut [Tag]) {
        let mut found: HashMap<u32, (u32, u32)> = HashMap::new();
        for message in sample.messages.iter().filter(|message| message.role != Role::System) {
            for text in message.text.split(IMAGE_PLACEHOLDER) {
                self.find_in(text, |concept, words| found.entry(concept).or_insert((words, 0)).1 += 1);
            }
        }
        let score = |(words, times): (u32, u32)| words as f32 + times as f32 / (times as f32 + 1.0);
        let mut all: Vec<Tag> =
            found.into_iter().map(|(concept, how)| Tag { concept, score: score(how) }).collect();
        all.retain(|tag| tag.score >= rules.least_score);
        all.sort_unstable_by(|a, b| b.score.total_cmp(&a.score).then(a.concept.cmp(&b.concept)));
        tags.fill(Tag::NONE);
        tags.iter_mut().take(rules.most).zip(all).for_each(|(place, tag)| *place = tag);
    }

    fn find_in(&self, text: &str, mut take: impl FnMut(u32, u32)) {
        // A word that is in no concept breaks every phrase.
        let mut open: Vec<Node> = Vec::new();
        for word in text.unicode_words() {
            let Some(&word) = self.words.get(word.to_lowercase().as_str()) else {
                open.clear();
                continue;
            };
            open.push(ROOT);
            open.retain_mut(|node| match self.next.get(&(*node, word)) {
                Some(&next) => {
                    *node = next;
                    true
                }
                None => false,
            });
            for &node in &open {
                if let Some((concept, words)) = self.ends[node as usize] {
                    take(concept, words);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use talkoot_dataset::{chat::Message, sample::Origin};

    use super::*;

    fn concepts(names: &[&str]) -> Concepts {
        Concepts::new(names.iter().map(|&name| name.to_owned()).collect())
    }

    fn sample(question: &str, answer: &str) -> Sample {
        let origin = Origin { source: "s".into(), file: "f".into(), record: 0, id: None, licence: None };
        Sample::new(origin, vec![Message::user(question), Message::assistant(answer)], Vec::new())
    }

    fn found(names: &[&str], question: &str, answer: &str) -> Vec<u32> {
        let mut tags = [Tag::NONE; 4];
        let rules = Rules { most: 4, least_score: -1.0 };
        Phrases::new(&concepts(names)).find(&sample(question, answer), rules, &mut tags);
        tags.iter().filter(|tag| tag.is_some()).map(|tag| tag.concept).collect()
    }

    #[test]
    fn longer_phrases_come_first_then_frequent_ones_then_small_numbers() {
        let names = ["york", "new york", "new", "city", "new york city hall"];
        assert_eq!(found(&names, "Is it New York?", "NEW YORK, yes. York!"), [1, 0, 2]);
        assert_eq!(found(&names, "a city", "a new thing; york"), [0, 2, 3]);
        assert_eq!(found(&names, "new york-city, new york", "x"), [1, 0, 2, 3]);
        assert_eq!(found(&names, "newyork", "cities"), [] as [u32; 0]);
    }

    #[test]
    fn signs_are_words_and_placeholders_are_none() {
        assert_eq!(found(&["猫", "image"], "<image>\n这是什么?", "一只黑猫。"), [0]);
    }

    #[test]
    fn concepts_that_cannot_be_told_apart_are_counted() {
        let phrases = Phrases::new(&concepts(&["cat", "Cat", "!!", "cat dog"]));
        assert_eq!(phrases.never(), 2);
        assert_eq!(found(&["cat", "Cat", "!!", "cat dog"], "cat", "!!"), [0]);
    }

    #[test]
    fn a_system_prompt_is_not_searched() {
        let origin = Origin { source: "s".into(), file: "f".into(), record: 0, id: None, licence: None };
        let system = Message { role: Role::System, text: "cat".into() };
        let turns = vec![system, Message::user("dog"), Message::assistant("cow")];
        let mut tags = [Tag::NONE; 3];
        let rules = Rules { most: 3, least_score: 0.0 };
        Phrases::new(&concepts(&["cat", "dog", "cow"])).find(
            &Sample::new(origin, turns, Vec::new()),
            rules,
            &mut tags,
        );
        assert_eq!(tags.map(|tag| tag.concept), [1, 2, u32::MAX]);
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_a_plain_search_finds(
            names in prop::collection::hash_set("[abc]( [abc]){0,2}", 1..12),
            text in prop::collection::vec("[abcd]", 0..30),
        ) {
            let names: Vec<String> = names.into_iter().collect();
            let list = Concepts::new(names.clone());
            let mut counts = HashMap::new();
            Phrases::new(&list).find_in(&text.join(" "), |concept, _| *counts.entry(concept).or_insert(0) += 1);
            for (number, name) in names.iter().enumerate() {
                let words: Vec<&str> = name.split(' ').collect();
                let times = text.windows(words.len()).filter(|window| window.iter().eq(&words)).count();
                prop_assert_eq!(counts.get(&(number as u32)).copied().unwrap_or(0), times, "{}", name);
            }
        }
    }
}
