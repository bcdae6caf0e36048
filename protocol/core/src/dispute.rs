//! Where two accounts of the same work part: the first step that one of them made up, found with few questions.
//!
//! ```text
//! position   0            1            2      ..      steps
//! said       the state    step 1 and   step 2         the last step
//!            before       the state
//!                         after it
//! ```
//! The question is always *do you agree on everything up to and including this position?* Its answers can only go from
//! yes to no, so that halving finds the first position where they do: `ceil(log2(steps + 1))` questions, 7 for a hundred
//! steps and 9 for five hundred. It makes no difference whether the answers come from two files or from somebody far away.

/// A search for the first position at which two accounts differ.
///
/// ```
/// use talkoot_protocol::dispute::Bisection;
///
/// // two accounts of 100 steps that part at the 42nd
/// let mut search = Bisection::over(100);
/// let mut questions = 0;
/// while let Some(position) = search.question() {
///     search.answer(position < 42);
///     questions += 1;
/// }
/// assert_eq!((search.parting(), questions), (Some(42), 7));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bisection {
    /// Positions from 0 on that are known to be agreed on.
    agreed: u32,
    /// The lowest position that is known to differ.
    differs: u32,
}

impl Bisection {
    /// A search over the positions 0 to `last`, by two accounts that are known to differ as a whole.
    pub const fn over(last: u32) -> Self {
        Self { agreed: 0, differs: last }
    }

    /// The position to ask about next; none once [`Self::parting`] is known.
    pub const fn question(&self) -> Option<u32> {
        if self.agreed < self.differs {
            Some(self.agreed.saturating_add(self.differs.saturating_sub(self.agreed) / 2))
        } else {
            None
        }
    }

    /// Takes the answer to [`Self::question`]: whether the accounts agree on everything up to and including it.
    /// Without a question nothing happens.
    pub const fn answer(&mut self, agree: bool) {
        match self.question() {
            Some(position) if agree => self.agreed = position.saturating_add(1),
            Some(position) => self.differs = position,
            None => {}
        }
    }

    /// The first position at which the accounts differ, once no question is left.
    pub const fn parting(&self) -> Option<u32> {
        if self.agreed < self.differs { None } else { Some(self.differs) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parting_is_found_with_as_many_questions_as_the_logarithm_says() {
        for last in [0u32, 1, 2, 3, 7, 8, 30, 100, 500, 4_096] {
            let most = (u64::from(last) + 1).next_power_of_two().ilog2();
            for parting in 0..=last {
                let mut search = Bisection::over(last);
                let mut questions = 0;
                while let Some(position) = search.question() {
                    assert_eq!(search.parting(), None);
                    search.answer(position < parting);
                    questions += 1;
                }
                assert_eq!(search.parting(), Some(parting), "of {last}");
                assert!(questions <= most, "{questions} questions over {last}");
                search.answer(true);
                assert_eq!(
                    search.parting(),
                    Some(parting),
                    "an answer that nobody asked for changes nothing"
                );
            }
        }
    }

    #[test]
    fn a_hundred_steps_take_seven_questions_and_the_largest_number_ends() {
        let mut search = Bisection::over(u32::MAX);
        let mut questions = 0;
        while search.question().is_some() {
            search.answer(true);
            questions += 1;
        }
        assert_eq!((search.parting(), questions), (Some(u32::MAX), 32));
    }
}
