//! AdamW with decoupled weight decay over the trained parameters of a model, and the clip before it.
//!
//! Source: Loshchilov and Hutter, arXiv 1711.05101; order of operations as in `torch.optim.AdamW`. The arithmetic of an
//! element is [`Backend::adamw`]'s, or [`Backend::adamw_eight_bit`]'s where moments are held in eight bits.

use std::collections::{BTreeMap, btree_map::Entry};

use talkoot_protocol::digest::Digest;

use crate::{
    backend::{AdamWStep, Backend, BackendError},
    config::ModelConfig,
    contribution::Layout,
    model::{Gradients, Model, ModelError},
    moments::{
        Factors, MatrixShape, MomentFormat, Moments, ParameterFactors,
        eight_bit::{Side, packed_words},
    },
    reach::Ratio,
};

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
    /// How the moments are held.
    pub moments: MomentFormat,
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
#[derive(Debug)]
pub struct AdamW<B: Backend> {
    settings: AdamWSettings,
    steps: u64,
    /// What bounds a step of moments that are held in fewer bits.
    ratio: Ratio,
    /// First and second moments by parameter, as the settings say that they are held.
    moments: BTreeMap<String, (B::Buffer, B::Buffer)>,
    /// Axes of every parameter.
    shapes: BTreeMap<String, Vec<usize>>,
}

impl<B: Backend> AdamW<B> {
    /// An optimiser whose moments are zero.
    pub fn new(settings: AdamWSettings, config: &ModelConfig) -> Self {
        let ratio = Ratio::new(settings.beta1, settings.beta2);
        Self { settings, steps: 0, ratio, moments: BTreeMap::new(), shapes: config.parameter_shapes() }
    }

    /// The same going on from `moments`. Parameters that have none start from zero. Where moments are held in eight bits,
    /// they are packed first, which changes nothing of what was unpacked before.
    ///
    /// # Errors
    ///
    /// [`BackendError`] when the device has no room for them.
    pub fn going_on(mut self, backend: &B, moments: &Moments) -> Result<Self, BackendError> {
        self.steps = moments.steps;
        self.ratio = Ratio::new(self.settings.beta1, self.settings.beta2);
        let seen = moments.steps.checked_sub(Moments::SETTLED).unwrap_or(moments.steps);
        (0..seen.min(Ratio::MOST_STEPS)).for_each(|_| self.ratio.advance());
        for (name, (first, second)) in &moments.tensors {
            let pair = match self.settings.moments {
                MomentFormat::F32 => (backend.upload_at_rest(first)?, backend.upload_at_rest(second)?),
                MomentFormat::EightBit => {
                    let first = backend.upload_at_rest(&Side::First.pack(first))?;
                    (first, backend.upload_at_rest(&Side::Second.pack(second))?)
                }
            };
            self.moments.insert(name.clone(), pair);
        }
        Ok(self)
    }

    /// Steps that the moments have seen.
    pub(crate) const fn steps(&self) -> u64 {
        self.steps
    }

    /// First or second moments of the parameter `name` with `elements` elements, on the host; none when it has had no gradient
    /// yet.
    ///
    /// # Errors
    ///
    /// [`BackendError`] when the device is gone.
    pub(crate) fn moment(
        &self,
        backend: &B,
        name: &str,
        elements: usize,
        side: Side,
    ) -> Result<Option<Vec<f32>>, BackendError> {
        let Some((first, second)) = self.moments.get(name) else { return Ok(None) };
        let held = backend.download(if side == Side::First { first } else { second })?;
        Ok(Some(match self.settings.moments {
            MomentFormat::F32 => held,
            MomentFormat::EightBit => side.unpack(&held, elements),
        }))
    }

    /// A copy of the moments on the host.
    ///
    /// # Errors
    ///
    /// [`BackendError`] when the device is gone.
    pub fn moments(&self, backend: &B) -> Result<Moments, BackendError> {
        let tensors = self.moments.keys().map(|name| {
            let elements = self.shapes.get(name).map_or(0, |shape| shape.iter().product());
            let of = |side| Ok(self.moment(backend, name, elements, side)?.unwrap_or_default());
            Ok((name.clone(), (of(Side::First)?, of(Side::Second)?)))
        });
        Ok(Moments { steps: self.steps, tensors: tensors.collect::<Result<_, BackendError>>()? })
    }

    /// The second moments in brief, without their bias towards zero, in the layout's order. One parameter at a time is
    /// copied to the host. Parameters without a moment, as there was nothing to learn, have factors of zero.
    ///
    /// # Errors
    ///
    /// [`BackendError`] when the device is gone.
    pub fn factors(
        &self,
        backend: &B,
        layout: &Layout,
        shapes: &[MatrixShape],
    ) -> Result<Factors, BackendError> {
        let correction = 1.0 - power(self.settings.beta2, self.steps);
        let of = |((name, _), shape): (&(String, u64), &MatrixShape)| {
            Ok(match self.moment(backend, name, shape.rows * shape.columns, Side::Second)? {
                Some(second) if self.steps > 0 => ParameterFactors::of(&second, *shape, correction),
                _ => ParameterFactors { rows: vec![0; shape.rows], columns: vec![0; shape.columns] },
            })
        };
        let all = layout.tensors().iter().zip(shapes).map(of);
        Ok(Factors(all.collect::<Result<_, BackendError>>()?))
    }

