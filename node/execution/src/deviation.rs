//! How far two executions of the same work are apart, where they need not agree to the last bit.
//!
//! What was sent is compared as a whole, not as it was sent: which entries of a chunk are the largest hangs on a hair's
//! breadth, so two honest contributions may differ in many entries. A contribution and the error feedback that it leaves add
//! up to everything that a round learnt and everything that was carried into it; less what was carried in, that is the
//! pseudo-gradient, and it moves as little as the arithmetic does.
//!
//! ```text
//! sum             = contribution + feedback_out                      exactly what the encoder was given
//! pseudo-gradient = sum - decay x feedback_in
//! ```
//! The sum is also what tells whether a contribution is the encoding of what it claims: encoding it again has to give the
//! same bytes, whatever the class. Otherwise noise could be sent, and a buffer left that makes up for it.

use rayon::prelude::*;
use talkoot_protocol::{
    event::Deviation,
    manifest::{InnerState, Manifest, Tolerance},
};
use talkoot_trainer::{
    config::ModelConfig,
    contribution::{self, CodecSettings, Contribution, ErrorFeedback, Layout, Origin},
    moments::{Factors, ParameterFactors, matrix_shapes},
    trace::StepRecord,
};

use crate::{
    ExecutionError,
    layout::{codec_settings, layout_of},
};

/// A tensor whose entries moved less than this share of what all entries moved on average is held against that: its own
/// movement is mostly rounding.
const QUIET: f64 = 0.01;

/// Codes of a mean second moment to a doubling: two bits of mantissa.
const CODES_PER_DOUBLING: f64 = 4.0;

/// The blobs of an execution that say what it learnt.
#[derive(Debug, Clone, Copy)]
pub struct Learnt<'a> {
    /// The encoded pseudo-gradient.
    pub contribution: &'a [u8],
    /// The error-feedback buffer after the round.
    pub feedback_out: &'a [u8],
    /// Loss and gradient norm of every step.
    pub steps: &'a [StepRecord],
}

/// How far two executions are apart; the numbers are those of [`Tolerance`].
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Distances {
    /// Norm of the difference of the pseudo-gradients, as a share of the replayed one's.
    pub distance: f64,
    /// One minus the cosine between them.
    pub angle: f64,
    /// The largest distance of any tensor.
    pub tensor_distance: f64,
    /// The largest angle of any tensor.
    pub tensor_angle: f64,
    /// The largest difference of a step's losses, in nats a token.
    pub loss: f64,
    /// The largest difference of a step's gradient norms, as a share of the replayed one.
    pub gradient_norm: f64,
    /// The largest difference of a mean second moment, in doublings.
    pub moments: f64,
}

impl Distances {
    /// Names of the numbers, as in the manifest.
    pub const NAMES: [&str; 7] =
        ["distance", "angle", "tensor_distance", "tensor_angle", "loss", "gradient_norm", "moments"];

    /// The numbers, in the order of [`Self::NAMES`].
    pub const fn numbers(&self) -> [f64; 7] {
        let Self { distance, angle, tensor_distance, tensor_angle, loss, gradient_norm, moments } = *self;
        [distance, angle, tensor_distance, tensor_angle, loss, gradient_norm, moments]
    }

    /// The numbers as the ledger holds them: in millionths, rounded up.
    pub fn in_millionths(&self) -> Deviation {
        // saturating, also for what is infinite
        let [distance, angle, tensor_distance, tensor_angle, loss, gradient_norm, moments] =
            self.numbers().map(|number| (number * 1e6).ceil() as u64);
        Deviation { distance, angle, tensor_distance, tensor_angle, loss, gradient_norm, moments }
    }
}

/// What a tolerance allows, in the order of [`Distances::NAMES`].
pub fn limits(tolerance: &Tolerance) -> [f64; 7] {
    let Tolerance { distance, angle, tensor_distance, tensor_angle, loss, gradient_norm, moments } =
        tolerance;
    [distance, angle, tensor_distance, tensor_angle, loss, gradient_norm, moments].map(|real| real.get())
}

/// What is compared with: the terms of one stage.
#[derive(Debug)]
pub struct Yardstick {
    settings: CodecSettings,
    layout: Layout,
    shapes: Option<Vec<talkoot_trainer::moments::MatrixShape>>,
}

