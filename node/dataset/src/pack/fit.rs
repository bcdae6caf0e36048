//! Which lengths share a pack: best fit decreasing over the histogram of lengths.
//!
//! Samples of one length are interchangeable, and so are packs with the same lengths in them. So the rule is worked out
//! for *kinds* of packs and how many there are of each: the time depends on the number of distinct lengths, not on the
//! number of samples.
//!
//! ```text
//! longest length first; each sample goes into the fullest pack that has room,
//!     among equally full ones the one with the least attention cost
//! with a balance, samples from that length on are spread first:
//!     each into the pack with the least attention cost that has room, over as many packs as all tokens fill
//! ```
//!
//! Source: Johnson 1973 for the rule; that lengths rather than samples are packed is ours. Which samples get the
//! places is dealt afterwards ([`super::deal`]).

use std::collections::BTreeMap;

/// What a pack may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FitRules {
    /// Most tokens of a pack.
    pub capacity: u32,
    /// Most samples of a pack.
    pub max_segments: u32,
    /// Samples of so many tokens or more are spread evenly by attention cost before shorter ones fill up; 0, or more
    /// than the capacity, spreads none.
    pub balance: u32,
}

impl Default for FitRules {
    /// Packs of 8,192 tokens and at most 256 samples; samples of 1,024 tokens or more are spread.
    fn default() -> Self {
        Self { capacity: 8_192, max_segments: 256, balance: 1_024 }
    }
}

/// Packs that hold the same lengths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kind {
    /// Lengths in tokens, falling, and how many samples of each.
    pub lengths: Vec<(u32, u32)>,
    /// How many packs are of this kind.
    pub packs: u64,
}

impl Kind {
    /// Tokens of one pack.
    pub fn tokens(&self) -> u64 {
        self.lengths.iter().map(|&(length, times)| u64::from(length) * u64::from(times)).sum()
    }

    /// Samples of one pack.
    pub fn segments(&self) -> u32 {
        self.lengths.iter().map(|&(_, times)| times).sum()
    }

    /// Attention cost of one pack: the sum of its squared lengths.
    pub fn cost(&self) -> u64 {
        self.lengths.iter().map(|&(length, times)| u64::from(length).pow(2) * u64::from(times)).sum()
    }
}

/// How a pack got its lengths: one more length, some times, on top of an earlier state. Node 0 is the empty pack.
struct Node {
    parent: u32,
    length: u32,
    times: u32,
    segments: u32,
}

/// A group of packs that are alike: room, attention cost, node.
type Group = (u32, u64, u32);

struct Fitter {
    rules: FitRules,
    nodes: Vec<Node>,
    /// Packs that can take more, and how many of each group.
    open: BTreeMap<Group, u64>,
    /// Packs that are full or have all the samples they may have.
    closed: Vec<(u32, u64)>,
}

/// Packs a histogram; `counts[length]` is the number of samples of `length` tokens.
///
/// Every sample gets exactly one place. Lengths of 0 and above the capacity have no pack to be in: they MUST have been
/// taken out, and are left out here.
pub fn fit(counts: &[u64], rules: FitRules) -> Vec<Kind> {
    let empty = Node { parent: 0, length: 0, times: 0, segments: 0 };
    let mut fitter = Fitter { rules, nodes: vec![empty], open: BTreeMap::new(), closed: Vec::new() };
    let count = |length: u32| counts.get(length as usize).copied().unwrap_or(0);
    let nothing = rules.capacity + 1;
    let spread_from = if rules.balance == 0 { nothing } else { rules.balance.min(nothing) };
    if spread_from < nothing {
        let tokens: u64 = (1..=rules.capacity).map(|length| u64::from(length) * count(length)).sum();
        fitter.spread((spread_from..=rules.capacity).rev().map(|length| (length, count(length))), tokens);
    }
    for length in (1..spread_from).rev() {
        fitter.place(length, count(length));
    }
    fitter.kinds()
}

