//! The moments that a round's inner steps start from where the run has public ones.

use talkoot_protocol::{
    event::Commit,
    identity::MemberId,
    manifest::Manifest,
    run::{Precedent, Round},
};
use talkoot_trainer::{
    aggregate::{Weight, aggregate_into},
    config::ModelConfig,
    moments::{Factors, Moments, Published, matrix_shapes, public},
};

use crate::{
    ExecutionError,
    aggregate::rule_of,
    execute::optimizer_settings,
    layout::{codec_settings, layout_of},
    usable::usable,
};

/// The moments that everybody starts `round` from. `blobs` are the contributions of its precedent, in order.
///
/// They are as the stage's optimiser holds them. None when the round has no precedent, or nothing of it is usable: then moments start from zero.
///
/// # Errors
///
/// [`ExecutionError::Precedent`] when the blobs are not as many as the precedent has.
pub fn moments_of(
    manifest: &Manifest,
    config: &ModelConfig,
    round: &Round,
    blobs: &[Vec<u8>],
) -> Result<Option<Moments>, ExecutionError> {
    let Some(precedent) = &round.precedent else { return Ok(None) };
    let Precedent { first_step, contributions, .. } = precedent.as_ref();
    if contributions.len() != blobs.len() {
        return Err(ExecutionError::Precedent { expected: contributions.len(), got: blobs.len() });
    }
    let stage_index = round.open.stage;
    let (stage, _) = manifest.stage(stage_index).ok_or(ExecutionError::NoSuchStage { stage: stage_index })?;
    let layout = layout_of(config, stage)?;
    let list: Vec<(MemberId, &Commit, &Vec<u8>)> =
        contributions.iter().zip(blobs).map(|((member, commit), bytes)| (*member, commit, bytes)).collect();
    let (used, _) = usable(manifest, config, &layout, &list);
    if used.is_empty() {
        return Ok(None);
    }
    let optimizer = optimizer_settings(stage);
    let total: u64 = used.iter().map(|usable| usable.commit.tokens).sum();
    let mut rates = 0f32;
    for usable in &used {
        let mut own = 0f32;
        for step in (*first_step..).take(usable.commit.steps as usize) {
            own += optimizer.learning_rate(step);
        }
        rates += usable.commit.tokens as f32 / total as f32 * own;
    }
    let mut aggregate: Vec<Vec<f32>> =
        layout.tensors().iter().map(|(_, elements)| vec![0.0; *elements as usize]).collect();
    let mut out: Vec<&mut [f32]> = aggregate.iter_mut().map(Vec::as_mut_slice).collect();
    let weighted: Vec<(&[u8], Weight)> =
        used.iter().map(|usable| (usable.bytes, Weight(usable.commit.tokens))).collect();
    let settings = codec_settings(&manifest.terms.contribution);
    let rule = rule_of(&manifest.terms.aggregation);
    aggregate_into(&mut out, &weighted, &settings, &layout, rule)?;
    let factors: Vec<Factors> = used.iter().filter_map(|usable| usable.factors.clone()).collect();
    let published = Published {
        aggregate: &aggregate,
        factors: &Factors::median(&factors),
        shapes: &matrix_shapes(config, &layout),
        rates,
        epsilon: optimizer.epsilon,
    };
    Ok(Some(public(&layout, &published).held_as(optimizer.moments)))
}