/// Why a claim holds no pseudo-gradient, whatever a replay says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ClaimError {
    /// The blobs cannot be read.
    #[error("{0}")]
    Malformed(String),
    /// The contribution is not the encoding of what it and its feedback add up to.
    #[error("the contribution is not the encoding of what it and the error feedback add up to")]
    NotItsEncoding,
}

/// What somebody says to have learnt, decoded.
struct Sum {
    tensors: ErrorFeedback,
    factors: Option<Factors>,
}

impl Yardstick {
    /// For a stage of `manifest`.
    ///
    /// # Errors
    ///
    /// [`ExecutionError`] when the manifest has no such stage.
    pub fn of(manifest: &Manifest, config: &ModelConfig, stage_index: u32) -> Result<Self, ExecutionError> {
        let (stage, _) =
            manifest.stage(stage_index).ok_or(ExecutionError::NoSuchStage { stage: stage_index })?;
        let layout = layout_of(config, stage)?;
        let public = manifest.terms.contribution.inner_state == InnerState::Public;
        let shapes = public.then(|| matrix_shapes(config, &layout));
        Ok(Self { settings: codec_settings(&manifest.terms.contribution), layout, shapes })
    }

    /// How far `claimed` is from `replayed`, when both started from the buffer `feedback_in`. Nothing is said of whether the
    /// blobs are what they should be otherwise.
    ///
    /// # Errors
    ///
    /// [`ExecutionError::Claim`] when blobs cannot be read.
    pub fn distances(
        &self,
        claimed: Learnt<'_>,
        replayed: Learnt<'_>,
        feedback_in: Option<&[u8]>,
    ) -> Result<Distances, ExecutionError> {
        let refused = |error: ClaimError| ExecutionError::Claim { reason: error.to_string() };
        let carried = feedback_in.map(|bytes| ErrorFeedback::from_bytes(bytes, &self.layout)).transpose()?;
        let one = self.sum(claimed).map_err(refused)?;
        let other = self.sum(replayed).map_err(refused)?;
        let carried = carried.as_ref().map(ErrorFeedback::tensors);
        let decay = f64::from(self.settings.error_feedback);
        let mut distances = pseudo_gradients(one.tensors.tensors(), other.tensors.tensors(), carried, decay);
        (distances.loss, distances.gradient_norm) = steps(claimed.steps, replayed.steps);
        if let (Some(one), Some(other)) = (&one.factors, &other.factors) {
            distances.moments = moments(one, other);
        }
        Ok(distances)
    }

    /// Whether a contribution is, to the byte, what encoding the sum of it and of the buffer that it leaves gives, under this
    /// header.
    pub(crate) fn check_encoding(&self, claimed: Learnt<'_>, origin: &Origin) -> Result<(), ClaimError> {
        let Sum { tensors, factors } = self.sum(claimed)?;
        let sums: Vec<&[f32]> = tensors.tensors().iter().map(Vec::as_slice).collect();
        let mut left = ErrorFeedback::zero(&self.layout);
        let again = contribution::encode_with(
            &self.settings,
            &self.layout,
            origin,
            &sums,
            factors.as_ref(),
            &mut left,
        )
        .map_err(|error| ClaimError::Malformed(error.to_string()))?;
        let same = again == claimed.contribution && left.to_bytes() == claimed.feedback_out;
        if same { Ok(()) } else { Err(ClaimError::NotItsEncoding) }
    }

    fn sum(&self, learnt: Learnt<'_>) -> Result<Sum, ClaimError> {
        let malformed = |error: &dyn std::error::Error| ClaimError::Malformed(error.to_string());
        let mut tensors = ErrorFeedback::from_bytes(learnt.feedback_out, &self.layout)
            .map_err(|error| malformed(&error))?;
        tensors
            .give_back(learnt.contribution, &self.settings, &self.layout)
            .map_err(|error| malformed(&error))?;
        let opened = Contribution::open(learnt.contribution, &self.settings, &self.layout)
            .map_err(|error| malformed(&error))?;
        let factors = match (&self.shapes, opened.factors()) {
            (None, None) => None,
            (Some(shapes), Some(bytes)) => {
                Some(Factors::from_bytes(bytes, shapes).map_err(|error| malformed(&error))?)
            }
            _ => return Err(ClaimError::Malformed("second moments, or none, against the terms".to_owned())),
        };
        Ok(Sum { tensors, factors })
    }
}

