//! Greedy generation with a cache of keys and values.
//!
//! Prompts of the same length go through together, so that hundreds of short questions take few, larger steps; nothing
//! is padded. A generator holds the weights: make one and ask it often.

use std::collections::BTreeMap;

use candle_core::{D, Device, Result as TensorResult, Tensor};

use crate::{
    batch::{Image, Pack, PackError},
    config::ModelConfig,
    model::Sample,
    reference::{Batch, Model, ModelError, attend},
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
    /// The model failed.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// Rows that go through the model together at most: bounds memory when there are many prompts.
const GROUP_ROWS: usize = 4096;

/// A model that answers.
#[derive(Debug)]
pub struct Generator {
    model: Model,
}

impl Generator {
    /// Takes the weights of `state`.
    ///
    /// # Errors
    ///
    /// [`ModelError`] when they don't fit the config.
    pub fn new(config: &ModelConfig, state: &State) -> Result<Self, ModelError> {
        Ok(Self { model: Model::new(config, state, &[])? })
    }

    /// The likeliest continuation of every prompt, token by token, until one of `ends` or `max_new_tokens`.
    ///
    /// Answers come in the order of the prompts, without the end token. Of equally likely tokens the one with the
    /// lowest id is taken. Image tokens are never generated.
    ///
    /// # Errors
    ///
    /// [`GenerateError`] when a prompt doesn't fit the model or the model cannot run.
    pub fn answer(
        &self,
        prompts: &[Prompt],
        ends: &[u32],
        max_new_tokens: usize,
    ) -> Result<Vec<Vec<u32>>, GenerateError> {
        let config = self.model.config();
        let mut groups: BTreeMap<usize, Vec<(usize, Sample)>> = BTreeMap::new();
        for (index, prompt) in prompts.iter().enumerate() {
            let sample =
                sample(prompt, config).map_err(|source| GenerateError::Prompt { prompt: index, source })?;
            groups.entry(sample.tokens.len()).or_default().push((index, sample));
        }
        let mut answers = vec![Vec::new(); prompts.len()];
        for (length, group) in groups {
            for part in group.chunks((GROUP_ROWS / length).max(1)) {
                let samples: Vec<Sample> = part.iter().map(|(_, sample)| sample.clone()).collect();
                let found =
                    self.continue_all(&samples, length, ends, max_new_tokens).map_err(ModelError::from)?;
                part.iter().zip(found).for_each(|((index, _), answer)| answers[*index] = answer);
            }
        }
        Ok(answers)
    }

    /// Continues prompts of one length.
    fn continue_all(
        &self,
        samples: &[Sample],
        length: usize,
        ends: &[u32],
        max_new_tokens: usize,
    ) -> TensorResult<Vec<Vec<u32>>> {
        let (config, count) = (self.model.config(), samples.len());
        let mut answers = vec![Vec::new(); count];
        let mut open = vec![true; count];
        let mut cache = Cache::new(config.text.num_hidden_layers, count);
        let batch = Batch::new(samples, config)?;
        let rows = self.model.embed(&batch, &mut None)?;
        // one run of `count` samples, in order, because all have one length
        let hidden = self.extend(rows, &batch_positions(count, 0, length), &mut cache)?;
        let last: Vec<u32> = (1..=count).map(|i| (i * length - 1) as u32).collect();
        let mut hidden = hidden.index_select(&Tensor::from_slice(&last, count, &Device::Cpu)?, 0)?;
        for new in 0..max_new_tokens {
            let next = self.likeliest(&hidden)?;
            for (i, &token) in next.iter().enumerate().filter(|&(i, _)| open[i]).collect::<Vec<_>>() {
                if ends.contains(&token) {
                    open[i] = false;
                } else {
                    answers[i].push(token);
                }
            }
            if new + 1 == max_new_tokens || !open.contains(&true) {
                break;
            }
            let rows = self.model.embedding_rows(&next)?;
            hidden = self.extend(rows, &batch_positions(count, length + new, 1), &mut cache)?;
        }
        Ok(answers)
    }

    /// Puts new rows through all layers, each sample also seeing what the cache holds of it.
    fn extend(&self, rows: Tensor, positions: &[u32], cache: &mut Cache) -> TensorResult<Tensor> {
        let (cos, sin) = self.model.text_turns(positions)?;
        let mut x = rows;
        for i in 0..self.model.config().text.num_hidden_layers {
            let mut meet = |i: usize, q: &Tensor, k: &Tensor, v: &Tensor| cache.meet(i, q, k, v);
            x = self.model.layer(i, &x, &cos, &sin, &mut meet)?;
        }
        Ok(x)
    }

    fn likeliest(&self, hidden: &Tensor) -> TensorResult<Vec<u32>> {
        let image = self.model.config().image_token_id as usize;
        let (_, logits) = self.model.head(hidden)?;
        let logits: Vec<Vec<f32>> = logits.to_vec2()?;
        let best = |row: Vec<f32>| {
            let mut best = (f32::NEG_INFINITY, 0);
            for (id, logit) in row.into_iter().enumerate() {
                if logit > best.0 && id != image {
                    best = (logit, id as u32);
                }
            }
            best.1
        };
        Ok(logits.into_iter().map(best).collect())
    }
}

/// Answers of a state to prompts: [`Generator::answer`] for those who ask once.
///
/// # Errors
///
/// [`GenerateError`] when a prompt doesn't fit the model or the model cannot run.
pub fn generate(
    config: &ModelConfig,
    state: &State,
    prompts: &[Prompt],
    ends: &[u32],
    max_new_tokens: usize,
) -> Result<Vec<Vec<u32>>, GenerateError> {
    Generator::new(config, state)?.answer(prompts, ends, max_new_tokens)
}

/// A checked prompt as a sample without anything to learn.
fn sample(prompt: &Prompt, config: &ModelConfig) -> Result<Sample, PackError> {
    let pack = Pack {
        tokens: prompt.tokens.clone(),
        labels: vec![crate::batch::NOT_LEARNED; prompt.tokens.len()],
        sample_lengths: vec![u32::try_from(prompt.tokens.len()).unwrap_or(u32::MAX)],
        images: prompt.images.clone(),
    };
    pack.check(config)?;
    Ok(Sample::from_pack(&pack, config).pop().unwrap_or_default())
}

fn batch_positions(count: usize, first: usize, length: usize) -> Vec<u32> {
    (0..count).flat_map(|_| first as u32..(first + length) as u32).collect()
}

/// Keys and values of every layer, `[count, so far, groups, d]`.
struct Cache {
    count: usize,
    layers: Vec<Option<(Tensor, Tensor)>>,
}

impl Cache {
    fn new(layers: usize, count: usize) -> Self {
        Self { count, layers: vec![None; layers] }
    }

    fn meet(&mut self, layer: usize, q: &Tensor, k: &Tensor, v: &Tensor) -> TensorResult<Tensor> {
        let rows = q.dim(0)? / self.count;
        let by_sample = |x: &Tensor| x.reshape((self.count, rows, x.dim(D::Minus2)?, x.dim(D::Minus1)?));
        let (k, v) = (by_sample(k)?, by_sample(v)?);
        let (k, v) = match self.layers[layer].take() {
            None => (k, v),
            Some((past_k, past_v)) => (Tensor::cat(&[past_k, k], 1)?, Tensor::cat(&[past_v, v], 1)?),
        };
        let mixed = attend(&by_sample(q)?, &k, &v, true)?;
        self.layers[layer] = Some((k, v));
        Ok(mixed)
    }
}
