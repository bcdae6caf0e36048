//! The same bits everywhere, as two hashes that anybody can compare.
//!
//! A small model with odd sizes goes through one forward and backward pass and three AdamW steps on a pack of pictures
//! and text; the numbers of keys, rows and the inner sizes are large enough that products are cut into blocks, tiles and
//! threads. Every processor with fused multiply-add must print the same two hashes: [`GRADIENTS`] and [`WEIGHTS`].

use serde::Serialize;
use talkoot_protocol::digest::Digest;

use super::{Case, Preset};
use crate::{
    adamw::{AdamW, AdamWSettings, DecayRule, clip_factor, global_norm},
    backend::Backend,
    model::{Keep, ModelError, Sample},
    modules::{Module, trainable},
    moments::MomentFormat,
    presets::{Shape, model_of},
    state::State,
    team::{Part, Team},
};

/// BLAKE3 of the gradients of the first step.
pub const GRADIENTS: &str = "8260b8b7f00f73cf6c4d90ca904d687c6d266aae3ee575932724075387b9e70b";
/// BLAKE3 of the weights after three steps, the state's hash.
pub const WEIGHTS: &str = "d47bfb240ea218722927b637d8238e499949ab84f9b4a53c95d8afc9f8cbe3fe";

const MODEL: Preset = Preset {
    name: "bits",
    shape: Shape { vision: [2, 60, 5, 344], text: [2, 72, 6, 3, 20, 420], vocabulary: 4500 },
};
const PACK: Case = Case { name: "bits", samples: 2, grid: Some((8, 12)), words: 70 };

/// What came out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bits {
    /// What computed it.
    pub device: String,
    /// Threads that took part.
    pub threads: usize,
    /// Hash of the gradients of the first step: every gradient in canonical order, as little-endian f32.
    pub gradients: String,
    /// Hash of the weights after three steps.
    pub weights: String,
    /// Whether both are those of the exact class.
    pub exact: bool,
}

/// Computes both hashes on a device. Where it has [others](Backend::others), the two samples go through two of them.
///
/// # Errors
///
/// [`ModelError`] when the device fails.
pub fn bits<B: Backend>(backend: &B, describe: &str, keep: Keep) -> Result<Bits, ModelError> {
    let config = model_of(MODEL.shape);
    let names = trainable(&config, &Module::ALL);
    let mut team = Team::new(backend, &config, &State::initial(&config, 1), keep, &names)?;
    let samples = PACK.samples(&config);
    let learned: usize = samples.iter().map(Sample::learned).sum();
    let together = if backend.others().is_empty() { samples.len() } else { 1 };
    let parts: Vec<Part<'_>> = samples.chunks(together).map(|samples| equal(samples, learned)).collect();
    let settings = AdamWSettings {
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.01,
        decay: DecayRule::Matrices,
        moments: MomentFormat::F32,
    };
    let mut optimizer = AdamW::new(settings, &config);
    let mut hash = None;
    for _ in 0..3 {
        let gradients = team.differentiate(&parts)?.gradients;
        if hash.is_none() {
            hash = Some(hash_of(backend, &gradients)?);
        }
        let factor = clip_factor(global_norm(backend, &gradients)?, 1.0);
        optimizer.step(team.first_mut(), &gradients, 1e-3, factor)?;
        team.spread()?;
    }
    let gradients = hash.unwrap_or_default();
    let weights = team.first().state()?.digest().to_string();
    let exact = gradients == GRADIENTS && weights == WEIGHTS;
    let threads = rayon::current_num_threads();
    Ok(Bits { device: describe.to_owned(), threads, gradients, weights, exact })
}

/// Samples of which every learned position counts the same, of `learned` in all.
fn equal(samples: &[Sample], learned: usize) -> Part<'_> {
    let own = samples.iter().map(Sample::learned).sum();
    Part { samples: samples.iter().collect(), scales: vec![1.0 / learned as f32; own] }
}

fn hash_of<B: Backend>(backend: &B, gradients: &crate::model::Gradients<B>) -> Result<String, ModelError> {
    let mut hasher = blake3::Hasher::new();
    for (_, gradient) in gradients.iter() {
        for number in backend.download(gradient)? {
            hasher.update(&number.to_le_bytes());
        }
    }
    Ok(Digest::from_bytes(*hasher.finalize().as_bytes()).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{Cpu, Isa, Level, Products};

    #[test]
    fn the_hashes_are_those_of_the_exact_class_with_every_vector_width() {
        for isa in Level::ALL.into_iter().filter_map(Isa::new) {
            let name = isa.level().name();
            let found = bits(&Cpu::new(isa, Products::FixedOrder), name, Keep::Inputs).unwrap();
            assert_eq!((found.gradients.as_str(), found.weights.as_str()), (GRADIENTS, WEIGHTS), "{name}");
        }
    }

    #[test]
    fn another_librarys_products_are_not_the_exact_class() {
        let other = Cpu::new(Isa::best(), Products::GemmCrate);
        assert!(!bits(&other, "gemm crate", Keep::Everything).unwrap().exact);
    }
}
