//! The draw: which samples each period has.
//!
//! ```text
//! cell     ──1──2──3──4──5──6──7──8──        its samples, in the order of their draws, in a circle
//! period 0   └─────┘
//! period 1            └──────────┘            each period takes as many as it has of the cell from where the last
//! period 2   ────┘                └───        one stopped
//! ```
//!
//! So within a period no sample comes twice, as a period never takes more than the circle has; and none comes again before
//! all of its cell have been drawn.

use talkoot_protocol::manifest::MAX_PERIODS;

use crate::{
    Config,
    apportion::apportion,
    table::{Cell, Table},
};

/// How many samples of a cell a period has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Count {
    /// How many the weights ask for.
    pub(crate) asked: u64,
    /// How many are drawn: where a cell has fewer than are asked for, others stand in for it.
    pub(crate) drawn: u64,
}

/// What was drawn.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Drawn {
    /// How many samples each period asks for.
    pub(crate) asked: Vec<u64>,
    /// For each period the counts of all cells.
    pub(crate) counts: Vec<Vec<Count>>,
    /// Which sample is in which period, in the order of the samples.
    pub(crate) entries: Vec<Entry>,
    /// Samples that are in one period or several.
    pub(crate) used: u64,
}

/// That a sample is in a period: the sample's number through all lists, and the period's in 8 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry(u64);

impl Entry {
    const PERIOD_BITS: u32 = MAX_PERIODS.ilog2();

    fn new(line: u64, period: usize) -> Self {
        Self(line << Self::PERIOD_BITS | period as u64)
    }

    pub(crate) const fn line(self) -> u64 {
        self.0 >> Self::PERIOD_BITS
    }

    pub(crate) const fn period(self) -> usize {
        (self.0 & ((1 << Self::PERIOD_BITS) - 1)) as usize
    }
}

/// Draws the samples of all periods.
pub(crate) fn draw(table: &Table, config: &Config) -> Drawn {
    let there: Vec<u64> = table.cells.iter().map(|cell| cell.lines.len() as u64).collect();
    let shares: Vec<f64> = config.periods.iter().map(|period| period.share).collect();
    let total = config.samples.unwrap_or_else(|| table.samples());
    let asked = apportion(total, &shares, &vec![u64::MAX; shares.len()]);
    let mut circles: Vec<Circle<'_>> = table.cells.iter().map(|cell| Circle { cell, taken: 0 }).collect();
    let (mut counts, mut entries) = (Vec::with_capacity(asked.len()), Vec::new());
    for (number, (period, &asked)) in config.periods.iter().zip(&asked).enumerate() {
        let weight = |(cell, &there): (&Cell, &u64)| {
            there as f64 * period.weight(&cell.source, cell.band, config.bands())
        };
        let weights: Vec<f64> = table.cells.iter().zip(&there).map(weight).collect();
        let wanted = apportion(asked, &weights, &vec![u64::MAX; there.len()]);
        let drawn = apportion(asked, &weights, &there);
        for (circle, &count) in circles.iter_mut().zip(&drawn) {
            entries.extend(circle.take(count).map(|line| Entry::new(line, number)));
        }
        let count = |(asked, drawn)| Count { asked, drawn };
        counts.push(wanted.into_iter().zip(drawn).map(count).collect());
    }
    entries.sort_unstable();
    let used = circles.iter().map(Circle::used).sum();
    Drawn { asked, counts, entries, used }
}

/// A cell's samples in a circle.
struct Circle<'a> {
    cell: &'a Cell,
    /// How many have been taken, over all laps.
    taken: u64,
}

impl Circle<'_> {
    /// The next `count` samples, which are no more than there are.
    fn take(&mut self, count: u64) -> impl Iterator<Item = u64> {
        let lines = &self.cell.lines;
        let from = self.taken;
        self.taken += count;
        (from..from + count).map(move |at| lines[(at % lines.len() as u64) as usize])
    }

    /// How many have been taken at least once.
    fn used(&self) -> u64 {
        self.taken.min(self.cell.lines.len() as u64)
    }
}
