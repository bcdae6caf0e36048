//! Answers of a model: greedy or drawn, many prompts at once or a conversation, and how likely given answers are.
//!
//! ```text
//! Generator (weights) --generate--> answers            many prompts together, each its own draws
//!                     --answer_losses--> nats          how likely given answers are
//!                     --conversation--> Conversation   one text that grows: what is in the cache is not computed again
//! ```
//!
//! Prompts of any lengths go through together and nothing is padded: rows are side by side, and only attention knows
//! whose they are. A generator holds the weights: make one and ask it often.

mod cache;
mod config;
mod conversation;
mod forward;
mod likelihood;
pub mod sampler;

use std::ops::Range;

use self::cache::bytes_per_row;
pub use self::{
    config::{GENERATION_CONFIG_FILE, GenerationConfig, GenerationConfigError},
    conversation::Conversation,
    sampler::{SampleError, Sampler, Sampling},
};
use crate::{
    backend::Backend,
    batch::{Image, NOT_LEARNED, Pack, PackError},
    config::ModelConfig,
    model::{Model, ModelError, Sample},
    state::State,
};

/// A question: tokens, and the pictures that its image tokens stand for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prompt {
    /// Token ids, image tokens included.
    pub tokens: Vec<u32>,
    /// Pictures, in order of their image tokens.
    pub images: Vec<Image>,
}

/// Why nothing could be generated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// A prompt doesn't fit the model.
    #[error("prompt {prompt} does not fit the model")]
    Prompt {
        /// Index of the prompt in the list.
        prompt: usize,
        /// What is wrong with it.
        #[source]
        source: PackError,
    },
    /// An answer whose likelihood was asked for doesn't fit the model.
    #[error("answer {answer} to prompt {prompt} does not fit the model")]
    Answer {
        /// Index of the prompt in the list.
        prompt: usize,
        /// Index of the answer among those to this prompt.
        answer: usize,
        /// What is wrong with it.
        #[source]
        source: PackError,
    },
    /// A text is longer than the model is meant for.
    #[error(
        "the text of prompt {prompt} has {tokens} tokens, the model is meant for {limit} (max_position_embeddings): ask \
         shorter, show fewer or smaller pictures, or begin anew"
    )]
    TooLong {
        /// Index of the prompt in the list.
        prompt: usize,
        /// Tokens of the whole text.
        tokens: usize,
        /// What the model is meant for.
        limit: usize,
    },
    /// No next token can be chosen.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// The model failed.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// With this end token, which is not part of the answer.
    End(u32),
    /// It reached the longest length allowed, of the answer or of the model's text.
    Length,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generated {
    /// Its tokens, without the end.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub stop: Stop,
}

/// Rows that go through the model together at most, unless a single prompt has more: bounds activations.
const GROUP_ROWS: usize = 4096;

/// Bytes of keys and values that are kept at once, unless a single prompt needs more.
const GROUP_CACHE_BYTES: usize = 1 << 30;

/// A model that answers.
#[derive(Debug)]
pub struct Generator<'b, B: Backend> {
    model: Model<'b, B>,
}

impl<'b, B: Backend> Generator<'b, B> {
    /// Puts the weights of `state` on the device, once for all answers.
    ///
    /// # Errors
    ///
    /// [`ModelError`] when they don't fit the config, or the device has no room.
    pub fn new(backend: &'b B, config: &ModelConfig, state: &State) -> Result<Self, ModelError> {
        Ok(Self { model: Model::new(backend, config, state)? })
    }

    /// The model's shape.
    pub fn config(&self) -> &ModelConfig {
        self.model.config()
    }

    /// A sampler for answer number `answer`, which never chooses a token that stands for rows of pictures or videos.
    ///
    /// # Errors
    ///
    /// [`SampleError::Setting`] when a setting is out of range.
    pub fn sampler(&self, sampling: Sampling, answer: u64) -> Result<Sampler, SampleError> {
        let config = self.config();
        let banned: Vec<u32> = std::iter::once(config.image_token_id).chain(config.video_token_id).collect();
        Sampler::new(sampling, answer, &banned)
    }

    /// Checks that a prompt fits the model.
    ///
    /// # Errors
    ///
    /// [`GenerateError`] as [`Self::generate`].
    pub fn check(&self, prompt: &Prompt) -> Result<(), GenerateError> {
        self.samples(std::slice::from_ref(prompt)).map(drop)
    }

    /// The likeliest continuation of every prompt, token by token, until one of `ends` or `max_new_tokens`:
    /// [`Self::generate`] without chance.
    ///
    /// # Errors
    ///
    /// [`GenerateError`] as [`Self::generate`].
    pub fn answer(
        &self,
        prompts: &[Prompt],
        ends: &[u32],
        max_new_tokens: usize,
    ) -> Result<Vec<Vec<u32>>, GenerateError> {
        let greedy = self.sampler(Sampling::default(), 0)?;
        let answers = self.generate(prompts, vec![greedy; prompts.len()], ends, max_new_tokens)?;
        Ok(answers.into_iter().map(|answer| answer.tokens).collect())
    }

