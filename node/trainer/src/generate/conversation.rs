//! One text that grows turn by turn.

use super::{GenerateError, Generator, Prompt, cache::Cache};
use crate::{
    backend::Backend,
    model::{ModelError, Sample},
};

/// A text that the model has read: what it keeps of it is not computed again when the text goes on.
///
/// Positions go on with the text, so that what is said in several pieces is what would have been said in one.
#[derive(Debug)]
pub struct Conversation<'g, B: Backend> {
    generator: &'g Generator<'g, B>,
    tokens: Vec<u32>,
    /// What the layers keep, and the row of the last token; none before the first.
    read: Option<(Cache<B>, B::Buffer)>,
}

impl<'g, B: Backend> Conversation<'g, B> {
    pub(super) fn new(generator: &'g Generator<'g, B>) -> Self {
        Self { generator, tokens: Vec::new(), read: None }
    }

    /// Every token so far.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Tokens that may still follow: the model is meant for no longer text.
    pub fn room(&self) -> usize {
        self.generator.config().text.max_position_embeddings.saturating_sub(self.tokens.len())
    }

    /// Goes on with `prompt`, whose pictures belong to its own image tokens.
    ///
    /// # Errors
    ///
    /// [`GenerateError`] when the prompt doesn't fit the model, the text becomes too long, or the model cannot run; the
    /// text is as it was then.
    pub fn extend(&mut self, prompt: &Prompt) -> Result<(), GenerateError> {
        let limit = self.generator.config().text.max_position_embeddings;
        let tokens = self.tokens.len().saturating_add(prompt.tokens.len());
        if tokens > limit {
            return Err(GenerateError::TooLong { prompt: 0, tokens, limit });
        }
        let samples = self.generator.samples(std::slice::from_ref(prompt))?;
        Ok(self.read(&samples)?)
    }

    /// Goes on with one token that the model has chosen.
    ///
    /// # Errors
    ///
    /// [`GenerateError`] as [`Self::extend`].
    pub fn push(&mut self, token: u32) -> Result<(), GenerateError> {
        self.extend(&Prompt { tokens: vec![token], images: Vec::new() })
    }

    /// One sample, behind what was read before. When the device fails the text is as it was: what the cache holds behind
    /// its length counts for nothing.
    fn read(&mut self, samples: &[Sample]) -> Result<(), ModelError> {
        let new: usize = samples.iter().map(|sample| sample.tokens.len()).sum();
        match &mut self.read {
            Some((cache, last)) => {
                cache.reserve(self.generator.model.backend(), new)?;
                *last = self.generator.prefill(cache, &[0], samples)?;
            }
            None => {
                let mut cache = self.generator.cache([new])?;
                let last = self.generator.prefill(&mut cache, &[0], samples)?;
                self.read = Some((cache, last));
            }
        }
        self.tokens.extend(samples.iter().flat_map(|sample| &sample.tokens));
        Ok(())
    }

    /// Logits of the token that comes next, one number for each token id; nothing before the first token.
    ///
    /// # Errors
    ///
    /// [`GenerateError::Model`] when the model cannot run.
    pub fn logits(&self) -> Result<Vec<f32>, GenerateError> {
        let Some((_, last)) = &self.read else { return Ok(Vec::new()) };
        Ok(self.generator.logits(last, &[0])?)
    }
}
