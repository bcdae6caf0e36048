//! The next state: what every member computes alike from the contributions of a closed round.

use talkoot_protocol::{
    event::Commit,
    identity::MemberId,
    manifest::{Aggregation, AggregationRule, Manifest},
};
use talkoot_trainer::{
    aggregate::{Rule, Weight, outer_step},
    config::ModelConfig,
    state::State,
};

use crate::{
    Dropped, ExecutionError,
    layout::{codec_settings, layout_of},
    usable::usable,
};

/// The next state and how it came about.
#[derive(Debug)]
pub struct Aggregated {
    /// All weights after the outer step.
    pub state: State,
    /// What was closed into the round but cannot be used.
    pub dropped: Vec<Dropped>,
    /// Euclidean norm of the aggregate, before the learning rate; 0 when nothing entered.
    pub norm: f64,
}

/// Aggregates the contributions of a closed round, in the order of the seal.
///
/// A blob that is no contribution, speaks for somebody else or does not pass the run's gates is left out: this is a
/// function of the round's bytes alone, so that all members leave out the same.
///
/// # Errors
///
/// [`ExecutionError`] when the state does not fit the stage.
pub fn aggregate(
    manifest: &Manifest,
    config: &ModelConfig,
    stage_index: u32,
    start: &State,
    contributions: &[(MemberId, &Commit, Vec<u8>)],
) -> Result<Aggregated, ExecutionError> {
    let (stage, _) = manifest.stage(stage_index).ok_or(ExecutionError::NoSuchStage { stage: stage_index })?;
    let layout = layout_of(config, stage)?;
    let settings = codec_settings(&manifest.terms.contribution);
    let (used, dropped) = usable(manifest, config, &layout, contributions);
    let list: Vec<(&[u8], Weight)> =
        used.iter().map(|usable| (usable.bytes, Weight(usable.commit.tokens))).collect();
    let mut state = start.clone();
    if list.is_empty() {
        return Ok(Aggregated { state, dropped, norm: 0.0 });
    }
    let mut tensors = Vec::with_capacity(layout.tensors().len());
    let mut wanted = layout.tensors().iter().map(|(name, _)| name).peekable();
    for (name, tensor) in &mut state.tensors {
        if wanted.next_if(|wanted| *wanted == name).is_some() {
            tensors.push(tensor.values.as_mut_slice());
        }
    }
    if let Some(name) = wanted.next() {
        return Err(ExecutionError::MissingTensor { name: name.clone() });
    }
    let terms = &manifest.terms.aggregation;
    let rate = terms.outer_learning_rate.as_f32();
    let report = outer_step(&mut tensors, &list, &settings, &layout, rate, rule_of(terms))?;
    Ok(Aggregated { state, dropped, norm: report.norm })
}

/// The rule as the trainer takes it. A valid manifest has the number that its rule needs.
pub(crate) fn rule_of(terms: &Aggregation) -> Rule {
    let number = |given: Option<talkoot_protocol::real::Real>| given.map_or(0.0, |given| given.get());
    match terms.rule {
        AggregationRule::Mean => Rule::Mean,
        AggregationRule::CenteredClip => Rule::CenteredClip { clip: number(terms.clip) },
        AggregationRule::Trimmed => Rule::Trimmed { trim: number(terms.trim) },
    }
}
