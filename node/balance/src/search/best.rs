//! The best few of many scores.

use super::Tag;

/// Scores that are looked at together: one comparison with the bar for all of them.
const TOGETHER: usize = 16;

/// The best tags so far, the best first.
pub(super) struct Best<'a> {
    tags: &'a mut [Tag],
    filled: usize,
    /// What a score has to exceed.
    bar: f32,
}

impl<'a> Best<'a> {
    /// Nothing yet; scores below `least` are never taken. There is at least one place.
    pub(super) fn new(tags: &'a mut [Tag], least: f32) -> Self {
        Self { tags, filled: 0, bar: least.next_down() }
    }

    /// Offers the scores of the concepts from number `first` on. Numbers ascend from call to call, so of equal scores the
    /// one with the smallest number is kept.
    pub(super) fn offer_all(&mut self, first: u32, scores: &[f32]) {
        let (whole, rest) = scores.as_chunks::<TOGETHER>();
        let mut number = first;
        for some in whole {
            let largest = some.iter().fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
            if largest > self.bar {
                self.offer_some(number, some);
            }
            number += TOGETHER as u32;
        }
        self.offer_some(number, rest);
    }

    fn offer_some(&mut self, first: u32, scores: &[f32]) {
        for (concept, &score) in (first..).zip(scores) {
            if score > self.bar {
                self.insert(Tag { concept, score });
            }
        }
    }

    fn insert(&mut self, tag: Tag) {
        let after = self.tags[..self.filled].partition_point(|other| other.score >= tag.score);
        if self.filled < self.tags.len() {
            self.filled += 1;
        }
        self.tags[after..self.filled].rotate_right(1);
        self.tags[after] = tag;
        if self.filled == self.tags.len() {
            self.bar = self.bar.max(self.tags[self.filled - 1].score);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_scores_leave_places_empty_and_nothing_below_the_least_is_taken() {
        let mut tags = [Tag::NONE; 3];
        let mut best = Best::new(&mut tags, 0.5);
        best.offer_all(10, &[0.4, 0.5, f32::NAN, 0.49]);
        best.offer_all(14, &[0.9]);
        assert_eq!(tags, [Tag { concept: 14, score: 0.9 }, Tag { concept: 11, score: 0.5 }, Tag::NONE]);
    }

    #[test]
    fn of_equal_scores_the_smallest_numbers_are_kept() {
        let mut tags = [Tag::NONE; 3];
        Best::new(&mut tags, -1.0).offer_all(0, &[0.25; 100]);
        assert_eq!(tags.map(|tag| tag.concept), [0, 1, 2]);
        let mut tags = [Tag::NONE; 2];
        let mut best = Best::new(&mut tags, -1.0);
        best.offer_all(0, &[0.0; 33]);
        best.offer_all(33, &[0.0, 1.0, 0.0]);
        assert_eq!(tags.map(|tag| tag.concept), [34, 0]);
    }
}