/// Squares of one tensor's two pseudo-gradients and of their difference, and their product.
#[derive(Clone, Copy, Default)]
struct Products {
    claimed: f64,
    replayed: f64,
    difference: f64,
    product: f64,
}

impl Products {
    fn of(claimed: &[f32], replayed: &[f32], carried: Option<&[f32]>, decay: f64) -> Self {
        let mut sums = Self::default();
        for (at, (claimed, replayed)) in claimed.iter().zip(replayed).enumerate() {
            let before = carried.map_or(0.0, |carried| decay * f64::from(carried[at]));
            let (claimed, replayed) = (f64::from(*claimed) - before, f64::from(*replayed) - before);
            sums.claimed += claimed * claimed;
            sums.replayed += replayed * replayed;
            sums.difference += (claimed - replayed) * (claimed - replayed);
            sums.product += claimed * replayed;
        }
        sums
    }

    fn plus(self, other: Self) -> Self {
        Self {
            claimed: self.claimed + other.claimed,
            replayed: self.replayed + other.replayed,
            difference: self.difference + other.difference,
            product: self.product + other.product,
        }
    }

    /// Distance, against at least the square `least`.
    fn distance(self, least: f64) -> f64 {
        if self.difference == 0.0 { 0.0 } else { (self.difference / self.replayed.max(least)).sqrt() }
    }

    fn angle(self) -> f64 {
        if self.difference == 0.0 {
            return 0.0;
        }
        let norms = (self.claimed * self.replayed).sqrt();
        // never below zero, whatever the rounding; at a right angle when one of them is nothing
        if norms > 0.0 { (1.0 - self.product / norms).max(0.0) } else { 1.0 }
    }
}

fn pseudo_gradients(
    claimed: &[Vec<f32>],
    replayed: &[Vec<f32>],
    carried: Option<&[Vec<f32>]>,
    decay: f64,
) -> Distances {
    let each: Vec<Products> = claimed
        .par_iter()
        .zip(replayed)
        .enumerate()
        .map(|(at, (claimed, replayed))| {
            Products::of(claimed, replayed, carried.map(|carried| carried[at].as_slice()), decay)
        })
        .collect();
    let whole = each.iter().fold(Products::default(), |sum, tensor| sum.plus(*tensor));
    let entries: usize = replayed.iter().map(Vec::len).sum();
    let mut distances =
        Distances { distance: whole.distance(0.0), angle: whole.angle(), ..Distances::default() };
    for (tensor, values) in each.iter().zip(replayed) {
        let quiet = QUIET * QUIET * whole.replayed * values.len() as f64 / entries.max(1) as f64;
        distances.tensor_distance = distances.tensor_distance.max(tensor.distance(quiet));
        if tensor.replayed > quiet || tensor.claimed > quiet {
            distances.tensor_angle = distances.tensor_angle.max(tensor.angle());
        }
    }
    distances
}

/// The largest differences of losses and of gradient norms; infinite when the steps are not the same work at all.
fn steps(claimed: &[StepRecord], replayed: &[StepRecord]) -> (f64, f64) {
    if claimed.len() != replayed.len() {
        return (f64::INFINITY, f64::INFINITY);
    }
    claimed
        .iter()
        .zip(replayed)
        .map(|(claimed, replayed)| step(claimed, replayed))
        .fold((0.0, 0.0), |(loss, norm), (more_loss, more_norm)| {
            (f64::max(loss, more_loss), f64::max(norm, more_norm))
        })
}

/// How far two records of a step are apart in loss and gradient norm; infinitely when they are of other work, or no numbers.
pub(crate) fn step(claimed: &StepRecord, replayed: &StepRecord) -> (f64, f64) {
    let counts = |step: &StepRecord| (step.tokens, step.learned_tokens);
    if counts(claimed) != counts(replayed) {
        return (f64::INFINITY, f64::INFINITY);
    }
    let apart = |claimed: f32, replayed: f32| {
        let difference = (f64::from(claimed) - f64::from(replayed)).abs();
        if difference.is_nan() { f64::INFINITY } else { difference }
    };
    let norm = match apart(claimed.gradient_norm, replayed.gradient_norm) {
        0.0 => 0.0,
        difference => difference / f64::from(replayed.gradient_norm.abs()),
    };
    (apart(claimed.loss, replayed.loss), norm)
}

