//! Cheap second signals about a contribution that nobody has executed again: reasons to look, never verdicts.
//!
//! | signal | what it notices | costs |
//! |---|---|---|
//! | advantage | work that was not done on the packs it was to be done on | four passes over a few packs |
//! | norm | too little or too much of it | reading the blob |
//! | overlap | somebody else's | reading two blobs |
//!
//! Who trained on some packs improves the loss on them more than on others. The **advantage** is that difference: the loss that
//! the contribution alone, subtracted from the start state, takes off a few of its assigned packs, less what it takes off as many
//! packs drawn at random (the assigned-against-random test of Templar's Gauntlet, there a score, here a hint).

use talkoot_protocol::{assignment::Work, digest::Digest, event::Signal, manifest::Manifest};
use talkoot_trainer::{
    aggregate::{measure, overlap},
    batch::{BatchSource, Pack},
    config::ModelConfig,
    contribution::Contribution,
    evaluate::mean_loss,
    inner::InnerError,
    state::State,
};

use crate::{
    ExecutionError,
    layout::{codec_settings, layout_of},
};

/// Packs of either kind that losses are measured on: enough that one odd pack does not decide.
const PACKS: usize = 4;

/// From this share of common entries on, a contribution is nearly another one; unrelated ones share `k / chunk`, honest ones of the
/// same model more.
const NEARLY_A_COPY: f64 = 0.8;

/// Who learns from its packs learns at least so much of what it learns for others.
const LEAST_OF_OTHERS: f64 = 0.5;

/// And so much of what the best of the round does: seats differ in steps, and packs in what there is to learn.
const LEAST_OF_BEST: f64 = 0.2;

/// Norms that a median says something about.
const FEWEST_NORMS: usize = 3;

/// Least and greatest norm that is not odd, as a share of the median; wider than the gates of the aggregation need be.
const NORMS: (f64, f64) = (0.25, 3.0);

/// What is known of a contribution without executing it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Signals {
    /// Loss that it takes off its assigned packs, in nats a token.
    pub assigned: f64,
    /// Loss that it takes off packs drawn at random.
    pub random: f64,
    /// Euclidean norm of what was sent.
    pub norm: f64,
    /// The greatest share of its entries that it has in common with one other of the round.
    pub overlap: f64,
}

impl Signals {
    /// By how much it helps more where it was to be trained.
    pub fn advantage(&self) -> f64 {
        self.assigned - self.random
    }

    /// What is odd about it, if anything, next to all contributions of its round that are at hand. Bounds are wide: a suspicion
    /// costs every verifier a replay.
    pub fn oddity(&self, all: &[Self]) -> Option<Signal> {
        if self.overlap >= NEARLY_A_COPY {
            return Some(Signal::Overlap);
        }
        // Noise gains next to nothing, and that may be more than nothing.
        let best = all.iter().map(|other| other.assigned).fold(0.0, f64::max);
        let least = (self.random * LEAST_OF_OTHERS).max(best * LEAST_OF_BEST);
        if self.assigned <= 0.0 || self.assigned < least {
            return Some(Signal::Gain);
        }
        let mut norms: Vec<f64> = all.iter().map(|other| other.norm).collect();
        norms.sort_by(f64::total_cmp);
        let usual = norms.get(norms.len() / 2).copied().filter(|_| norms.len() >= FEWEST_NORMS)?;
        let is_usual = (usual * NORMS.0..=usual * NORMS.1).contains(&self.norm);
        (!is_usual).then_some(Signal::Norm)
    }
}

/// A contribution to be looked at.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    /// The rules.
    pub manifest: &'a Manifest,
    /// The model.
    pub config: &'a ModelConfig,
    /// Place of the stage in the manifest.
    pub stage: u32,
    /// All weights at the start of the round.
    pub start: &'a State,
    /// What its member was to do.
    pub work: &'a Work,
    /// The contribution.
    pub contribution: &'a [u8],
    /// The other contributions of the round.
    pub others: &'a [&'a [u8]],
    /// What the random packs follow from; a verifier's own, so that nobody can train on them beforehand.
    pub seed: u64,
}

