//! Seeded choices whose bits are ours: the stream is `ChaCha8`, what is made of it is written here, so that no
//! library's change of mind changes a data set.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

/// A stream of choices, set by a seed and by what it is for.
#[derive(Debug, Clone)]
pub(crate) struct Dice(ChaCha8Rng);

impl Dice {
    /// The stream of `seed` for `purpose`; different purposes are independent.
    pub(crate) fn new(purpose: &str, seed: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("talkoot dataset choices v1");
        hasher.update(&seed.to_le_bytes());
        hasher.update(purpose.as_bytes());
        Self(ChaCha8Rng::from_seed(*hasher.finalize().as_bytes()))
    }

    /// A number below `end`, all alike; 0 when `end` is 0 or 1.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        if end < 2 {
            return 0;
        }
        let end = end as u64;
        let fair = u64::MAX - u64::MAX % end;
        loop {
            let drawn = self.0.next_u64();
            if drawn < fair {
                return (drawn % end) as usize;
            }
        }
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: i32, high: i32) -> i32 {
        low + self.below((high - low + 1).max(1) as usize) as i32
    }

    /// Orders `items` at random (Fisher and Yates).
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// Deals the numbers below `size` like cards, reshuffling when it runs out, so that answers stay balanced.
#[derive(Debug, Clone)]
pub(crate) struct Deck {
    size: usize,
    left: Vec<usize>,
}

impl Deck {
    pub(crate) fn new(size: usize) -> Self {
        Self { size, left: Vec::new() }
    }

    /// The next card.
    pub(crate) fn deal(&mut self, dice: &mut Dice) -> usize {
        if self.left.is_empty() {
            self.left = (0..self.size).collect();
            dice.shuffle(&mut self.left);
        }
        self.left.pop().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_never_changes() {
        let mut dice = Dice::new("test", 7);
        let drawn: Vec<usize> = (0..8).map(|_| dice.below(1000)).collect();
        let mut again = Dice::new("test", 7);
        assert_eq!(drawn, (0..8).map(|_| again.below(1000)).collect::<Vec<_>>());
        let mut other = Dice::new("other", 7);
        assert_ne!(drawn, (0..8).map(|_| other.below(1000)).collect::<Vec<_>>());
    }

    #[test]
    fn a_deck_deals_every_card_as_often() {
        let (mut dice, mut deck, mut seen) = (Dice::new("test", 1), Deck::new(5), [0; 5]);
        (0..50).for_each(|_| seen[deck.deal(&mut dice)] += 1);
        assert_eq!(seen, [10; 5]);
    }
}
