//! How far AdamW can move a parameter in a round, whatever its gradients are.
//!
//! By Cauchy and Schwarz, with `a_i = (1 - b1) b1^(t - i)` and `b_i = (1 - b2) b2^(t - i)` the weights that the moments give to
//! the gradient of step `i`:
//!
//! ```text
//! |m_t| = |sum a_i g_i| <= sqrt(sum a_i^2 / b_i) sqrt(sum b_i g_i^2) = sqrt(sum a_i^2 / b_i) sqrt(v_t)
//! ```
//! so that a step moves a parameter by at most its learning rate times a number that the betas alone decide, 1.2 for 0.9 and
//! 0.95. With public moments the round begins with `|m_0| <= sqrt(v_0) + epsilon` ([`crate::moments`]), which is one more term.
//! Weight decay adds its share of the parameter. A pseudo-gradient beyond that came from no training.
//!
//! Moments that are held in eight bits are not what the gradients made them, so there the optimiser itself holds a step to
//! this bound, and all of this holds for them, too.

use crate::inner::OptimizerSettings;

/// How much larger than what is derived a pseudo-gradient may be: far more than f32 rounds in a round.
const SLACK: f64 = 1.01;

/// Smallest epsilon for which anything is said: where the square of a gradient underflows, epsilon is what bounds the step.
const LEAST_EPSILON: f32 = 1e-12;

/// The largest `|m| / sqrt(v)` of a step, from one step to the next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Ratio {
    beta1: f64,
    beta2: f64,
    /// Sum of `a_i^2 / b_i` over the steps so far.
    terms: f64,
    /// Powers of the betas with the number of steps.
    power1: f64,
    power2: f64,
}

impl Ratio {
    /// More steps than a round has; after so many nothing changes.
    pub(crate) const MOST_STEPS: u64 = 1 << 16;

    /// Before the first step.
    pub(crate) fn new(beta1: f32, beta2: f32) -> Self {
        Self { beta1: f64::from(beta1), beta2: f64::from(beta2), terms: 0.0, power1: 1.0, power2: 1.0 }
    }

    /// One more step.
    pub(crate) fn advance(&mut self) {
        let fresh1 = 1.0 - self.beta1;
        self.terms += fresh1 * fresh1 / (1.0 - self.beta2) * self.power1 * self.power1 / self.power2;
        self.power1 *= self.beta1;
        self.power2 *= self.beta2;
    }

    /// Of moments that began at zero, where the second one's bias is corrected and the first one's is not.
    pub(crate) fn fresh(&self) -> f64 {
        self.terms.sqrt() * (1.0 - self.power2).sqrt()
    }

    /// Of moments that began with `|m| <= sqrt(v) + epsilon`; no bias is corrected.
    pub(crate) fn carried(&self) -> f64 {
        (self.power1 * self.power1 / self.power2 + self.terms).sqrt() + self.power1
    }
}

/// How far a parameter can come in a round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reach {
    /// Sum over the steps of the learning rate times the largest `|m| / sqrt(v)`.
    moves: f64,
    /// Sum over the steps of learning rate times weight decay.
    decay: f64,
    /// Steps, each of which rounds.
    steps: f64,
}

impl Reach {
    /// Of `steps` steps of a stage from its `first_step` on. `public` says that the moments may be those of the last round.
    pub fn new(optimizer: &OptimizerSettings, first_step: u64, steps: u32, public: bool) -> Self {
        let (mut moves, mut decay) = (0.0, 0.0);
        let mut ratio = Ratio::new(optimizer.beta1, optimizer.beta2);
        for step in 0..u64::from(steps) {
            ratio.advance();
            let fresh = ratio.fresh() / (1.0 - ratio.power1);
            let carried = if public { ratio.carried() } else { 0.0 };
            let rate = f64::from(optimizer.learning_rate(first_step.saturating_add(step)));
            moves += rate * fresh.max(carried);
            decay += rate * f64::from(optimizer.weight_decay);
        }
        let bounded = moves.is_finite() && optimizer.epsilon >= LEAST_EPSILON;
        let moves = if bounded { moves } else { f64::INFINITY };
        Self { moves, decay, steps: f64::from(steps) }
    }

