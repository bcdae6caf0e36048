//! How far the draw goes: the key of the last copy that is drawn, without all keys in memory.
//!
//! Keys are counted by their first bits; the bits that hold the wanted one are kept and its next bits are counted, until
//! so few keys share them that they can be sorted. Three or four times through the samples are enough.

use rayon::prelude::*;

use super::{Limit, Lot, Ticket};
use crate::config::Amount;

/// Bits that are counted at a time.
const BITS: u32 = 12;
/// Keys that are sorted in memory, at most, unless they are all the same.
const SORTED: u64 = 1 << 22;

/// Samples that can be gone through again and again.
pub trait Lots: Sync {
    /// Why they cannot be read.
    type Error: Send;

    /// Pieces that can be read at the same time.
    fn pieces(&self) -> usize;

    /// Gives each sample of a piece to `take`, with the number of its quota.
    ///
    /// # Errors
    ///
    /// When the piece cannot be read.
    fn each(&self, piece: usize, take: &mut dyn FnMut(usize, &Lot)) -> Result<(), Self::Error>;
}

/// What is drawn of the samples of a quota.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// Samples.
    pub samples: u64,
    /// Copies that can be drawn.
    pub available: u64,
    /// Copies that are wanted.
    pub wanted: u64,
    /// How far the draw goes; everything, when more are wanted than there are.
    pub limit: Limit,
}

/// What is known of the wanted key.
#[derive(Debug, Clone, Copy)]
struct Search {
    /// Its first bits, the rest zero.
    prefix: u64,
    /// How many bits of it are known.
    known: u32,
    /// Which of the keys with this prefix it is, from 1.
    rank: u64,
    /// How many keys have this prefix.
    alike: u64,
}

/// Finds for each quota, an amount of the samples that are in it, how far the draw goes.
///
/// # Errors
///
/// When the samples cannot be read.
pub fn shares<L: Lots>(lots: &L, quotas: &[Amount]) -> Result<Vec<Share>, L::Error> {
    let share = |(quota, (samples, available)): (&Amount, (u64, u64))| {
        let wanted = quota.of(samples);
        let limit = if wanted == 0 { Limit::Nothing } else { Limit::Everything };
        Share { samples, available, wanted, limit }
    };
    let mut shares: Vec<Share> = quotas.iter().zip(totals(lots, quotas.len())?).map(share).collect();
    let begin = |share: &Share| {
        let partly = (1..share.available).contains(&share.wanted);
        partly.then_some(Search { prefix: 0, known: 0, rank: share.wanted, alike: share.available })
    };
    let mut searches: Vec<Option<Search>> = shares.iter().map(begin).collect();
    while searches.iter().flatten().any(Search::is_open) {
        narrow(lots, &mut searches)?;
    }
    for (share, last) in shares.iter_mut().zip(last_tickets(lots, &searches)?) {
        if let Some(last) = last {
            share.limit = Limit::UpTo(last);
        }
    }
    Ok(shares)
}

impl Search {
    fn is_open(&self) -> bool {
        self.alike > SORTED && self.known < u64::BITS
    }

    fn matches(&self, key: u64) -> bool {
        self.known == 0 || (key ^ self.prefix) >> (u64::BITS - self.known) == 0
    }

    /// Bits that are counted next.
    fn next_bits(&self) -> u32 {
        BITS.min(u64::BITS - self.known)
    }

    /// The next bits of a key.
    fn bin(&self, key: u64) -> usize {
        (key << self.known >> (u64::BITS - self.next_bits())) as usize
    }

    /// Goes on to the bin that holds the wanted key.
    fn enter(&mut self, counts: &[u64]) {
        let bits = self.next_bits();
        for (bin, &count) in counts.iter().enumerate() {
            if self.rank <= count {
                self.prefix |= (bin as u64) << (u64::BITS - self.known - bits);
                self.known += bits;
                self.alike = count;
                return;
            }
            self.rank -= count;
        }
    }
}

