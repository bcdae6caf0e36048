//! Fresh weights with the same bits everywhere.

use rand_chacha::{
    ChaCha12Rng,
    rand_core::{Rng, SeedableRng},
};

use super::{State, Tensor32};
use crate::{
    config::ModelConfig,
    elementary::{ln, sin_cos},
    modules::Module,
};

pub(super) fn initial(config: &ModelConfig, seed: u64) -> State {
    let fill = |(name, shape): (String, Vec<usize>)| {
        let values = FreshValues::of(config, seed, &name).take(shape.iter().product()).collect();
        (name, Tensor32 { shape, values })
    };
    State { tensors: config.parameter_shapes().into_iter().map(fill).collect() }
}

/// The fresh numbers of one parameter, row-major, without an end: as many are taken as its shape holds.
#[derive(Debug, Clone)]
pub(crate) enum FreshValues {
    /// Norms start as one, biases as zero.
    Constant(f32),
    /// Everything else is normal.
    Normal(Box<Normal>),
}

impl FreshValues {
    /// Those of the parameter `name` of a model with fresh weights from `seed`.
    pub(crate) fn of(config: &ModelConfig, seed: u64, name: &str) -> Self {
        let norm = name.contains("norm") || name.contains(".ln_q.");
        match name.rsplit('.').next() {
            Some("bias") => Self::Constant(0.0),
            Some("weight") if norm => Self::Constant(1.0),
            _ => Self::Normal(Box::new(Normal::new(seed, name, deviation(config, name)))),
        }
    }
}

impl Iterator for FreshValues {
    type Item = f32;

    fn next(&mut self) -> Option<f32> {
        match self {
            Self::Constant(value) => Some(*value),
            Self::Normal(normal) => normal.next(),
        }
    }
}

fn deviation(config: &ModelConfig, name: &str) -> f64 {
    match Module::of(name) {
        Module::Language => config.text.initializer_range,
        Module::Vision | Module::Merger => config.vision.initializer_range,
    }
}

/// Normal numbers of mean zero, two for every two draws (Box and Muller).
#[derive(Debug, Clone)]
pub(crate) struct Normal {
    rng: ChaCha12Rng,
    deviation: f64,
    spare: Option<f32>,
}

impl Normal {
    fn new(seed: u64, name: &str, deviation: f64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("talkoot 2026 fresh weights of one parameter");
        hasher.update(&seed.to_le_bytes()).update(name.as_bytes());
        let rng = ChaCha12Rng::from_seed(*hasher.finalize().as_bytes());
        Self { rng, deviation, spare: None }
    }

    /// In (0, 1]: the logarithm of 0 never comes up.
    fn unit(&mut self) -> f64 {
        ((self.rng.next_u64() >> 11) as f64 + 1.0) / (1u64 << 53) as f64
    }
}

impl Iterator for Normal {
    type Item = f32;

    fn next(&mut self) -> Option<f32> {
        if let Some(value) = self.spare.take() {
            return Some(value);
        }
        let radius = self.deviation * (-2.0 * ln(self.unit())).sqrt();
        let (sine, cosine) = sin_cos(2.0 * std::f64::consts::PI * self.unit());
        self.spare = Some((radius * sine) as f32);
        Some((radius * cosine) as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(seed: u64, name: &str, count: usize, deviation: f64) -> Vec<f32> {
        Normal::new(seed, name, deviation).take(count).collect()
    }

    #[test]
    fn normal_numbers_have_the_moments_of_a_normal_distribution() {
        let values = normal(7, "a", 100_001, 0.02);
        assert_eq!(values.len(), 100_001);
        let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / values.len() as f64;
        let moment = |power| {
            values.iter().map(|&x| (f64::from(x) / 0.02).powi(power)).sum::<f64>() / values.len() as f64
        };
        assert!(mean.abs() < 3e-4, "mean {mean}");
        assert!((moment(2) - 1.0).abs() < 0.02, "variance {}", moment(2));
        assert!((moment(4) - 3.0).abs() < 0.15, "fourth moment {}", moment(4));
    }

    #[test]
    fn every_parameter_and_every_seed_has_its_own_numbers() {
        assert_eq!(normal(7, "a", 8, 1.0), normal(7, "a", 8, 1.0));
        assert_ne!(normal(7, "a", 8, 1.0), normal(7, "b", 8, 1.0));
        assert_ne!(normal(7, "a", 8, 1.0), normal(8, "a", 8, 1.0));
    }
}
