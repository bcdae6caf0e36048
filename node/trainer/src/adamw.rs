//! AdamW with decoupled weight decay, in place on f32 slices, and the clip before it.

use std::collections::BTreeMap;

use crate::state::State;

/// Gradients of the trained parameters by name, each as long as its parameter.
pub type Gradients = BTreeMap<String, Vec<f32>>;

/// Numbers of the optimiser that stay the same over a stage.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWSettings {
    /// Decay of the mean of gradients.
    pub beta1: f32,
    /// Decay of the mean of squared gradients.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Share of a parameter that a step with learning rate 1 would take away.
    pub weight_decay: f32,
    /// What the decay is applied to.
    pub decay: DecayRule,
}

/// Which parameters weight decay is applied to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DecayRule {
    /// Tensors with two or more axes: no norms, no biases, no class embedding. The rule of the recipe.
    #[default]
    Matrices,
    /// Every trained parameter.
    Everything,
}

/// The optimiser with its moments.
#[derive(Debug, Clone)]
pub struct AdamW {
    settings: AdamWSettings,
    steps: u64,
    moments: BTreeMap<String, Moments>,
}

#[derive(Debug, Clone)]
struct Moments {
    first: Vec<f32>,
    second: Vec<f32>,
}

impl AdamW {
    /// An optimiser whose moments are zero.
    pub fn new(settings: AdamWSettings) -> Self {
        Self { settings, steps: 0, moments: BTreeMap::new() }
    }

    /// One step: `p -= rate * decay * p`, then `p -= rate * m' / (sqrt(v') + epsilon)` with bias-corrected moments.
    ///
    /// Parameters without a gradient stay as they are. No fused multiply-adds: the bits are the same on every machine.
    ///
    /// Source: Loshchilov and Hutter, arXiv 1711.05101; order of operations as in `torch.optim.AdamW`.
    ///
    /// # Panics
    ///
    /// When a gradient's name or length doesn't match `state`.
    pub fn step(&mut self, state: &mut State, gradients: &Gradients, learning_rate: f32) {
        self.steps += 1;
        let AdamWSettings { beta1, beta2, epsilon, weight_decay, decay } = self.settings;
        let step_size = (f64::from(learning_rate) / (1.0 - power(beta1, self.steps))) as f32;
        let root_correction = (1.0 - power(beta2, self.steps)).sqrt() as f32;
        for (name, gradient) in gradients {
            let tensor = state.tensors.get_mut(name).expect("gradients belong to parameters of the state");
            let zeros = || vec![0.0; gradient.len()];
            let moments = self
                .moments
                .entry(name.clone())
                .or_insert_with(|| Moments { first: zeros(), second: zeros() });
            let decays = decay == DecayRule::Everything || tensor.shape.len() >= 2;
            let keep = if decays { 1.0 - learning_rate * weight_decay } else { 1.0 };
            assert_eq!(
                tensor.values.len(),
                gradient.len(),
                "the gradient of {name} has the parameter's length"
            );
            let (first, second) = (moments.first.iter_mut(), moments.second.iter_mut());
            for (((p, g), m), v) in tensor.values.iter_mut().zip(gradient).zip(first).zip(second) {
                *m = beta1 * *m + (1.0 - beta1) * g;
                *v = beta2 * *v + (1.0 - beta2) * g * g;
                *p = *p * keep - step_size * (*m / (v.sqrt() / root_correction + epsilon));
            }
        }
    }
}

/// `base` to the power of a count, by plain squaring, so that no library decides the last bit.
fn power(base: f32, mut exponent: u64) -> f64 {
    let (mut result, mut factor) = (1.0, f64::from(base));
    while exponent > 0 {
        if exponent & 1 == 1 {
            result *= factor;
        }
        factor *= factor;
        exponent >>= 1;
    }
    result
}

/// Norm of all gradients together: f64 sums in canonical order of names and elements.
pub fn global_norm(gradients: &Gradients) -> f64 {
    let square = |values: &Vec<f32>| values.iter().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>();
    gradients.values().map(square).sum::<f64>().sqrt()
}

/// Scales all gradients so that their norm is at most `limit`, and returns the norm before.
///
/// The factor is `min(1, limit / (norm + 1e-6))`, as upstream has it.
pub fn clip(gradients: &mut Gradients, limit: f32) -> f64 {
    let norm = global_norm(gradients);
    let factor = (f64::from(limit) / (norm + 1e-6)) as f32;
    if factor < 1.0 {
        gradients.values_mut().flatten().for_each(|g| *g *= factor);
    }
    norm
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Tensor32;

    fn one(shape: &[usize]) -> State {
        let tensor = Tensor32 { shape: shape.to_vec(), values: vec![1.0] };
        State { tensors: [("a".to_owned(), tensor)].into() }
    }

    #[test]
    fn the_first_step_is_the_learning_rate_and_decay_spares_vectors() {
        let settings = AdamWSettings {
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 0.0,
            weight_decay: 0.5,
            decay: DecayRule::Matrices,
        };
        let gradients: Gradients = [("a".to_owned(), vec![3.0])].into();
        for (shape, rule, expected) in [
            (&[1][..], DecayRule::Matrices, 0.9),
            (&[1, 1], DecayRule::Matrices, 0.85),
            (&[1], DecayRule::Everything, 0.85),
        ] {
            let mut state = one(shape);
            AdamW::new(AdamWSettings { decay: rule, ..settings }).step(&mut state, &gradients, 0.1);
            assert!((state.tensors["a"].values[0] - expected).abs() < 1e-6, "{shape:?} {rule:?}: {state:?}");
        }
    }

    #[test]
    fn clipping_scales_to_the_limit_and_leaves_small_gradients_alone() {
        let mut gradients: Gradients = [("a".to_owned(), vec![3.0]), ("b".to_owned(), vec![4.0])].into();
        assert_eq!(clip(&mut gradients, 10.0), 5.0);
        assert_eq!(gradients["a"], [3.0]);
        assert_eq!(clip(&mut gradients, 1.0), 5.0);
        assert!((global_norm(&gradients) - 1.0).abs() < 1e-5);
    }
}