/// Samples and copies of each quota.
fn totals<L: Lots>(lots: &L, quotas: usize) -> Result<Vec<(u64, u64)>, L::Error> {
    let join = |totals: &mut Vec<(u64, u64)>, others: Vec<(u64, u64)>| {
        for (total, other) in totals.iter_mut().zip(others) {
            *total = (total.0 + other.0, total.1 + other.1);
        }
    };
    let take = |totals: &mut Vec<(u64, u64)>, quota: usize, lot: &Lot| {
        totals[quota].0 += 1;
        totals[quota].1 += u64::from(lot.most());
    };
    fold(lots, || vec![(0, 0); quotas], take, join)
}

/// Counts the next bits of the keys that may be wanted, and keeps those of the wanted one.
fn narrow<L: Lots>(lots: &L, searches: &mut [Option<Search>]) -> Result<(), L::Error> {
    let open: Vec<Option<Search>> = searches.iter().map(|search| search.filter(Search::is_open)).collect();
    let empty =
        || -> Vec<Vec<u64>> { open.iter().map(|search| vec![0; search.map_or(0, |_| 1 << BITS)]).collect() };
    let take = |counts: &mut Vec<Vec<u64>>, quota: usize, lot: &Lot| {
        if let Some(search) = open[quota] {
            for ticket in lot.tickets().filter(|ticket| search.matches(ticket.key)) {
                counts[quota][search.bin(ticket.key)] += 1;
            }
        }
    };
    let join = |counts: &mut Vec<Vec<u64>>, others: Vec<Vec<u64>>| {
        for (counts, others) in counts.iter_mut().zip(others) {
            counts.iter_mut().zip(others).for_each(|(count, other)| *count += other);
        }
    };
    let counts = fold(lots, empty, take, join)?;
    for (search, counts) in searches.iter_mut().zip(counts) {
        if let Some(search) = search.as_mut().filter(|search| search.is_open()) {
            search.enter(&counts);
        }
    }
    Ok(())
}

/// The last copy that is drawn of each quota, among those that share the bits that are known.
fn last_tickets<L: Lots>(lots: &L, searches: &[Option<Search>]) -> Result<Vec<Option<Ticket>>, L::Error> {
    if searches.iter().all(Option::is_none) {
        return Ok(vec![None; searches.len()]);
    }
    let take = |alike: &mut Vec<Vec<Ticket>>, quota: usize, lot: &Lot| {
        if let Some(search) = searches[quota] {
            alike[quota].extend(lot.tickets().filter(|ticket| search.matches(ticket.key)));
        }
    };
    let join = |alike: &mut Vec<Vec<Ticket>>, others: Vec<Vec<Ticket>>| {
        alike.iter_mut().zip(others).for_each(|(some, mut others)| some.append(&mut others));
    };
    let alike = fold(lots, || vec![Vec::new(); searches.len()], take, join)?;
    let last = |(mut tickets, search): (Vec<Ticket>, &Option<Search>)| {
        let at = search.as_ref()?.rank as usize - 1;
        Some(*tickets.select_nth_unstable(at).1)
    };
    Ok(alike.into_iter().zip(searches).map(last).collect())
}

/// Goes through all samples, pieces side by side. What comes of it must not depend on which pieces come together.
fn fold<L: Lots, T: Send>(
    lots: &L,
    empty: impl Fn() -> T + Sync + Send,
    take: impl Fn(&mut T, usize, &Lot) + Sync + Send,
    join: impl Fn(&mut T, T) + Sync + Send,
) -> Result<T, L::Error> {
    let pieces = (0..lots.pieces()).into_par_iter();
    let folded = pieces.try_fold(&empty, |mut all, piece| {
        lots.each(piece, &mut |quota, lot| take(&mut all, quota, lot))?;
        Ok::<T, L::Error>(all)
    });
    folded.try_reduce(&empty, |mut all, others| {
        join(&mut all, others);
        Ok(all)
    })
}
