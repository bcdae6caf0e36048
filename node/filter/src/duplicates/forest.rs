//! What hangs together: disjoint sets as trees of parents (Galler and Fischer 1964), four bytes a member.

/// Sets of the numbers below some end, at first one each.
#[derive(Debug, Clone)]
pub struct Forest(Vec<u32>);

impl Forest {
    /// `members` sets of one.
    pub fn new(members: usize) -> Self {
        Self((0..members as u32).collect())
    }

    /// The least member of the set of `at`.
    ///
    /// # Panics
    ///
    /// When there is no such member.
    pub fn root(&mut self, mut at: u32) -> u32 {
        while self.0[at as usize] != at {
            // Every other one is hung higher, so that paths get short.
            let above = self.0[self.0[at as usize] as usize];
            self.0[at as usize] = above;
            at = above;
        }
        at
    }

    /// Makes one set of two; tells whether they were two.
    ///
    /// # Panics
    ///
    /// When there is no such member.
    pub fn join(&mut self, a: u32, b: u32) -> bool {
        let (a, b) = (self.root(a), self.root(b));
        // The lesser is the root, so the trees do not depend on the order of joining.
        self.0[a.max(b) as usize] = a.min(b);
        a != b
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn sets_are_what_hangs_together(
            members in 1usize..40,
            joins in prop::collection::vec((0u32..40, 0u32..40), 0..60),
        ) {
            let end = members as u32;
            let joins: Vec<(u32, u32)> = joins.into_iter().map(|(a, b)| (a % end, b % end)).collect();
            let mut forest = Forest::new(members);
            // By hand: a label each; joining relabels.
            let mut labels: Vec<u32> = (0..end).collect();
            for &(a, b) in &joins {
                let (from, to) = (labels[a as usize], labels[b as usize]);
                prop_assert_eq!(forest.join(a, b), from != to);
                labels.iter_mut().filter(|label| **label == from).for_each(|label| *label = to);
            }
            let mut backwards = Forest::new(members);
            joins.iter().rev().for_each(|&(a, b)| { backwards.join(b, a); });
            for a in 0..end {
                prop_assert_eq!(forest.root(a), backwards.root(a));
                let least = (0..end).find(|&b| labels[b as usize] == labels[a as usize]);
                prop_assert_eq!(Some(forest.root(a)), least);
            }
        }
    }
}
