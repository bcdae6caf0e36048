//! The index of a packed data set: which shards hold which packs, and how much there is. It is a part of the
//! [manifest](crate::manifest), which names the data set.
//!
//! Packs are numbered through, shard after shard.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use talkoot_protocol::{digest::BlobRef, manifest::MAX_PERIODS};

use crate::{preprocess::PreprocessOptions, shard::PackRules};

/// Longest sequence that a pack may be, in tokens.
pub const MAX_SEQUENCE_TOKENS: u32 = 1 << 20;

/// A shard and the packs that it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardEntry {
    /// Name and length of the file.
    pub blob: BlobRef,
    /// Number of its first pack.
    pub first_pack: u64,
    /// Packs in it.
    pub packs: u32,
}

/// How much there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Packed sequences.
    pub packs: u64,
    /// Samples in them.
    pub samples: u64,
    /// Tokens, picture tokens included.
    pub tokens: u64,
    /// Tokens that are learnt.
    pub learned_tokens: u64,
    /// Pictures.
    pub images: u64,
}

impl Totals {
    /// Share of the sequences' room that holds tokens, 0 to 1.
    pub fn fill_rate(&self, sequence_tokens: u32) -> f64 {
        let room = self.packs as f64 * f64::from(sequence_tokens);
        if room > 0.0 { self.tokens as f64 / room } else { 0.0 }
    }

    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            packs: self.packs + other.packs,
            samples: self.samples + other.samples,
            tokens: self.tokens + other.tokens,
            learned_tokens: self.learned_tokens + other.learned_tokens,
            images: self.images + other.images,
        }
    }
}

/// What a reader must know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackIndex {
    /// The tokenizer that made the ids.
    pub tokenizer: BlobRef,
    /// Rows that an embedding table needs.
    pub vocab_size: u32,
    /// Id of a picture's token.
    pub image_pad: u32,
    /// Most tokens of a pack.
    pub sequence_tokens: u32,
    /// Fewest pixels of a picture after resizing.
    pub min_pixels: u32,
    /// Most pixels of a picture after resizing.
    pub max_pixels: u32,
    /// How much there is.
    pub totals: Totals,
    /// The shards, in the order of the packs' numbers.
    pub shards: Vec<ShardEntry>,
    /// Packs of each period, in the order of the packs' numbers; empty where the data have no periods. A shard holds packs
    /// of one period.
    pub periods: Vec<u64>,
}

/// An index contradicts itself, or a pack is not in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// Its numbers do not fit one another.
    #[error("the index contradicts itself: {reason}")]
    Contradiction {
        /// What is wrong.
        reason: String,
    },
    /// A pack's number is beyond the last.
    #[error("pack {pack} does not exist, the data set has {packs} packs")]
    NoSuchPack {
        /// The number asked for.
        pack: u64,
        /// How many there are.
        packs: u64,
    },
}

impl PackIndex {
    /// What the packs must keep to.
    pub fn rules(&self) -> PackRules {
        PackRules {
            sequence_tokens: self.sequence_tokens,
            vocab_size: self.vocab_size,
            image_pad: self.image_pad,
            preprocess: PreprocessOptions {
                min_pixels: self.min_pixels,
                max_pixels: self.max_pixels,
                ..PreprocessOptions::default()
            },
        }
    }

    /// Checks that the numbers fit one another.
    ///
    /// # Errors
    ///
    /// [`IndexError::Contradiction`].
    pub fn check(&self) -> Result<(), IndexError> {
        let wrong = |reason: String| Err(IndexError::Contradiction { reason });
        if self.sequence_tokens == 0 || self.sequence_tokens > MAX_SEQUENCE_TOKENS {
            return wrong(format!(
                "sequence_tokens is {}, it must be 1 to {MAX_SEQUENCE_TOKENS}",
                self.sequence_tokens
            ));
        }
        if self.image_pad >= self.vocab_size {
            return wrong(format!("image_pad {} is not below {}", self.image_pad, self.vocab_size));
        }
        let mut packs = 0u64;
        for shard in &self.shards {
            if shard.packs == 0 {
                return wrong("a shard has no packs".into());
            }
            if shard.first_pack != packs {
                return wrong(format!("a shard begins with pack {} after {packs}", shard.first_pack));
            }
            packs += u64::from(shard.packs);
        }
        if packs != self.totals.packs {
            return wrong(format!("the shards hold {packs} packs, the totals say {}", self.totals.packs));
        }
        self.check_periods()
    }

