//! A table of prints, sorted by a key; those that agree in it are compared.

use rayon::prelude::*;

use super::Forest;
use crate::print::Print;

/// With so many neighbours a print is compared at most.
const NEIGHBOURS: usize = 2_048;

/// Keys in the high half, numbers of prints in the low one, sorted.
pub(super) struct Table(Vec<u64>);

/// What a table yields.
pub(super) struct Found {
    /// Pairs that hang all together together, at most one less than there are prints.
    pub(super) pairs: Vec<(u32, u32)>,
    /// Pairs that were not compared.
    pub(super) skipped: u64,
}

impl Table {
    pub(super) fn new(prints: &[Print], members: &[u32], key: impl Fn(&Print) -> u32 + Sync) -> Self {
        let entry = |&at: &u32| u64::from(key(&prints[at as usize])) << 32 | u64::from(at);
        let mut entries: Vec<u64> = members.par_iter().map(entry).collect();
        entries.par_sort_unstable();
        Self(entries)
    }

    /// The pairs for which `holds` is true, without those that follow from others.
    pub(super) fn pairs(self, prints: &[Print], holds: impl Fn(&Print, &Print) -> bool + Sync) -> Found {
        let buckets = self.0.par_chunk_by(|a, b| a >> 32 == b >> 32).filter(|bucket| bucket.len() > 1);
        let none = || Found { pairs: Vec::new(), skipped: 0 };
        let add = |mut found: Found, bucket: &[u64]| {
            found.compare(bucket.iter().map(|&entry| entry as u32).collect(), prints, &holds);
            found
        };
        buckets.fold(none, add).reduce(none, |mut a, b| {
            a.pairs.extend(b.pairs);
            Found { pairs: a.pairs, skipped: a.skipped + b.skipped }
        })
    }
}

impl Found {
    fn compare(&mut self, mut members: Vec<u32>, prints: &[Print], holds: &impl Fn(&Print, &Print) -> bool) {
        let print = |at: u32| &prints[at as usize];
        if members.len() > NEIGHBOURS {
            // Near ones side by side, and no matter in which order they came.
            let place =
                |&at: &u32| (print(at).brightness, print(at).colour, print(at).sketch.0, print(at).id, at);
            members.sort_unstable_by_key(place);
            let beyond = (members.len() - NEIGHBOURS) as u64;
            self.skipped += beyond * (beyond - 1) / 2;
        }
        let mut together = Forest::new(members.len());
        for (later, &b) in members.iter().enumerate() {
            let first = later.saturating_sub(NEIGHBOURS);
            for (earlier, &a) in (first..).zip(&members[first..later]) {
                if holds(print(a), print(b)) && together.join(earlier as u32, later as u32) {
                    self.pairs.push((a, b));
                }
            }
        }
    }
}