impl Fitter {
    /// Spreads long samples over as many packs as `tokens` fill, each into the cheapest that has room.
    fn spread(&mut self, lengths: impl Iterator<Item = (u32, u64)>, tokens: u64) {
        // Ordered by cost; cost and node tell the room.
        let mut by_cost: BTreeMap<(u64, u32), (u32, u64)> = BTreeMap::new();
        let packs = tokens / u64::from(self.rules.capacity);
        if packs > 0 {
            by_cost.insert((0, 0), (self.rules.capacity, packs));
        }
        for (length, mut count) in lengths {
            while count > 0 {
                let cheapest = by_cost.iter().find(|&(_, &(room, _))| room >= length);
                let (&(cost, node), &(room, packs)) =
                    cheapest.unwrap_or((&(0, 0), &(self.rules.capacity, count)));
                by_cost.remove(&(cost, node));
                let placed = packs.min(count);
                self.add((room, cost, node), length, 1, placed);
                count -= placed;
                if packs > placed {
                    by_cost.insert((cost, node), (room, packs - placed));
                }
                // What `add` has opened is moved to where the next cheapest is looked for.
                by_cost.extend(
                    std::mem::take(&mut self.open)
                        .into_iter()
                        .map(|((room, cost, node), packs)| ((cost, node), (room, packs))),
                );
            }
        }
        self.open =
            by_cost.into_iter().map(|((cost, node), (room, packs))| ((room, cost, node), packs)).collect();
    }

    /// Gives `count` samples of `length` their places.
    fn place(&mut self, length: u32, mut count: u64) {
        while count > 0 {
            let fullest = self.open.range((length, 0, 0)..).next().map(|(group, _)| *group);
            count -= match fullest {
                Some(group) => self.fill(group, length, count),
                None => self.begin(length, count),
            };
        }
    }

    /// Puts samples into packs of a group; tells how many.
    ///
    /// A pack that has taken one is now the fullest with room, so it takes all that fit before the next.
    fn fill(&mut self, group: Group, length: u32, count: u64) -> u64 {
        let (room, _, node) = group;
        let Some(packs) = self.open.remove(&group) else { return 0 };
        let free = self.rules.max_segments - self.nodes[node as usize].segments;
        let times = (room / length).min(free);
        let whole = packs.min(count / u64::from(times));
        self.add(group, length, times, whole);
        let mut placed = whole * u64::from(times);
        let mut left = packs - whole;
        let rest = (count - placed).min(u64::from(times) - 1) as u32;
        if left > 0 && rest > 0 {
            self.add(group, length, rest, 1);
            placed += u64::from(rest);
            left -= 1;
        }
        if left > 0 {
            self.open.insert(group, left);
        }
        placed
    }

    /// Begins new packs for `count` samples that fit nowhere.
    fn begin(&mut self, length: u32, count: u64) -> u64 {
        let empty = (self.rules.capacity, 0, 0);
        let times = (self.rules.capacity / length).min(self.rules.max_segments);
        let whole = count / u64::from(times);
        self.add(empty, length, times, whole);
        let rest = (count % u64::from(times)) as u32;
        self.add(empty, length, rest, u64::from(rest > 0));
        count
    }

    /// Makes `packs` packs of a group into packs with `times` samples of `length` more.
    fn add(&mut self, (room, cost, parent): Group, length: u32, times: u32, packs: u64) {
        if packs == 0 || times == 0 {
            return;
        }
        let segments = self.nodes[parent as usize].segments + times;
        let node = self.nodes.len() as u32;
        self.nodes.push(Node { parent, length, times, segments });
        let room = room - length * times;
        if room == 0 || segments >= self.rules.max_segments {
            self.closed.push((node, packs));
        } else {
            self.open.insert((room, cost + u64::from(length).pow(2) * u64::from(times), node), packs);
        }
    }

    fn kinds(self) -> Vec<Kind> {
        let open = self.open.iter().map(|(&(_, _, node), &packs)| (node, packs));
        // Packs that were meant to be filled and were not needed are none.
        let begun = |&(node, _): &(u32, u64)| node != 0;
        let mut all: Vec<(u32, u64)> = open.chain(self.closed.iter().copied()).filter(begun).collect();
        all.sort_unstable();
        all.into_iter().map(|(node, packs)| Kind { lengths: self.lengths(node), packs }).collect()
    }

    fn lengths(&self, mut node: u32) -> Vec<(u32, u32)> {
        let mut lengths: Vec<(u32, u32)> = Vec::new();
        while node != 0 {
            let Node { parent, length, times, .. } = self.nodes[node as usize];
            match lengths.last_mut() {
                Some((same, more)) if *same == length => *more += times,
                _ => lengths.push((length, times)),
            }
            node = parent;
        }
        lengths.reverse();
        lengths
    }
}

#[cfg(test)]
mod tests;