fn moments(claimed: &Factors, replayed: &Factors) -> f64 {
    let apart = |claimed: &[u16], replayed: &[u16]| {
        claimed.iter().zip(replayed).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0)
    };
    let of = |(claimed, replayed): (&ParameterFactors, &ParameterFactors)| {
        apart(&claimed.rows, &replayed.rows).max(apart(&claimed.columns, &replayed.columns))
    };
    f64::from(claimed.0.iter().zip(&replayed.0).map(of).max().unwrap_or(0)) / CODES_PER_DOUBLING
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apart(claimed: &[&[f32]], replayed: &[&[f32]]) -> Distances {
        let owned = |tensors: &[&[f32]]| tensors.iter().map(|tensor| tensor.to_vec()).collect::<Vec<_>>();
        pseudo_gradients(&owned(claimed), &owned(replayed), None, 0.95)
    }

    #[test]
    fn the_same_is_nowhere_apart_even_where_nothing_moved() {
        assert_eq!(apart(&[&[1.0, 2.0], &[0.0]], &[&[1.0, 2.0], &[0.0]]), Distances::default());
        assert_eq!(apart(&[&[0.0]], &[&[0.0]]), Distances::default());
    }

    #[test]
    fn distance_and_angle_are_those_of_geometry() {
        let found = apart(&[&[3.0, 4.0]], &[&[3.0, 0.0]]);
        assert!((found.distance - 4.0 / 3.0).abs() < 1e-12, "{found:?}");
        assert!((found.angle - (1.0 - 0.6)).abs() < 1e-12, "{found:?}");
        let half = apart(&[&[1.0, 1.0]], &[&[2.0, 2.0]]);
        assert!((half.distance - 0.5).abs() < 1e-12 && half.angle.abs() < 1e-12, "half as far, same way");
        let nothing = apart(&[&[0.0, 0.0]], &[&[2.0, 2.0]]);
        assert_eq!((nothing.distance, nothing.angle), (1.0, 1.0));
    }

    #[test]
    fn a_lie_in_one_small_tensor_shows_there_and_rounding_in_a_quiet_one_does_not() {
        let large = vec![1.0f32; 10_000];
        let found = apart(&[&large, &[-1.0; 4]], &[&large, &[1.0; 4]]);
        assert!(found.distance < 0.05 && found.tensor_distance > 1.9, "{found:?}");
        assert!(found.tensor_angle > 1.9, "{found:?}");
        let quiet = apart(&[&large, &[1e-7; 4]], &[&large, &[-1e-7; 4]]);
        assert!(quiet.tensor_distance < 1e-4 && quiet.tensor_angle == 0.0, "{quiet:?}");
    }

    #[test]
    fn what_was_carried_in_does_not_count() {
        let carried = vec![vec![100.0f32, 100.0]];
        let of = |a: f32| vec![vec![95.0 + a, 95.0]];
        let found = pseudo_gradients(&of(1.0), &of(2.0), Some(&carried), 0.95);
        assert!((found.distance - 0.5).abs() < 1e-3, "{found:?}");
    }

    #[test]
    fn other_work_and_what_is_no_number_is_infinitely_far() {
        let record = StepRecord { loss: 2.0, gradient_norm: 1.0, tokens: 3, learned_tokens: 2 };
        assert_eq!(step(&record, &record), (0.0, 0.0));
        let near = StepRecord { gradient_norm: 1.5, loss: 2.25, ..record };
        assert_eq!(step(&near, &record), (0.25, 0.5));
        assert_eq!(step(&StepRecord { tokens: 4, ..record }, &record).0, f64::INFINITY);
        assert_eq!(step(&StepRecord { loss: f32::NAN, ..record }, &record).0, f64::INFINITY);
        assert_eq!(steps(&[record], &[record, record]).0, f64::INFINITY);
        let still = StepRecord { gradient_norm: 0.0, ..record };
        assert_eq!(step(&record, &still).1, f64::INFINITY);
        assert_eq!(Distances { loss: f64::INFINITY, ..Distances::default() }.in_millionths().loss, u64::MAX);
    }
}
