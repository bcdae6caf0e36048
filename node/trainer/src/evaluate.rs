//! Held-out loss.

use crate::{
    batch::{Pack, PackError},
    config::ModelConfig,
    cpu::Cpu,
    inner::groups,
    model::{Batch, Model, ModelError, Sample},
    state::State,
};

/// Why a state could not be evaluated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluateError {
    /// A pack doesn't fit the model.
    #[error("held-out pack {pack} does not fit the model")]
    Pack {
        /// Index of the pack in the list.
        pack: usize,
        /// What is wrong with it.
        #[source]
        source: PackError,
    },
    /// The model failed.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// Mean loss of `state` over all learned tokens of `packs`, in nats per token; 0 when there is none.
///
/// # Errors
///
/// [`EvaluateError`] when a pack doesn't fit the model or the model cannot run.
pub fn mean_loss(config: &ModelConfig, state: &State, packs: &[Pack]) -> Result<f64, EvaluateError> {
    let cpu = Cpu::default();
    let model = Model::new(&cpu, config, state)?;
    let mut samples = Vec::with_capacity(packs.len());
    for (pack, content) in packs.iter().enumerate() {
        content.check(config).map_err(|source| EvaluateError::Pack { pack, source })?;
        samples.push(Sample::from_pack(content, config));
    }
    let (mut sum, mut learned) = (0.0, 0);
    for group in groups(&samples) {
        let batch = Batch::new(samples[group].iter().flatten(), config);
        let losses = model.losses(&batch)?;
        learned += losses.len();
        sum += losses.into_iter().map(f64::from).sum::<f64>();
    }
    Ok(if learned == 0 { 0.0 } else { sum / learned as f64 })
}
