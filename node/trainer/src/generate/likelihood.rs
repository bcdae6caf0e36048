//! How likely given answers are.

use super::{
    GenerateError, Generator, Prompt,
    cache::{Cache, bytes_per_row},
    groups, sample,
};
use crate::{
    backend::Backend,
    model::{ModelError, Sample},
};

/// The answers to one prompt.
type Answers = Vec<Vec<u32>>;

impl<B: Backend> Generator<'_, B> {
    /// Negative log-likelihood of every token of every answer, in nats: `[prompt][answer][token]`. `answers[i]` are
    /// continuations of `prompts[i]`; each is looked at by itself, and the prompt is read once for all of them.
    ///
    /// # Errors
    ///
    /// [`GenerateError`] when a prompt or an answer doesn't fit the model or the model cannot run.
    ///
    /// # Panics
    ///
    /// When there are not as many lists of answers as prompts.
    pub fn answer_losses(
        &self,
        prompts: &[Prompt],
        answers: &[Answers],
    ) -> Result<Vec<Vec<Vec<f32>>>, GenerateError> {
        assert_eq!(prompts.len(), answers.len(), "every prompt has its answers");
        let samples = self.samples(prompts)?;
        let rooms = self.answer_rooms(&samples, answers)?;
        let lengths: Vec<usize> = samples.iter().map(|sample| sample.tokens.len()).collect();
        let mut losses = Vec::with_capacity(prompts.len());
        for group in groups(&lengths, &rooms, bytes_per_row(self.config())) {
            losses.extend(self.group_losses(
                &samples[group.clone()],
                &rooms[group.clone()],
                &answers[group],
            )?);
        }
        Ok(losses)
    }

    /// Rows that the longest answer to each prompt takes; its last token need not be read. Checks all answers.
    fn answer_rooms(&self, samples: &[Sample], answers: &[Answers]) -> Result<Vec<usize>, GenerateError> {
        let limit = self.config().text.max_position_embeddings;
        let mut rooms = Vec::with_capacity(samples.len());
        for (i, (question, answers)) in samples.iter().zip(answers).enumerate() {
            for (j, answer) in answers.iter().enumerate().filter(|(_, answer)| !answer.is_empty()) {
                let tokens = question.tokens.len() + answer.len();
                if tokens > limit {
                    return Err(GenerateError::TooLong { prompt: i, tokens, limit });
                }
                let text = Prompt { tokens: answer.clone(), images: Vec::new() };
                sample(&text, self.config()).map_err(|source| GenerateError::Answer {
                    prompt: i,
                    answer: j,
                    source,
                })?;
            }
            rooms.push(answers.iter().map(|answer| answer.len().saturating_sub(1)).max().unwrap_or(0));
        }
        Ok(rooms)
    }

    fn group_losses(
        &self,
        samples: &[Sample],
        rooms: &[usize],
        answers: &[Answers],
    ) -> Result<Vec<Vec<Vec<f32>>>, ModelError> {
        let mut cache = self.cache(samples.iter().zip(rooms).map(|(s, room)| s.tokens.len() + room))?;
        let lanes: Vec<usize> = (0..samples.len()).collect();
        let ends = self.prefill(&mut cache, &lanes, samples)?;
        let mut losses: Vec<Vec<Vec<f32>>> =
            answers.iter().map(|answers| vec![Vec::new(); answers.len()]).collect();
        let most = answers.iter().map(Vec::len).max().unwrap_or(0);
        // the j-th answers of all prompts go together
        for j in 0..most {
            let asked: Vec<(usize, &[u32])> = answers
                .iter()
                .enumerate()
                .filter_map(|(i, answers)| Some((i, answers.get(j)?.as_slice())))
                .filter(|(_, answer)| !answer.is_empty())
                .collect();
            for (&(i, _), found) in asked.iter().zip(self.one_answer_each(&mut cache, &ends, &asked)?) {
                if let Some(slot) = losses.get_mut(i).and_then(|losses| losses.get_mut(j)) {
                    *slot = found;
                }
                cache.truncate(i, samples[i].tokens.len());
            }
        }
        Ok(losses)
    }

    /// Losses of one answer to each of some prompts, whose last rows are `ends`.
    fn one_answer_each(
        &self,
        cache: &mut Cache<B>,
        ends: &B::Buffer,
        asked: &[(usize, &[u32])],
    ) -> Result<Vec<Vec<f32>>, ModelError> {
        let rows: Vec<u32> = asked.iter().map(|&(i, _)| i as u32).collect();
        let firsts: Vec<u32> = asked.iter().map(|(_, answer)| answer[0]).collect();
        let mut losses: Vec<Vec<f32>> = if rows.is_empty() {
            Vec::new()
        } else {
            self.model.losses_behind(ends, &rows, &firsts)?.into_iter().map(|loss| vec![loss]).collect()
        };
        let longer: Vec<usize> = (0..asked.len()).filter(|&at| asked[at].1.len() > 1).collect();
        if longer.is_empty() {
            return Ok(losses);
        }
        let text = |&at: &usize| {
            let (_, answer) = asked[at];
            Sample { tokens: answer[..answer.len() - 1].to_vec(), ..Sample::default() }
        };
        let samples: Vec<Sample> = longer.iter().map(text).collect();
        let lanes: Vec<usize> = longer.iter().map(|&at| asked[at].0).collect();
        let hidden = self.extend(cache, &lanes, &samples)?;
        let targets: Vec<u32> = longer.iter().flat_map(|&at| &asked[at].1[1..]).copied().collect();
        let rows: Vec<u32> = (0..targets.len() as u32).collect();
        let mut found = self.model.losses_behind(&hidden, &rows, &targets)?.into_iter();
        for at in longer {
            losses[at].extend(found.by_ref().take(asked[at].1.len() - 1));
        }
        Ok(losses)
    }
}
