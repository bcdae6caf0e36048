//! Samples that are nearly the same: which of each cluster is kept.
//!
//! Two samples are *duplicates* when one of two relations holds between their [prints](Print): their pictures are nearly
//! the same (and, unless configured otherwise, the same is asked), or their texts are similar. A *cluster* is what hangs
//! together by duplicates, so its ends may be further apart than the limits. Of each cluster the sample of the highest
//! rank is kept, of equal ranks the one with the smallest id; nothing depends on the order of the samples.
//!
//! Candidates come out of sorted tables, one after another: those that agree in a table's key are compared.
//!
//! - **Pictures.** The 64 bits of brightness are cut into `d + 2` blocks, where `d` bits may differ. At most `d` blocks do,
//!   so two agree, and there is a table for each two blocks: no pair is missed.
//! - **Texts.** There is a table for each band of the sketch. A pair as similar as the limit of 0.8 is missed with a
//!   chance of 1 in 200.
//!
//! Prints that are equal in all that a relation looks at are joined first, and one of them goes into the tables. Where
//! more than 2,048 prints agree in a key, each is compared with 2,048 neighbours in the order of their bits only; how many
//! pairs were not compared is reported.
//!
//! Memory: 64 bytes a print, 8 for the clusters, 8 for a table and at most 8 for the pairs that a table yields.

mod forest;
mod table;

use talkoot_dataset::{Progress, progress::Unit};

pub use self::forest::Forest;
use self::table::Table;
use crate::{
    config::{DuplicateRules, PictureRelation, TextRelation},
    print::{Print, Sketch},
};

/// Most prints that are compared.
pub const MAX_PRINTS: usize = u32::MAX as usize - 1;

/// Which sample is kept for which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duplicates {
    /// For each sample the number of the one that is kept for it: its own number when it is kept.
    pub kept_for: Vec<u32>,
    /// Pairs that agreed in a key and were not compared, because too many did.
    pub skipped_pairs: u64,
}

impl Duplicates {
    /// How many clusters of two or more there are, and how many samples the largest has.
    pub fn clusters(&self) -> (u64, u64) {
        let mut sizes = vec![0u64; self.kept_for.len()];
        self.kept_for.iter().for_each(|&kept| sizes[kept as usize] += 1);
        let some = sizes.into_iter().filter(|&size| size > 1);
        some.fold((0, 0), |(count, largest), size| (count + 1, size.max(largest)))
    }
}

/// Finds the duplicates among `prints`, of which there are at most [`MAX_PRINTS`].
pub fn find(prints: &[Print], rules: &DuplicateRules, progress: &dyn Progress) -> Duplicates {
    let relations = [pictures(rules), texts(rules)];
    let mut forest = Forest::new(prints.len());
    let mut skipped_pairs = 0;
    let members: Vec<Vec<u32>> =
        relations.iter().map(|relation| relation.members(prints, &mut forest)).collect();
    let lookups = relations.iter().zip(&members).map(|(relation, some)| relation.keys.len() * some.len());
    progress.begin("comparing", lookups.sum::<usize>() as u64, Unit::Entries);
    for (relation, members) in relations.iter().zip(&members) {
        for key in &relation.keys {
            let table = Table::new(prints, members, |print| key.of(print));
            let found = table.pairs(prints, |a, b| relation.holds(a, b));
            skipped_pairs += found.skipped;
            found.pairs.into_iter().for_each(|(a, b)| {
                forest.join(a, b);
            });
            progress.advance(members.len() as u64);
        }
    }
    Duplicates { kept_for: best_of_each(prints, forest), skipped_pairs }
}

/// One of the two relations, as it is configured.
struct Relation {
    /// Least number of equal values in sketches of similar texts.
    min_equal: u32,
    rules: DuplicateRules,
    by: By,
    keys: Vec<Key>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Pictures,
    Texts,
}

/// What is looked up in a table.
enum Key {
    /// The bits of the brightness under a mask, with the question where that has to be the same.
    Brightness { mask: u64, question: bool },
    /// A band of the sketch.
    Band(usize),
}

