//! Drawing by weight and hash: the same samples for any split of the work.
//!
//! Each sample has a number `u` between 0 and 1 that its id gives it, and a weight `w`. Its `k`-th copy has the key
//!
//! ```text
//! (k - u) / w        k = 1 … repeats
//! ```
//!
//! and the copies with the smallest keys are drawn, as many as are wanted. With one copy each this is sequential Poisson
//! sampling (Ohlsson, Journal of Official Statistics 14, 1998): a sample is drawn with a chance of nearly
//! `min(1, limit * w)`, and yet exactly as many are drawn as were asked for. With more, a sample is there
//! `limit * w` times on average, rounded up or down by its own `u`. A key depends on nothing but the sample and the
//! counts of all, so nobody has to know what others draw.

mod limit;

use talkoot_dataset::SampleId;

pub use self::limit::{Lots, Share, shares};

/// What the draw is called where it hashes.
const PURPOSE: &str = "balance";

/// Weighs more than any sample whose copies come after all that are kept.
const KEPT: f64 = 1e200;

/// A sample's part in the draw.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lot {
    /// Its id.
    pub id: SampleId,
    /// Where it is: tells samples with the same id apart.
    pub place: u64,
    /// Its number, more than 0 and less than 1.
    chance: f64,
    weight: f64,
    most: u32,
}

/// A copy of a sample, in the order in which copies are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket {
    /// Bits of the key: those of positive numbers have their order.
    pub(crate) key: u64,
    id: SampleId,
    place: u64,
}

/// Which copies are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// None.
    Nothing,
    /// All up to this one.
    UpTo(Ticket),
    /// All that there are.
    Everything,
}

impl Lot {
    /// The part of a sample of weight `weight`, which may be drawn up to `most` times.
    pub fn new(id: SampleId, place: u64, weight: f64, most: u32, seed: u64) -> Self {
        Self { id, place, chance: chance(id, seed), weight, most }
    }

    /// The part of a sample that is drawn once, before all that are not kept.
    pub fn kept(id: SampleId, place: u64, seed: u64) -> Self {
        Self::new(id, place, KEPT, 1, seed)
    }

    /// Most times that it can be drawn.
    pub const fn most(&self) -> u32 {
        self.most
    }

    /// Its copies, in order.
    pub fn tickets(&self) -> impl Iterator<Item = Ticket> + use<> {
        let Self { id, place, chance, weight, most } = *self;
        (1..=most).map(move |copy| Ticket { key: ((f64::from(copy) - chance) / weight).to_bits(), id, place })
    }

    /// How often it is drawn.
    pub fn drawn(&self, limit: &Limit) -> u32 {
        match limit {
            Limit::Nothing => 0,
            Limit::UpTo(last) => self.tickets().take_while(|ticket| ticket <= last).count() as u32,
            Limit::Everything => self.most,
        }
    }
}

/// The number that a sample draws, more than 0 and less than 1: one of 2^53 that are all alike.
fn chance(id: SampleId, seed: u64) -> f64 {
    const STEP: f64 = 1.0 / (1u64 << 53) as f64;
    let number = id.draw(PURPOSE, seed) >> 11;
    (number as f64 + 0.5) * STEP
}

#[cfg(test)]
mod tests;