    fn check_periods(&self) -> Result<(), IndexError> {
        let wrong = |reason: String| Err(IndexError::Contradiction { reason });
        if self.periods.is_empty() {
            return Ok(());
        }
        if self.periods.len() > MAX_PERIODS {
            return wrong(format!("it has {} periods, at most {MAX_PERIODS} are taken", self.periods.len()));
        }
        let mut end = 0u64;
        for (number, &packs) in self.periods.iter().enumerate() {
            if packs == 0 {
                return wrong(format!("period {number} has no packs"));
            }
            end = end.saturating_add(packs);
            let begins_shard = self.shards.binary_search_by_key(&end, |shard| shard.first_pack).is_ok();
            if end != self.totals.packs && !begins_shard {
                return wrong(format!(
                    "period {number} ends with pack {end}, within a shard or after the last"
                ));
            }
        }
        if end != self.totals.packs {
            return wrong(format!("the periods hold {end} packs, the totals say {}", self.totals.packs));
        }
        Ok(())
    }

    /// Where a pack is: the shard's place in [`Self::shards`] and the pack's place in the shard.
    ///
    /// # Errors
    ///
    /// [`IndexError::NoSuchPack`].
    pub fn locate(&self, pack: u64) -> Result<(usize, u32), IndexError> {
        let after = self.shards.partition_point(|shard| shard.first_pack <= pack);
        let found = after.checked_sub(1).map(|at| (at, pack - self.shards[at].first_pack));
        match found {
            Some((at, place)) if place < u64::from(self.shards[at].packs) => Ok((at, place as u32)),
            _ => Err(IndexError::NoSuchPack { pack, packs: self.totals.packs }),
        }
    }

    /// The shards that hold these packs, each once, in the order of the index: what a member must fetch.
    ///
    /// # Errors
    ///
    /// [`IndexError::NoSuchPack`].
    pub fn shards_of(&self, packs: impl IntoIterator<Item = u64>) -> Result<Vec<BlobRef>, IndexError> {
        let places = packs
            .into_iter()
            .map(|pack| self.locate(pack).map(|(shard, _)| shard))
            .collect::<Result<BTreeSet<_>, _>>()?;
        Ok(places.into_iter().map(|at| self.shards[at].blob).collect())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn index() -> PackIndex {
        let shard = |n: u8, first_pack, packs| ShardEntry { blob: BlobRef::of(&[n; 9]), first_pack, packs };
        PackIndex {
            tokenizer: BlobRef::of(b"tokenizer"),
            vocab_size: 500,
            image_pad: 498,
            sequence_tokens: 256,
            min_pixels: 3136,
            max_pixels: 12_544,
            totals: Totals { packs: 6, samples: 20, tokens: 1500, learned_tokens: 200, images: 20 },
            shards: vec![shard(1, 0, 3), shard(2, 3, 1), shard(3, 4, 2)],
            periods: Vec::new(),
        }
    }

    #[test]
    fn packs_are_found() {
        let index = index();
        assert_eq!(index.locate(0), Ok((0, 0)));
        assert_eq!(index.locate(2), Ok((0, 2)));
        assert_eq!(index.locate(3), Ok((1, 0)));
        assert_eq!(index.locate(5), Ok((2, 1)));
        assert_eq!(index.locate(6), Err(IndexError::NoSuchPack { pack: 6, packs: 6 }));
        let shards = index.shards_of([5, 0, 2, 4]).unwrap();
        assert_eq!(shards, [index.shards[0].blob, index.shards[2].blob]);
        let empty = PackIndex { totals: Totals::default(), shards: vec![], ..index };
        assert_eq!(empty.locate(0), Err(IndexError::NoSuchPack { pack: 0, packs: 0 }));
    }

    #[test]
    fn an_index_that_contradicts_itself_is_refused() {
        let refused = |change: fn(&mut PackIndex)| {
            let mut index = index();
            change(&mut index);
            index.check().unwrap_err().to_string()
        };
        assert!(refused(|i| i.totals.packs = 7).contains("hold 6 packs"));
        assert!(refused(|i| i.sequence_tokens = 0).contains("sequence_tokens is 0"));
        assert!(refused(|i| i.image_pad = 500).contains("image_pad 500"));
        assert!(refused(|i| i.shards[1].packs = 0).contains("no packs"));
        assert!(refused(|i| i.shards[2].first_pack = 5).contains("begins with pack 5 after 4"));
        assert_eq!(index().check(), Ok(()));
        assert!(refused(|i| i.periods = vec![4, 0, 2]).contains("period 1 has no packs"));
        assert!(refused(|i| i.periods = vec![2, 4]).contains("period 0 ends with pack 2, within a shard"));
        assert!(refused(|i| i.periods = vec![4, 3]).contains("period 1 ends with pack 7"));
        assert!(refused(|i| i.periods = vec![3, 1]).contains("the periods hold 4 packs"));
        assert!(refused(|i| i.periods = vec![1; 257]).contains("257 periods"));
        for periods in [vec![6], vec![4, 2], vec![3, 1, 2]] {
            assert_eq!(PackIndex { periods, ..index() }.check(), Ok(()));
        }
    }
}
