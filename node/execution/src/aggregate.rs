//! The next state: what every member computes alike from the contributions of a closed round.

use talkoot_protocol::{
    event::Commit,
    identity::MemberId,
    manifest::{AggregationRule, Manifest},
};
use talkoot_trainer::{
    aggregate::{Rule, Weight, outer_step},
    config::ModelConfig,
    contribution::{Contribution, DecodeError},
    state::State,
};

use crate::{
    ExecutionError,
    layout::{codec_settings, layout_of},
};

/// A contribution that could not enter, for a reason that everybody finds alike.
#[derive(Debug)]
pub struct Dropped {
    /// Whose it was.
    pub member: MemberId,
    /// Why.
    pub reason: String,
}

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
/// A blob that is no contribution, or speaks for somebody else, is left out: this is a function of the bytes
/// alone, so that all members leave out the same.
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
    let mut dropped = Vec::new();
    let mut usable = Vec::new();
    for (member, commit, bytes) in contributions {
        match check(member, commit, bytes, |bytes| Contribution::open(bytes, &settings, &layout)) {
            Ok(()) => usable.push((bytes.as_slice(), Weight(commit.tokens))),
            Err(reason) => dropped.push(Dropped { member: *member, reason }),
        }
    }
    let mut state = start.clone();
    if usable.is_empty() {
        return Ok(Aggregated { state, dropped, norm: 0.0 });
    }
    let rule = match manifest.terms.aggregation.rule {
        AggregationRule::Mean => Rule::Mean,
    };
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
    let rate = manifest.terms.aggregation.outer_learning_rate.as_f32();
    let report = outer_step(&mut tensors, &usable, &settings, &layout, rate, rule)?;
    Ok(Aggregated { state, dropped, norm: report.norm })
}

fn check<'a>(
    member: &MemberId,
    commit: &Commit,
    bytes: &'a [u8],
    open: impl Fn(&'a [u8]) -> Result<Contribution<'a>, DecodeError>,
) -> Result<(), String> {
    let contribution = open(bytes).map_err(|error| error.to_string())?;
    contribution.visit(|_| ()).map_err(|error| error.to_string())?;
    let origin = &contribution.header().origin;
    let expected = (commit.round, member.as_bytes(), commit.steps, commit.tokens);
    if (origin.round, &origin.member, origin.steps, origin.tokens) != expected {
        return Err("its header speaks of another round, member, number of steps or tokens than its commit"
            .to_owned());
    }
    if commit.tokens == 0 {
        return Err("it was trained on no tokens".to_owned());
    }
    Ok(())
}
