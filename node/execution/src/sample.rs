//! A cheap look at a contribution that nobody replays: some chunks of its error feedback, before and after.

use std::ops::Range;

use talkoot_protocol::{
    digest::BlobRef,
    event::Commit,
    manifest::{InnerState, Manifest},
    run::Round,
};
use talkoot_trainer::{
    config::ModelConfig,
    contribution::{self, ErrorFeedback, KeptChunk, Layout, check_kept},
    reach::Reach,
    state::State,
};

use crate::{
    ExecutionError,
    execute::optimizer_settings,
    layout::{codec_settings, layout_of},
};

/// What a look at some chunks needs besides the chunks.
#[derive(Debug)]
pub struct Sampling<'a> {
    /// The rules.
    pub manifest: &'a Manifest,
    /// The model.
    pub config: &'a ModelConfig,
    /// The round.
    pub round: &'a Round,
    /// All weights at its start.
    pub start: &'a State,
    /// What the member committed to.
    pub commit: &'a Commit,
}

/// One chunk of a member's error feedback, as bytes of the blobs that the commit names.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Number of the chunk, over all tensors.
    pub chunk: u64,
    /// Its bytes before the round; none where the commit says that it started from zero.
    pub before: Option<Vec<u8>>,
    /// Its bytes after the round.
    pub after: Vec<u8>,
}

impl Sampling<'_> {
    fn layout(&self) -> Result<Layout, ExecutionError> {
        let stage = self.round.open.stage;
        let (terms, _) = self.manifest.stage(stage).ok_or(ExecutionError::NoSuchStage { stage })?;
        Ok(layout_of(self.config, terms)?)
    }

    /// Chunks that a contribution of this stage has.
    ///
    /// # Errors
    ///
    /// [`ExecutionError`] when the stage has no layout.
    pub fn chunks(&self) -> Result<u64, ExecutionError> {
        Ok(self.layout()?.geometry(self.manifest.terms.contribution.chunk).chunks())
    }

    /// Where a chunk lies in an error-feedback blob of this stage, in bytes; none when there is no such chunk.
    ///
    /// # Errors
    ///
    /// [`ExecutionError`] when the stage has no layout.
    pub fn place(&self, chunk: u64) -> Result<Option<Range<u64>>, ExecutionError> {
        let layout = self.layout()?;
        let geometry = layout.geometry(self.manifest.terms.contribution.chunk);
        if chunk >= geometry.chunks() {
            return Ok(None);
        }
        let found = geometry.chunk(chunk);
        let before: u64 = layout.tensors()[..found.tensor].iter().map(|(_, elements)| elements).sum();
        let start = ErrorFeedback::HEADER_BYTES as u64 + 4 * (before + found.start);
        Ok(Some(start..start + 4 * found.len as u64))
    }

    /// Whether the blobs that the commit names have the length of an error feedback; the ledger alone tells.
    ///
    /// # Errors
    ///
    /// [`ExecutionError`] when the stage has no layout.
    pub fn lengths_fit(&self) -> Result<bool, ExecutionError> {
        let expected = ErrorFeedback::HEADER_BYTES as u64 + 4 * self.layout()?.elements();
        let fits = |blob: &BlobRef| blob.bytes == expected;
        Ok(fits(&self.commit.feedback_out) && self.commit.feedback_in.as_ref().is_none_or(fits))
    }

    /// Checks samples against the contribution: what no training and encoding leads to, in words; none when all may be honest
    /// work.
    ///
    /// # Errors
    ///
    /// [`ExecutionError`] when the stage has no layout or the start state lacks a tensor, which is nobody's lie.
    pub fn look(&self, contribution: &[u8], samples: &[Sample]) -> Result<Option<String>, ExecutionError> {
        let stage = self.round.open.stage;
        let (terms, _) = self.manifest.stage(stage).ok_or(ExecutionError::NoSuchStage { stage })?;
        let layout = self.layout()?;
        let settings = codec_settings(&self.manifest.terms.contribution);
        let public = self.manifest.terms.contribution.inner_state == InnerState::Public;
        let reach = Reach::new(&optimizer_settings(terms), self.round.first_step, self.commit.steps, public);
        let weights = crate::layout::values_of(self.start, &layout)
            .map_err(|name| ExecutionError::MissingTensor { name })?;
        let mut found = None;
        let visited = contribution::visit(contribution, &settings, &layout, |view| {
            let Some(sample) = samples.iter().find(|sample| sample.chunk == view.number) else { return };
            let (start, len) = (view.chunk.start as usize, view.chunk.len);
            let after = values(&sample.after);
            let before = sample.before.as_deref().map_or_else(|| vec![0.0; len], values);
            if found.is_some() {
                return;
            }
            if [before.len(), after.len()] != [len; 2] {
                found = Some(format!("chunk {} of the error feedback has another length", view.number));
                return;
            }
            let weights = &weights[view.chunk.tensor][start..start + len];
            let kept = KeptChunk { before: &before, after: &after, weights };
            found = check_kept(&settings, &view, kept, &reach).err().map(|error| error.to_string());
        });
        Ok(match visited {
            Ok(_) => found,
            Err(error) => Some(format!("the contribution cannot be decoded: {error}")),
        })
    }
}

fn values(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word)).collect()
}