    /// Largest magnitude of the pseudo-gradient of a parameter that starts at `weight`; infinite where nothing can be said.
    pub fn of(&self, weight: f32) -> f64 {
        if self.moves.is_infinite() {
            return f64::INFINITY;
        }
        let largest = f64::from(weight.abs()) + self.moves;
        SLACK * (self.moves + self.decay * largest + self.steps * f64::from(f32::EPSILON) * largest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::moments::MomentFormat;

    fn optimizer(beta1: f32, beta2: f32, weight_decay: f32) -> OptimizerSettings {
        OptimizerSettings {
            peak_learning_rate: 0.01,
            final_learning_rate: 0.01,
            warmup_steps: 0,
            total_steps: 10,
            beta1,
            beta2,
            epsilon: 1e-8,
            weight_decay,
            clip_norm: 1.0,
            moments: MomentFormat::F32,
        }
    }

    /// The pseudo-gradient of one parameter under these gradients, in f64.
    fn moved(
        settings: &OptimizerSettings,
        start: f64,
        carried: Option<(f64, f64)>,
        gradients: &[f64],
    ) -> f64 {
        let (beta1, beta2) = (f64::from(settings.beta1), f64::from(settings.beta2));
        let (mut m, mut v) = carried.unwrap_or((0.0, 0.0));
        let mut weight = start;
        for (step, gradient) in (0i32..).zip(gradients) {
            m = beta1 * m + (1.0 - beta1) * gradient;
            v = beta2 * v + (1.0 - beta2) * gradient * gradient;
            let (one, two) = match carried {
                Some(_) => (1.0, 1.0),
                None => (1.0 - beta1.powi(step + 1), 1.0 - beta2.powi(step + 1)),
            };
            let rate = f64::from(settings.learning_rate(step as u64));
            weight -= rate * f64::from(settings.weight_decay) * weight;
            weight -= rate * (m / one) / ((v / two).sqrt() + f64::from(settings.epsilon));
        }
        (start - weight).abs()
    }

    proptest! {
        #[test]
        fn no_gradients_lead_beyond_it(
            gradients in prop::collection::vec((-4i32..4, any::<bool>()), 1..12),
            betas in prop::sample::select(vec![(0.9f32, 0.95f32), (0.9, 0.999), (0.0, 0.9), (0.99, 0.9)]),
            start in -3.0f64..3.0,
            decay in prop::sample::select(vec![0.0f32, 0.1]),
            carried in prop::option::of((-1.0f64..=1.0, 1e-6f64..1.0)),
        ) {
            let gradients: Vec<f64> =
                gradients.into_iter().map(|(e, sign)| 10f64.powi(e) * if sign { 1.0 } else { -1.0 }).collect();
            let settings = optimizer(betas.0, betas.1, decay);
            // as public moments begin: |m| <= sqrt(v) + epsilon
            let carried = carried.map(|(share, v): (f64, f64)| (share * (v.sqrt() + 1e-8), v));
            let reach = Reach::new(&settings, 0, gradients.len() as u32, carried.is_some());
            let moved = moved(&settings, start, carried, &gradients);
            prop_assert!(moved <= reach.of(start as f32), "{moved} beyond {}", reach.of(start as f32));
        }
    }

    #[test]
    fn it_is_no_wider_than_it_has_to_be() {
        let settings = optimizer(0.9, 0.95, 0.0);
        let reach = Reach::new(&settings, 0, 10, false).of(0.0);
        // gradients of one sign move a parameter by its learning rate a step; nothing moves it by 1.3 of it
        let steady = moved(&settings, 0.0, None, &[1.0; 10]);
        assert!(steady > 0.099 && reach > steady && reach < 0.13, "{steady} {reach}");
        let blind = OptimizerSettings { epsilon: 1e-20, ..settings };
        assert_eq!(Reach::new(&blind, 0, 10, false).of(0.0), f64::INFINITY);
        let without = optimizer(0.9, 0.0, 0.0);
        assert_eq!(
            Reach::new(&without, 0, 10, false).of(0.0),
            f64::INFINITY,
            "old gradients over a fresh square"
        );
    }
}