impl Key {
    fn of(&self, print: &Print) -> u32 {
        match *self {
            Self::Brightness { mask, question } => {
                let asked = if question { u64::from(print.question) << 16 } else { 0 };
                let extra = (asked | u64::from(print.pictures)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                fold((print.brightness & mask) ^ extra)
            }
            Self::Band(band) => print.sketch.band(band),
        }
    }
}

/// 32 bits of 64; prints that agree by accident are compared for nothing.
fn fold(bits: u64) -> u32 {
    let mixed = (bits ^ bits >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ mixed >> 32) as u32
}

fn pictures(rules: &DuplicateRules) -> Relation {
    let blocks = rules.brightness_bits + 2;
    let block = |at: u32| -> u64 {
        let edge = |at: u32| at * 64 / blocks;
        (edge(at)..edge(at + 1)).fold(0, |mask, bit| mask | 1 << bit)
    };
    let question = rules.pictures == PictureRelation::SameQuestion;
    let two = |one: u32| (one + 1..blocks).map(move |other| (one, other));
    let pairs = (0..blocks).flat_map(two).map(|(one, other)| block(one) | block(other));
    let keys = match rules.pictures {
        PictureRelation::Never => Vec::new(),
        _ => pairs.map(|mask| Key::Brightness { mask, question }).collect(),
    };
    Relation { min_equal: min_equal(rules), rules: rules.clone(), by: By::Pictures, keys }
}

fn texts(rules: &DuplicateRules) -> Relation {
    let keys = match rules.texts {
        TextRelation::Never => Vec::new(),
        _ => (0..Sketch::BANDS).map(Key::Band).collect(),
    };
    Relation { min_equal: min_equal(rules), rules: rules.clone(), by: By::Texts, keys }
}

/// Least number of equal values that estimates the configured similarity.
fn min_equal(rules: &DuplicateRules) -> u32 {
    let similarity = |equal: u32| {
        // As many values as have to differ do, in the lowest bit of each.
        let differing = (0..64 - equal).fold([0u64; 4], |mut bits, at| {
            bits[at as usize / 16] |= 1 << (at % 16 * 4);
            bits
        });
        Sketch([0; 4]).similarity(&Sketch(differing))
    };
    (0..64).find(|&equal| similarity(equal) >= rules.text_similarity).unwrap_or(64)
}

impl Relation {
    /// Whether two samples are duplicates by this relation.
    fn holds(&self, a: &Print, b: &Print) -> bool {
        let similar = || a.sketch.equal(&b.sketch) >= self.min_equal;
        match self.by {
            By::Pictures => {
                a.pictures == b.pictures
                    && (a.brightness ^ b.brightness).count_ones() <= self.rules.brightness_bits
                    && (a.colour ^ b.colour).count_ones() <= self.rules.colour_bits
                    && match self.rules.pictures {
                        PictureRelation::SameQuestion => a.question == b.question,
                        PictureRelation::SimilarText => similar(),
                        PictureRelation::Always => true,
                        PictureRelation::Never => false,
                    }
            }
            By::Texts => similar(),
        }
    }

    /// What of a print decides about the relation: where it is equal, prints are duplicates of the same ones.
    fn essence(&self, print: &Print) -> (u16, u64, u64, u32, Sketch) {
        let none = Sketch::default();
        match (self.by, self.rules.pictures) {
            (By::Texts, _) => (0, 0, 0, 0, print.sketch),
            (By::Pictures, relation) => {
                let (question, sketch) = match relation {
                    PictureRelation::SameQuestion => (print.question, none),
                    PictureRelation::SimilarText => (0, print.sketch),
                    PictureRelation::Always | PictureRelation::Never => (0, none),
                };
                (print.pictures, print.brightness, print.colour, question, sketch)
            }
        }
    }

    /// Who can be a duplicate by this relation. Those that are alike in essence are joined; one of them stands for all.
    fn members(&self, prints: &[Print], forest: &mut Forest) -> Vec<u32> {
        let concerns = |print: &Print| match self.by {
            By::Pictures => self.rules.pictures != PictureRelation::Never && print.pictures > 0,
            By::Texts => match self.rules.texts {
                TextRelation::WithoutPictures => print.pictures == 0,
                TextRelation::Always => true,
                TextRelation::Never => false,
            },
        };
        let mut members: Vec<u32> =
            (0..prints.len() as u32).filter(|&at| concerns(&prints[at as usize])).collect();
        let essence = |at: &u32| self.essence(&prints[*at as usize]);
        rayon::slice::ParallelSliceMut::par_sort_unstable_by_key(members.as_mut_slice(), |at| {
            (essence(at), *at)
        });
        members.dedup_by(|at, before| {
            let alike = essence(at) == essence(before);
            if alike {
                forest.join(*before, *at);
            }
            alike
        });
        members
    }
}

fn best_of_each(prints: &[Print], mut forest: Forest) -> Vec<u32> {
    let better = |a: u32, b: u32| {
        let key = |at: u32| {
            let print = &prints[at as usize];
            (std::cmp::Reverse(print.rank), print.id, at)
        };
        if key(a) < key(b) { a } else { b }
    };
    let mut best: Vec<u32> = (0..prints.len() as u32).collect();
    for at in 0..prints.len() as u32 {
        let root = forest.root(at) as usize;
        best[root] = better(best[root], at);
    }
    (0..prints.len() as u32).map(|at| best[forest.root(at) as usize]).collect()
}

#[cfg(test)]
mod tests;