    /// A hash of the number of steps and of both moments of every parameter, in canonical order of names: what nobody knows
    /// who has not taken the steps. One parameter at a time is copied to the host.
    ///
    /// # Errors
    ///
    /// [`BackendError`] when the device is gone.
    pub fn digest(&self, backend: &B) -> Result<Digest, BackendError> {
        let mut hasher = blake3::Hasher::new_derive_key("talkoot inner moments v1");
        hasher.update(&self.steps.to_le_bytes());
        let mut buffer = Vec::new();
        for (name, (first, second)) in &self.moments {
            hasher.update(&(name.len() as u64).to_le_bytes());
            hasher.update(name.as_bytes());
            for moment in [first, second] {
                for part in backend.download(moment)?.chunks(1 << 14) {
                    buffer.clear();
                    buffer.extend(part.iter().flat_map(|value| value.to_le_bytes()));
                    hasher.update(&buffer);
                }
            }
        }
        Ok(Digest::from_bytes(*hasher.finalize().as_bytes()))
    }

    /// One step: `p -= rate * decay * p`, then `p -= rate * m' / (sqrt(v') + epsilon)` with bias-corrected moments, on
    /// gradients times `gradient_factor`. Parameters without a gradient stay as they are.
    ///
    /// # Errors
    ///
    /// [`ModelError`] when the device fails, or a gradient is of a parameter that the model doesn't have.
    pub fn step(
        &mut self,
        model: &mut Model<'_, B>,
        gradients: &Gradients<B>,
        learning_rate: f32,
        gradient_factor: f32,
    ) -> Result<(), ModelError> {
        let settled = self.steps >= Moments::SETTLED;
        self.steps = self.steps.saturating_add(1);
        self.ratio.advance();
        let AdamWSettings { beta1, beta2, epsilon, .. } = self.settings;
        let step = AdamWStep {
            beta1,
            beta2,
            epsilon,
            step_size: (f64::from(learning_rate) / (1.0 - power(beta1, self.steps))) as f32,
            root_correction: (1.0 - power(beta2, self.steps)).sqrt() as f32,
            gradient_factor,
        };
        let most = if settled { self.ratio.carried() } else { self.ratio.fresh() } as f32;
        let backend = model.backend();
        backend.inside(|| self.move_parameters(model, gradients, step, most, learning_rate))
    }

    fn move_parameters(
        &mut self,
        model: &mut Model<'_, B>,
        gradients: &Gradients<B>,
        step: AdamWStep,
        most: f32,
        learning_rate: f32,
    ) -> Result<(), ModelError> {
        let backend = model.backend();
        let AdamWSettings { weight_decay, decay, moments: format, .. } = self.settings;
        for (name, gradient) in gradients.iter() {
            let (first, second) = match self.moments.entry(name.to_owned()) {
                Entry::Occupied(moments) => moments.into_mut(),
                Entry::Vacant(place) => {
                    let numbers = backend.len(gradient);
                    let len = match format {
                        MomentFormat::F32 => numbers,
                        MomentFormat::EightBit => packed_words(numbers),
                    };
                    place.insert((backend.zeros_at_rest(len)?, backend.zeros_at_rest(len)?))
                }
            };
            let decays =
                decay == DecayRule::Everything || self.shapes.get(name).is_some_and(|axes| axes.len() >= 2);
            let keep = if decays { 1.0 - learning_rate * weight_decay } else { 1.0 };
            let parameter = model.parameter_mut(name)?;
            match format {
                MomentFormat::F32 => backend.adamw(step, keep, gradient, first, second, parameter)?,
                MomentFormat::EightBit => {
                    backend.adamw_eight_bit(step, keep, most, gradient, first, second, parameter)?;
                }
            }
        }
        Ok(())
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

/// Norm of all gradients together: sums of squares in f64, added in canonical order of names.
///
/// # Errors
///
/// [`ModelError::Backend`] when the device fails.
pub fn global_norm<B: Backend>(backend: &B, gradients: &Gradients<B>) -> Result<f64, ModelError> {
    backend.inside(|| {
        let mut sum = 0.0;
        for (_, gradient) in gradients.iter() {
            sum += backend.sum_of_squares(gradient)?;
        }
        Ok(sum.sqrt())
    })
}

/// What gradients of this norm are multiplied with so that it is at most `limit`: `min(1, limit / (norm + 1e-6))`, as
/// upstream has it.
pub fn clip_factor(norm: f64, limit: f32) -> f32 {
    ((f64::from(limit) / (norm + 1e-6)) as f32).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clipping_scales_to_the_limit_and_leaves_small_gradients_alone() {
        assert_eq!(clip_factor(5.0, 10.0), 1.0);
        assert!((f64::from(clip_factor(5.0, 1.0)) * 5.0 - 1.0).abs() < 1e-5);
        assert_eq!(clip_factor(0.0, 1.0), 1.0);
    }

    #[test]
    fn powers_are_those_of_repeated_multiplication() {
        for exponent in [0, 1, 2, 7, 30] {
            let expected = (0..exponent).fold(1.0, |power, _| power * f64::from(0.95f32));
            assert!((power(0.95, exponent) - expected).abs() < 1e-12);
        }
    }
}
