//! Which samples share a pack, and the order of the packs: of all samples, or of each period's for themselves.

use super::{Dealt, Kind, PackOptions, deal, fit, table::Measured};

/// Samples and their packs, period after period; all are one period where there are none.
pub(super) struct Arranged {
    samples: Vec<Measured>,
    periods: Vec<Period>,
    /// The kinds of packs of all periods.
    pub(super) kinds: Vec<Kind>,
    /// How many samples there are of each length.
    pub(super) counts: Vec<u64>,
}

struct Period {
    first: usize,
    dealt: Dealt,
}

impl Arranged {
    /// Arranges samples that come in the order of their draws. With [`PackOptions::ordered`] each list is a period.
    pub(super) fn of(mut samples: Vec<Measured>, options: &PackOptions) -> Self {
        let period_of = |sample: &Measured| if options.ordered { sample.place.list() } else { 0 };
        if options.ordered {
            // Stable: within a period the order of the draws stays.
            samples.sort_by_key(period_of);
        }
        let mut arranged = Self {
            samples: Vec::new(),
            periods: Vec::new(),
            kinds: Vec::new(),
            counts: vec![0; options.fit.capacity as usize + 1],
        };
        let mut first = 0;
        for period in samples.chunk_by(|a, b| period_of(a) == period_of(b)) {
            let counts = histogram(period, options.fit.capacity);
            let kinds = fit(&counts, options.fit);
            let dealt = deal(period.len(), |at| period[at].tokens, &kinds, options.seed);
            arranged.periods.push(Period { first, dealt });
            arranged.kinds.extend(kinds);
            arranged.counts.iter_mut().zip(counts).for_each(|(all, count)| *all += count);
            first += period.len();
        }
        arranged.samples = samples;
        arranged
    }

    /// How many packs each period has, and which list it is of.
    pub(super) fn packs_of_lists(&self) -> impl Iterator<Item = (usize, u64)> {
        let list = |period: &Period| self.samples[period.first].place.list();
        self.periods.iter().map(move |period| (list(period), period.dealt.len() as u64))
    }

    /// The samples of each pack of each period.
    pub(super) fn periods(
        &self,
    ) -> impl Iterator<Item = impl Iterator<Item = impl ExactSizeIterator<Item = Measured>>> {
        self.periods.iter().map(move |Period { first, dealt }| {
            let samples = &self.samples[*first..];
            dealt.packs().map(move |pack| pack.iter().map(move |&at| samples[at as usize]))
        })
    }
}

fn histogram(samples: &[Measured], capacity: u32) -> Vec<u64> {
    let mut counts = vec![0; capacity as usize + 1];
    for sample in samples {
        // Measuring has refused longer ones.
        counts[sample.tokens.min(capacity) as usize] += 1;
    }
    counts
}
