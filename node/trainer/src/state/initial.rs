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
        let count = shape.iter().product();
        let values = match kind(&name) {
            Kind::Ones => vec![1.0; count],
            Kind::Zeros => vec![0.0; count],
            Kind::Normal => normal(seed, &name, count, deviation(config, &name)),
        };
        (name, Tensor32 { shape, values })
    };
    State { tensors: config.parameter_shapes().into_iter().map(fill).collect() }
}

enum Kind {
    Ones,
    Zeros,
    Normal,
}

fn kind(name: &str) -> Kind {
    let norm = name.contains("norm") || name.contains(".ln_q.");
    match name.rsplit('.').next() {
        Some("bias") => Kind::Zeros,
        Some("weight") if norm => Kind::Ones,
        _ => Kind::Normal,
    }
}

fn deviation(config: &ModelConfig, name: &str) -> f64 {
    match Module::of(name) {
        Module::Language => config.text.initializer_range,
        Module::Vision | Module::Merger => config.vision.initializer_range,
    }
}

fn normal(seed: u64, name: &str, count: usize, deviation: f64) -> Vec<f32> {
    let mut hasher = blake3::Hasher::new_derive_key("talkoot 2026 fresh weights of one parameter");
    hasher.update(&seed.to_le_bytes()).update(name.as_bytes());
    let mut rng = ChaCha12Rng::from_seed(*hasher.finalize().as_bytes());
    // in (0, 1]: the logarithm of 0 never comes up
    let mut unit = || ((rng.next_u64() >> 11) as f64 + 1.0) / (1u64 << 53) as f64;
    let mut values = Vec::with_capacity(count + 1);
    while values.len() < count {
        let radius = deviation * (-2.0 * ln(unit())).sqrt();
        let (sine, cosine) = sin_cos(2.0 * std::f64::consts::PI * unit());
        values.push((radius * cosine) as f32);
        values.push((radius * sine) as f32);
    }
    values.truncate(count);
    values
}

#[cfg(test)]
mod tests {
    use super::*;

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
