//! What liars would say, as near to the truth as each of them gets.

use std::ops::ControlFlow;

use talkoot_execution::{Executed, Job, execute};
use talkoot_protocol::assignment::Work;

use super::{
    CalibrationError,
    rounds::{Rehearsal, Seat},
};

/// A way to claim what was not done. None of them lies more than it has to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// Half of the steps are done, and all are claimed; the trace's other half repeats the first.
    Half,
    /// All but the last step are done.
    AllButOne,
    /// All is done, on other packs.
    OtherData,
    /// All is done, from the weights of the round before.
    OldStart,
    /// Another member's contribution is sent again, under the own name and with the other's trace.
    Copied,
    /// The last step is done on other packs, and the trace tells the loss that it would have had.
    PoisonedStep,
}

impl Lie {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Half, Self::AllButOne, Self::OtherData, Self::OldStart, Self::Copied, Self::PoisonedStep];

    /// Its name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Half => "half of the steps",
            Self::AllButOne => "all steps but the last",
            Self::OtherData => "other data",
            Self::OldStart => "the weights before",
            Self::Copied => "another member's",
            Self::PoisonedStep => "one step on other data",
        }
    }
}

impl Rehearsal<'_> {
    /// What the liar on a seat claims; none where this lie cannot be told: a single step cannot be halved, the first
    /// round has no round before, and a lonely member nobody to copy.
    pub(super) fn lie(
        &self,
        lie: Lie,
        seats: &[Seat],
        at: usize,
    ) -> Result<Option<Executed>, CalibrationError> {
        let seat = &seats[at];
        let steps = seat.work.steps.len();
        match lie {
            Lie::Half | Lie::AllButOne if steps < 2 => Ok(None),
            Lie::Half => self.fewer(seat, steps.div_ceil(2)).map(Some),
            Lie::AllButOne => self.fewer(seat, steps - 1).map(Some),
            Lie::OtherData => {
                let others = self.moved(&seat.work, 0..steps);
                self.execute(&self.job(&others, seat.feedback_in.as_deref())).map(Some)
            }
            Lie::OldStart => match &self.old_start {
                Some(start) => {
                    let job = self.job(&seat.work, seat.feedback_in.as_deref());
                    self.execute(&Job { start, ..job }).map(Some)
                }
                None => Ok(None),
            },
            Lie::Copied => {
                let other = &seats[(at + 1) % seats.len()];
                Ok((seats.len() > 1).then(|| other.exact.clone()))
            }
            Lie::PoisonedStep => {
                let others = self.moved(&seat.work, steps.saturating_sub(1)..steps);
                let mut poisoned = self.execute(&self.job(&others, seat.feedback_in.as_deref()))?;
                // The worst case: the liar knows what the honest step would have shown, so that the trace gives nothing away.
                poisoned.trace.steps.clone_from(&seat.exact.trace.steps);
                Ok(Some(poisoned))
            }
        }
    }

    fn execute(&self, job: &Job<'_>) -> Result<Executed, CalibrationError> {
        Ok(execute(job, self.of.packs, &mut |_, _| ControlFlow::Continue(()))?)
    }

    /// The first `done` steps, told as all of them; their records are claimed again for those that are missing, with the
    /// right numbers of tokens, which everybody knows.
    fn fewer(&self, seat: &Seat, done: usize) -> Result<Executed, CalibrationError> {
        let job = self.job(&seat.work, seat.feedback_in.as_deref());
        let mut lied = self.execute(&Job { steps: u32::try_from(done).unwrap_or(u32::MAX), ..job })?;
        let told: Vec<_> = lied.trace.steps.iter().cycle().copied().take(seat.work.steps.len()).collect();
        lied.trace.steps = told
            .into_iter()
            .zip(&seat.exact.trace.steps)
            .map(|(told, true_one)| talkoot_trainer::trace::StepRecord {
                tokens: true_one.tokens,
                learned_tokens: true_one.learned_tokens,
                ..told
            })
            .collect();
        Ok(lied)
    }

    /// The same work with the packs of some steps moved on by half of the data set.
    fn moved(&self, work: &Work, which: std::ops::Range<usize>) -> Work {
        let packs = self.of.manifest.stage(self.of.stage).map_or(1, |(_, data)| data.packs);
        let mut moved = work.clone();
        for pack in moved.steps[which].iter_mut().flatten() {
            *pack = (*pack + packs / 2 + 1) % packs;
        }
        moved
    }
}