    /// A continuation of every prompt by its sampler, until one of `ends` or `max_new_tokens`, in the order of the
    /// prompts. An answer depends on its own prompt and sampler only, not on what it is generated together with.
    ///
    /// # Errors
    ///
    /// [`GenerateError`] when a prompt doesn't fit the model, no token can be chosen or the model cannot run.
    ///
    /// # Panics
    ///
    /// When there are not as many samplers as prompts.
    pub fn generate(
        &self,
        prompts: &[Prompt],
        mut samplers: Vec<Sampler>,
        ends: &[u32],
        max_new_tokens: usize,
    ) -> Result<Vec<Generated>, GenerateError> {
        assert_eq!(prompts.len(), samplers.len(), "every prompt has its sampler");
        let samples = self.samples(prompts)?;
        let rooms: Vec<usize> = samples.iter().map(|sample| self.room(sample, max_new_tokens)).collect();
        let lengths: Vec<usize> = samples.iter().map(|sample| sample.tokens.len()).collect();
        samplers.iter_mut().zip(&samples).for_each(|(sampler, sample)| sampler.observe(&sample.tokens));
        let mut answers = Vec::with_capacity(prompts.len());
        for group in groups(&lengths, &rooms, bytes_per_row(self.config())) {
            let (samples, rooms) = (&samples[group.clone()], &rooms[group.clone()]);
            answers.extend(self.continue_all(samples, rooms, &mut samplers[group], ends)?);
        }
        Ok(answers)
    }

    /// Continues a group of prompts, the answer to each at most as long as its room.
    fn continue_all(
        &self,
        samples: &[Sample],
        rooms: &[usize],
        samplers: &mut [Sampler],
        ends: &[u32],
    ) -> Result<Vec<Generated>, GenerateError> {
        let mut answers = vec![Generated { tokens: Vec::new(), stop: Stop::Length }; samples.len()];
        let mut cache = self.cache(samples.iter().zip(rooms).map(|(s, room)| s.tokens.len() + room))?;
        let mut open: Vec<usize> = (0..samples.len()).collect();
        let mut hidden = self.prefill(&mut cache, &open, samples)?;
        open.retain(|&i| rooms[i] > 0);
        let mut rows: Vec<u32> = open.iter().map(|&i| i as u32).collect();
        while !open.is_empty() {
            let logits = self.logits(&hidden, &rows)?;
            let mut next = Vec::with_capacity(open.len());
            for (&i, logits) in open.iter().zip(logits.chunks_exact(self.config().text.vocab_size)) {
                let token = samplers[i].choose(logits)?;
                if ends.contains(&token) {
                    answers[i].stop = Stop::End(token);
                    continue;
                }
                answers[i].tokens.push(token);
                if answers[i].tokens.len() < rooms[i] {
                    next.push((i, token));
                }
            }
            let tokens: Vec<u32> = next.iter().map(|&(_, token)| token).collect();
            open = next.into_iter().map(|(i, _)| i).collect();
            rows = (0..open.len() as u32).collect();
            if !open.is_empty() {
                hidden = self.step(&mut cache, &open, &tokens)?;
            }
        }
        Ok(answers)
    }

    /// A text without a word yet.
    pub fn conversation(&self) -> Conversation<'_, B> {
        Conversation::new(self)
    }

    /// Tokens that may follow a prompt: what was asked for, and what the model is meant for.
    fn room(&self, sample: &Sample, wanted: usize) -> usize {
        wanted.min(self.config().text.max_position_embeddings - sample.tokens.len())
    }

    /// Checked prompts as samples without anything to learn.
    fn samples(&self, prompts: &[Prompt]) -> Result<Vec<Sample>, GenerateError> {
        let limit = self.config().text.max_position_embeddings;
        let checked = |(index, prompt): (usize, &Prompt)| {
            let tokens = prompt.tokens.len();
            if tokens > limit {
                return Err(GenerateError::TooLong { prompt: index, tokens, limit });
            }
            sample(prompt, self.config()).map_err(|source| GenerateError::Prompt { prompt: index, source })
        };
        prompts.iter().enumerate().map(checked).collect()
    }
}

/// A checked prompt as a sample without anything to learn.
fn sample(prompt: &Prompt, config: &ModelConfig) -> Result<Sample, PackError> {
    let pack = Pack {
        tokens: prompt.tokens.clone(),
        labels: vec![NOT_LEARNED; prompt.tokens.len()],
        sample_lengths: vec![u32::try_from(prompt.tokens.len()).unwrap_or(u32::MAX)],
        images: prompt.images.clone(),
    };
    pack.check(config)?;
    Ok(Sample::from_pack(&pack, config).pop().unwrap_or_default())
}

/// Neighbouring prompts that go through together: each group within the bounds, or a single prompt.
fn groups(lengths: &[usize], rooms: &[usize], bytes_per_row: usize) -> Vec<Range<usize>> {
    let most_kept = GROUP_CACHE_BYTES / bytes_per_row.max(1);
    let mut groups: Vec<Range<usize>> = Vec::new();
    let (mut rows, mut kept) = (0, 0);
    for (i, (length, room)) in lengths.iter().zip(rooms).enumerate() {
        rows += length;
        kept += length + room;
        match groups.last_mut() {
            Some(group) if rows <= GROUP_ROWS && kept <= most_kept => group.end = i + 1,
            _ => {
                (rows, kept) = (*length, length + room);
                groups.push(i..i + 1);
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::groups;

    #[test]
    fn groups_keep_both_bounds_and_leave_nobody_out() {
        assert!(groups(&[], &[], 1).is_empty());
        assert_eq!(groups(&[4096, 1, 4095, 1], &[1; 4], 1), [0..1, 1..3, 3..4]);
        assert_eq!(groups(&[9000, 5, 5], &[1; 3], 1), [0..1, 1..3]);
        // keys and values of a hundred rows fit
        assert_eq!(groups(&[40; 4], &[10; 4], (1 << 30) / 100), [0..2, 2..4]);
        assert_eq!(groups(&[40; 2], &[1000; 2], (1 << 30) / 100), [0..1, 1..2]);
    }
}