impl Look<'_> {
    /// The packs that losses are measured on: some that were assigned, and as many drawn at random.
    ///
    /// # Errors
    ///
    /// [`ExecutionError`] when the terms have no such stage.
    pub fn packs(&self) -> Result<(Vec<u64>, Vec<u64>), ExecutionError> {
        let (_, data) =
            self.manifest.stage(self.stage).ok_or(ExecutionError::NoSuchStage { stage: self.stage })?;
        let assigned: Vec<u64> = self.work.steps.iter().flatten().copied().collect();
        // Spread over the round: who stopped half-way lacks the later ones.
        let spread = assigned.len().div_ceil(PACKS).max(1);
        let assigned: Vec<u64> = assigned.into_iter().rev().step_by(spread).collect();
        let random = (0..assigned.len() as u64).map(|at| self.draw(at, data.packs)).collect();
        Ok((assigned, random))
    }

    /// Measures all signals with packs from `source`.
    ///
    /// # Errors
    ///
    /// [`ExecutionError`] when a pack cannot be read, or the contribution is none of this stage.
    pub fn measure(&self, source: &dyn BatchSource) -> Result<Signals, ExecutionError> {
        let (stage, _) =
            self.manifest.stage(self.stage).ok_or(ExecutionError::NoSuchStage { stage: self.stage })?;
        let layout = layout_of(self.config, stage)?;
        let settings = codec_settings(&self.manifest.terms.contribution);
        let (assigned, random) = self.packs()?;
        let moved = self.moved()?;
        let gain = |packs: &[u64]| -> Result<f64, ExecutionError> {
            let packs = read(source, packs)?;
            Ok(self.loss(self.start, &packs)? - self.loss(&moved, &packs)?)
        };
        let mut most = 0.0f64;
        for other in self.others {
            most = most.max(overlap(other, self.contribution, &settings, &layout)?.fraction());
        }
        Ok(Signals {
            assigned: gain(&assigned)?,
            random: gain(&random)?,
            norm: measure(self.contribution, &settings, &layout)?.norm,
            overlap: most,
        })
    }

    /// The start state less the contribution.
    fn moved(&self) -> Result<State, ExecutionError> {
        let (stage, _) =
            self.manifest.stage(self.stage).ok_or(ExecutionError::NoSuchStage { stage: self.stage })?;
        let layout = layout_of(self.config, stage)?;
        let settings = codec_settings(&self.manifest.terms.contribution);
        let contribution = Contribution::open(self.contribution, &settings, &layout)?;
        let mut state = self.start.clone();
        let mut missing = None;
        contribution.visit(|view| {
            let (name, _) = &layout.tensors()[view.chunk.tensor];
            let Some(tensor) = state.tensors.get_mut(name) else {
                missing.get_or_insert_with(|| name.clone());
                return;
            };
            let values = &mut tensor.values[view.chunk.start as usize..];
            for (at, value) in view.positions.iter().zip(view.values) {
                values[usize::from(*at)] -= value;
            }
        })?;
        match missing {
            Some(name) => Err(ExecutionError::MissingTensor { name }),
            None => Ok(state),
        }
    }

    fn loss(&self, state: &State, packs: &[Pack]) -> Result<f64, ExecutionError> {
        mean_loss(self.config, state, packs)
            .map_err(|error| ExecutionError::Claim { reason: error.to_string() })
    }

    fn draw(&self, at: u64, packs: u64) -> u64 {
        let member = self.work.member.as_bytes().as_slice();
        let hash = Digest::of(&[member, &self.seed.to_le_bytes(), &at.to_le_bytes()].concat());
        let mut word = [0; 8];
        word.copy_from_slice(&hash.as_bytes()[..8]);
        u64::from_le_bytes(word) % packs.max(1)
    }
}

fn read(source: &dyn BatchSource, packs: &[u64]) -> Result<Vec<Pack>, ExecutionError> {
    let unreadable = |source| ExecutionError::Inner(InnerError::Batch { step: 0, source });
    packs.iter().map(|pack| source.pack(*pack).map_err(unreadable)).collect()
}

/// How well a number tells honest from not: the probability that it is larger for somebody from `suspicious` than for somebody
/// from `honest`, ties half (the area under the ROC curve). One half tells nothing, 1 everything.
pub fn separation(honest: &[f64], suspicious: &[f64]) -> f64 {
    let pairs = honest.len() * suspicious.len();
    if pairs == 0 {
        return 0.5;
    }
    let beats = |one: f64, other: f64| match one.total_cmp(&other) {
        std::cmp::Ordering::Greater => 1.0,
        std::cmp::Ordering::Equal => 0.5,
        std::cmp::Ordering::Less => 0.0,
    };
    let sum: f64 =
        suspicious.iter().flat_map(|one| honest.iter().map(move |other| beats(*one, *other))).sum();
    sum / pairs as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_oddity_is_told_by_its_signal_and_honest_work_has_none() {
        let honest = Signals { assigned: 0.02, random: 0.015, norm: 1.0, overlap: 0.4 };
        let all = [0.8, 1.0, 1.1, 1.2].map(|norm| Signals { norm, ..honest });
        assert_eq!(honest.oddity(&all), None);
        assert_eq!(Signals { assigned: -0.001, random: -0.01, ..honest }.oddity(&all), Some(Signal::Gain));
        assert_eq!(
            Signals { assigned: 0.005, ..honest }.oddity(&all),
            Some(Signal::Gain),
            "less than elsewhere"
        );
        let noise = Signals { assigned: 0.003, random: 0.0, ..honest };
        assert_eq!(noise.oddity(&all), Some(Signal::Gain), "less than others");
        assert_eq!(noise.oddity(&[noise]), None, "there is nobody to be held against");
        assert_eq!(Signals { norm: 0.2, ..honest }.oddity(&all), Some(Signal::Norm));
        assert_eq!(Signals { norm: 3.5, ..honest }.oddity(&all), Some(Signal::Norm));
        assert_eq!(Signals { norm: 3.5, ..honest }.oddity(&all[..2]), None, "two have no usual norm");
        assert_eq!(Signals { norm: f64::NAN, ..honest }.oddity(&all), Some(Signal::Norm));
        assert_eq!(Signals { overlap: 0.95, ..honest }.oddity(&all), Some(Signal::Overlap));
    }

    #[test]
    fn separation_is_the_share_of_pairs_in_the_right_order() {
        assert_eq!(separation(&[1.0, 2.0], &[3.0, 4.0]), 1.0);
        assert_eq!(separation(&[3.0, 4.0], &[1.0, 2.0]), 0.0);
        assert_eq!(separation(&[1.0, 3.0], &[2.0, 2.0]), 0.5);
        assert_eq!(separation(&[1.0], &[1.0]), 0.5);
        assert_eq!(separation(&[], &[1.0]), 0.5);
    }
}
